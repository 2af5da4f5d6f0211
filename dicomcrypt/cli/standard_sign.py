"""`dicomcrypt standard sign` and `verify`: digital signatures in DICOM files."""

from __future__ import annotations

import os
import sys

import click

from ..errors import DamagedError, PolicyError, UsageError
from . import options as opt
from .outcome import single
from .targets import pair


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
  dicomcrypt standard sign study/*.dcm --sign-with scanner.p12 -o signed/
  dicomcrypt standard sign sr.dcm --sign-with doctor.p12 --profile base -o signed.dcm
  dicomcrypt standard sign ct.dcm --sign-with doctor.p12 --tag PixelData --tag 0008,0018 -o s.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@opt.sign_with
@click.option("--profile", type=click.Choice(["creator", "base"]), default="creator",
              show_default=True, help="creator: all but what archives correct (patient, study, "
              "order); base: everything that can be signed.")
@click.option("--tag", "tags", multiple=True, metavar="TAG",
              help="With the base profile, sign this element only; repeatable.")
@click.option("--mac", type=click.Choice(["sha256", "sha384", "sha512"]), default="sha256",
              show_default=True, help="Digest that is signed.")
@click.option("-o", "--output", required=True, metavar="FILE|FOLDER", help="Where it goes.")
@opt.force
@opt.output_style
def sign(inputs, sign_with, sign_passphrase_file, profile, tags, mac, output, force, as_json,
         quiet, verbose):
    """Add a digital signature to DICOM files, by PS3.15 sections C.1 and C.2.

    Nothing else changes. RSA signs by PKCS #1 v1.5, and ECDSA keys sign too. What was there
    before, signatures included, may be signed again by others.
    """
    from ..objects.atomic import AtomicFile, default_mode
    from ..regular import open_regular
    from ..standard.signing import sign as sign_file
    from ..trees.pool import Outcome
    from .console import Report, run

    signer = opt.load_signer(sign_with, sign_passphrase_file)
    if signer is None:
        raise UsageError("who signs? give --sign-with FILE")
    numbers = [_tag(text) for text in tags]
    if tags:
        profile = "base"

    def one(path: str, target: str) -> Outcome:
        with open(open_regular(path), "rb") as source, AtomicFile(target, force=force) as file:
            with open(file.descriptor, "r+b", buffering=1 << 18, closefd=False) as buffered:
                signed = sign_file(source, buffered, signer, profile=profile, tags=numbers,
                                   algorithm=mac.upper())
            file.commit(mode=default_mode())
        return Outcome(path, "done", output=target, bytes_in=os.path.getsize(path),
                       bytes_out=os.path.getsize(target), details={"elements": len(signed)},
                       message=f"{len(signed)} elements signed")  # fmt: skip

    with Report("sign", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for path, target in pair(inputs, output, lambda name: name, "sign"):
            run(report, single(path, lambda p=path, t=target: one(p, t)))
    sys.exit(report.exit_status())


@click.command(epilog="""\b
Examples:
  dicomcrypt standard verify signed.dcm --trust-root ca.pem
  dicomcrypt standard verify study/*.dcm --require-signature --signer scanner.pem
  dicomcrypt standard verify signed.dcm --require-all --json

\b
Exit status: 0 every signature is right, 4 one is not, or one is required and missing,
5 its signer or its algorithm is not taken.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@opt.signatures
@click.option("--require-all", is_flag=True, help="Refuse files with elements that no signature "
              "covers; implies --require-signature.")
@opt.output_style
def verify(inputs, require_signature, signers, require_all, as_json, quiet, verbose):
    """Verify the digital signatures in DICOM files, and show what they do not cover.

    What was added to a signed file shows up as not covered. File meta information is never
    covered. A file without any signature passes, unless --require-signature is given.
    """
    from ..regular import open_regular
    from ..standard import signatures
    from ..standard.signing import archives_correct
    from ..trees.pool import Outcome
    from .console import Report, complain, run

    policy = opt.load_signature_policy(require_signature or require_all, signers)

    def one(path: str) -> Outcome:
        with open(open_regular(path), "rb") as file:
            found = signatures.verify(file)
        accepted, refused = [], None
        facts = []
        for signature in found.signatures:
            told = {**signature.facts(), "trust": "not checked"}
            try:
                policy.accept(signature)
                accepted.append(signature)
                if policy.check or policy.signers:
                    told["trust"] = "checked"
            except PolicyError as error:
                refused = refused or error
                told["trust"] = f"refused: {error}"
            facts.append(told)
        if not any(not one.place for one in accepted):
            if refused is not None:
                raise refused
            policy.accept_unsigned()
        left = found.unsigned(accepted)
        unsigned = signatures.unsigned_names(left)
        if require_all and unsigned:
            raise DamagedError(f"no signature covers {len(unsigned)} elements, such as "
                               f"{unsigned[0]}")
        if not as_json and not quiet:
            _show(path, facts, left)
        note = f"{len(accepted)} signatures" if facts else "not signed"
        return Outcome(path, "done", bytes_in=os.path.getsize(path), message=note,
                       details={"signatures": facts, "not_covered": unsigned})

    def _show(path: str, facts: list, left: list) -> None:
        if not facts:
            complain(f"{path}: not signed")
            return
        for told in facts:
            place = f" of {told['place']}" if told["place"] else ""
            complain(f"{path}: signature{place} by {told['signer']} at {told['time']}, "
                     f"{told['elements']} elements, {told['algorithm']}; signer {told['trust']}")
        usual = [one for one in left if isinstance(one, int) and archives_correct(one)]
        others = signatures.unsigned_names([one for one in left if one not in usual])
        if usual:
            complain(f"{path}: not covered, as archives may correct it: {len(usual)} elements of "
                     "patient, study and order")
        if others:
            more = f" and {len(others) - 20} more" if len(others) > 20 else ""
            complain(f"{path}: not covered: {', '.join(others[:20])}{more}")
        if not left:
            complain(f"{path}: all is covered")

    with Report("verify", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for path in inputs:
            run(report, single(path, lambda p=path: one(p)))
    sys.exit(report.exit_status())
