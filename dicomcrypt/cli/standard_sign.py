"""`dicomcrypt standard sign` and `verify`: digital signatures in DICOM files."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

import click

from ..errors import UsageError
from . import options as opt
from . import standard_jobs
from .outcome import single

if TYPE_CHECKING:
    from ..trees.pool import Outcome


def _tag(text: str) -> int:
    """A tag as gggg,eeee or as PS3.6 names it."""
    digits = text.strip("()").replace(",", "")
    if len(digits) == 8 and all(c in "0123456789abcdefABCDEF" for c in digits):
        return int(digits, 16)
    from pydicom.datadict import tag_for_keyword

    found = tag_for_keyword(text)
    if found is None:
        raise UsageError(f"{text!r} is no element: give gggg,eeee or a keyword of PS3.6")
    return int(found)


@click.command(epilog="""\b
Examples:
  dicomcrypt standard sign ct.dcm --sign-with scanner.p12 -o signed.dcm
  dicomcrypt standard sign study/ --sign-with scanner.p12 -o signed/
  dicomcrypt standard sign sr.dcm --sign-with doctor.p12 --profile base -o signed.dcm
  dicomcrypt standard sign ct.dcm --sign-with doctor.p12 --tag PixelData --tag 0008,0018 -o s.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.sign_with
@click.option("--profile", type=click.Choice(["creator", "base"]), default="creator",
              show_default=True, help="creator: all but what archives correct (patient, study, "
              "order); base: everything that can be signed.")
@click.option("--tag", "tags", multiple=True, metavar="TAG",
              help="With the base profile, sign this element only; repeatable.")
@click.option("--mac", type=click.Choice(["sha256", "sha384", "sha512"]), default="sha256",
              show_default=True, help="Digest that is signed.")
@standard_jobs.output
@standard_jobs.tree
def sign(
    inputs: tuple[str, ...], sign_with: str | None, sign_passphrase_file: str | None, profile: str,
    tags: tuple[str, ...], mac: str, output: str, **common: Unpack[standard_jobs.Common],
) -> None:
    """Add a digital signature to DICOM files, by PS3.15 sections C.1 and C.2.

    Nothing else changes. RSA signs by PKCS #1 v1.5, and ECDSA keys sign too. What was there
    before, signatures included, may be signed again by others. Of a folder, what has nothing to
    sign is left out; a job that was broken off goes on when it is given again.
    """
    from ..standard.changes import Signing

    signer = opt.load_signer(sign_with, sign_passphrase_file)
    if signer is None:
        raise UsageError("who signs? give --sign-with FILE")
    numbers = sorted({_tag(text) for text in tags})
    change = Signing(signer, profile="base" if tags else profile, tags=numbers,
                     algorithm=mac.upper())
    job = [repr((profile, numbers, mac)).encode(), signer.public_key]
    sys.exit(standard_jobs.run_changes("sign", inputs, output, change, job, **common))


@click.command(epilog="""\b
Examples:
  dicomcrypt standard verify signed.dcm --trust-root ca.pem
  dicomcrypt standard verify study/ --require-signature --signer scanner.pem
  dicomcrypt standard verify signed.dcm --require-all --json

\b
Exit status: 0 every signature is right, 4 one is not, or one is required and missing,
5 its signer or its algorithm is not taken.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.signatures
@click.option("--require-all", is_flag=True, help="Refuse files with elements that no signature "
              "covers; implies --require-signature.")
@opt.jobs
@opt.shard
@opt.output_style
def verify(
    inputs: tuple[str, ...], require_signature: bool, signers: tuple[str, ...], require_all: bool,
    jobs: int | None, shard: tuple[int, int] | None, as_json: bool, quiet: bool, verbose: bool,
) -> None:
    """Verify the digital signatures in DICOM files, and show what they do not cover.

    What was added to a signed file shows up as not covered; of a folder, --verbose names it. File
    meta information is never covered. A file without any signature passes, unless
    --require-signature is given: then a link, or what is no DICOM file, fails as well.
    """
    from ..standard.verifying import verify_file, verify_tree
    from ..trees.pool import default_jobs
    from .console import Report, complain, run

    policy = opt.load_signature_policy(require_signature or require_all, signers)
    people = not as_json and not quiet
    unsigned = uncovered = 0

    def shown(outcomes: Iterator[Outcome], always: bool) -> Iterator[Outcome]:
        nonlocal unsigned, uncovered
        for outcome in outcomes:
            if outcome.state == "done":
                facts = outcome.details
                unsigned += not facts["signatures"]
                uncovered += bool(facts["signatures"]) and (
                    len(facts["not_covered"]) > facts["archives_correct"])
                if people and (always or verbose):
                    _show(outcome.path, **facts)
            yield outcome

    with Report("verify", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for path in inputs:
            if os.path.isdir(path):
                found = verify_tree(path, policy, jobs or default_jobs(), shard=shard,
                                    require_all=require_all, watch=report.watch)
            else:
                found = single(path, functools.partial(verify_file, path, policy,
                                                      require_all=require_all))
            run(report, shown(found, not os.path.isdir(path)))
    if people and any(map(os.path.isdir, inputs)):
        if unsigned:
            complain(f"{unsigned} files are not signed")
        if uncovered:
            complain(f"{uncovered} signed files have elements that no signature covers, beside "
                     "those that archives may correct: --verbose names them, --require-all "
                     "refuses them")
    sys.exit(report.exit_status(expect_some=True))


def _show(
    path: str, signatures: list[dict[str, Any]], not_covered: list[str], archives_correct: int
) -> None:
    from .console import complain

    if not signatures:
        complain(f"{path}: not signed")
        return
    for told in signatures:
        place = f" of {told['place']}" if told["place"] else ""
        complain(f"{path}: signature{place} by {told['signer']} at {told['time']}, "
                 f"{told['elements']} elements, {told['algorithm']}; signer {told['trust']}")
    if archives_correct:
        complain(f"{path}: not covered, as archives may correct it: {archives_correct} elements of "
                 "patient, study and order")
    others = not_covered[: len(not_covered) - archives_correct]
    if others:
        more = f" and {len(others) - 20} more" if len(others) > 20 else ""
        complain(f"{path}: not covered: {', '.join(others[:20])}{more}")
    if not not_covered:
        complain(f"{path}: all is covered")
