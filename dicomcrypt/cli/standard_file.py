"""`dicomcrypt standard wrap` and `unwrap`: Secure DICOM Files."""

from __future__ import annotations

import os
import sys

import click

from ..errors import PolicyError
from . import options as opt
from . import standard_options as cms
from .outcome import single
from .targets import pair

SUFFIX = ".p7m"


@click.command(epilog="""\b
Examples:
  dicomcrypt standard wrap ct.dcm -r doctor.pem -o ct.dcm.p7m
  dicomcrypt standard wrap ct.dcm -r doctor.pem --sign-with scanner.p12
  dicomcrypt standard wrap ct.dcm --passphrase-file secret
  dicomcrypt standard wrap ct.dcm -r doctor.pem --nested
  openssl cms -decrypt -inform DER -in ct.dcm.p7m -inkey key.pem -recip doctor.pem -binary \\
    -out inner.der && openssl cms -digest_verify -inform DER -in inner.der -binary -out ct.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option("-r", "--recipient", "recipients", multiple=True, metavar=opt.RECIPIENT,
              help="Certificate of who may read it; repeatable.")
@opt.passphrase
@opt.sign_with
@click.option("--classic", is_flag=True,
              help="RSA PKCS #1 v1.5 instead of OAEP, for readers that know no other.")
@click.option("--cipher", type=click.Choice(["aes-256-cbc", "aes-256-gcm"]),
              default="aes-256-cbc", show_default=True,
              help="CBC is the standard's; GCM (AuthEnvelopedData) authenticates too.")
@click.option("--nested", is_flag=True, help="Put a whole CMS message into the other, as openssl "
              "does, so that it takes it apart; the standard's form has the bare content.")
@click.option("-o", "--output", metavar="FILE|FOLDER",
              help=f"Where it goes; by default beside the input, with {SUFFIX} added.")
@opt.force
@opt.output_style
def wrap(inputs, recipients, ask, passphrase_file, sign_with, sign_passphrase_file, classic,
         cipher, nested, output, force, as_json, quiet, verbose):
    """Make Secure DICOM Files (PS3.10 section 7.4, PS3.15 annex D).

    The whole file goes into CMS EnvelopedData around DigestedData, with --sign-with around
    SignedData. Files of any length take little memory.
    """
    from ..objects.atomic import AtomicFile, default_mode
    from ..regular import open_regular
    from ..standard.secure_file import wrap as wrap_file
    from ..trees.pool import Outcome
    from .console import Report, run

    signer = opt.load_signer(sign_with, sign_passphrase_file)
    people = cms.load_cms_recipients(recipients, ask, passphrase_file, classic=classic)

    def one(path: str, target: str) -> Outcome:
        with open(open_regular(path), "rb") as source, AtomicFile(target, force=force) as file:
            wrap_file(source, file.raw, people, signer=signer, cipher=cipher, nested=nested,
                      progress=report.follow(path))
            file.commit(mode=default_mode())
        return Outcome(path, "done", output=target, bytes_in=os.path.getsize(path),
                       bytes_out=os.path.getsize(target))

    with Report("wrap", as_json=as_json, quiet=quiet, verbose=verbose, action="encrypt") as report:
        for path, target in pair(inputs, output, lambda name: name + SUFFIX, "wrap"):
            run(report, single(path, lambda p=path, t=target: one(p, t)))
    sys.exit(report.exit_status())


@click.command(epilog="""\b
Examples:
  dicomcrypt standard unwrap ct.dcm.p7m -i key.pem -o ct.dcm
  dicomcrypt standard unwrap ct.dcm.p7m --passphrase-file secret
  dicomcrypt standard unwrap ct.dcm.p7m -i key.pem --signer scanner.pem

\b
Exit status: 3 no key or password fits, 4 damaged, cut short or forged, or a signature is
required and missing, 5 its signer is not taken.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@opt.identity
@opt.signatures
@click.option("-o", "--output", metavar="FILE|FOLDER",
              help=f"Where it goes; by default the input's name without {SUFFIX}.")
@opt.force
@opt.output_style
def unwrap(inputs, identity_files, ask, passphrase_file, require_signature, signers, output,
           force, as_json, quiet, verbose):
    """Take Secure DICOM Files apart, BER and DER, ours and others'.

    A file gets its name when its digest or its signatures were verified, and not before.
    """
    from ..objects.atomic import AtomicFile, default_mode
    from ..regular import open_regular
    from ..standard.secure_file import unwrap as unwrap_file
    from ..trees.pool import Outcome
    from .console import Report, run

    opening = cms.load_opening(identity_files, ask, passphrase_file)
    policy = opt.load_signature_policy(require_signature, signers)

    def accepted(signatures: list) -> list[str]:
        """Who signed, of those who are taken; raises unless that is enough."""
        found, refused = [], None
        for signature in signatures:
            try:
                policy.accept(signature)
                found.append(signature.subject)
            except PolicyError as error:
                refused = refused or error
        if refused is not None and not found:
            raise refused
        if not found:
            policy.accept_unsigned()
        return found

    def one(path: str, target: str) -> Outcome:
        with open(open_regular(path), "rb") as source, AtomicFile(target, force=force) as file:
            signatures = unwrap_file(source, file.raw, opening, progress=report.follow(path))
            who = accepted(signatures)
            file.commit(mode=default_mode())
        trust = "checked" if policy.check or policy.signers else "not checked"
        note = f"signed by {'; '.join(who)}, signer {trust}" if who else "digest verified"
        return Outcome(path, "done", output=target, bytes_in=os.path.getsize(path),
                       bytes_out=os.path.getsize(target), message=note,
                       details={"signers": who, "trust": trust if who else None})

    def name(path: str) -> str:
        return path[: -len(SUFFIX)] if path.endswith(SUFFIX) else path + ".dcm"

    with Report("unwrap", as_json=as_json, quiet=quiet, verbose=verbose,
                action="decrypt") as report:
        for path, target in pair(inputs, output, name, "unwrap"):
            run(report, single(path, lambda p=path, t=target: one(p, t)))
    sys.exit(report.exit_status())
