"""`dicomcrypt standard wrap` and `unwrap`: Secure DICOM Files."""

from __future__ import annotations

import sys
from typing import Unpack

import click

from . import options as opt
from . import standard_jobs
from . import standard_options as cms

SUFFIX = ".p7m"
_output = click.option("-o", "--output", metavar="FILE|FOLDER", help="Where it goes; of a file by "
                       f"default beside it, with {SUFFIX} added, or without it.")


@click.command(epilog="""\b
Examples:
  dicomcrypt standard wrap ct.dcm -r doctor.pem -o ct.dcm.p7m
  dicomcrypt standard wrap ct.dcm -r doctor.pem --sign-with scanner.p12
  dicomcrypt standard wrap study/ --passphrase-file secret -o safe/
  dicomcrypt standard wrap ct.dcm -r doctor.pem --nested
  openssl cms -decrypt -inform DER -in ct.dcm.p7m -inkey key.pem -recip doctor.pem -binary \\
    -out inner.der && openssl cms -digest_verify -inform DER -in inner.der -binary -out ct.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
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
@_output
@standard_jobs.tree
def wrap(
    inputs: tuple[str, ...], recipients: tuple[str, ...], ask: bool, passphrase_file: str | None,
    sign_with: str | None, sign_passphrase_file: str | None, classic: bool, cipher: str,
    nested: bool, output: str | None, **common: Unpack[standard_jobs.Common],
) -> None:
    """Make Secure DICOM Files (PS3.10 section 7.4, PS3.15 annex D).

    The whole file goes into CMS EnvelopedData around DigestedData, with --sign-with around
    SignedData. Files of any length take little memory. Of a folder every file is taken, DICOM or
    not, but for what is wrapped already.
    """
    from ..standard.changes import Wrapping

    opt.one_use_of_standard_input(inputs, passphrase_file)
    signer = opt.load_signer(sign_with, sign_passphrase_file)
    people = cms.load_cms_recipients(recipients, ask, passphrase_file, classic=classic)
    change = Wrapping(people, signer=signer, cipher=cipher, nested=nested)
    job = [repr((classic, cipher, nested)).encode(), signer.public_key if signer else b"",
           *standard_jobs.certificates(people)]
    sys.exit(standard_jobs.run_changes(
        "wrap", inputs, output, change, job, name=lambda name: name + SUFFIX, action="encrypt",
        **common))


@click.command(epilog="""\b
Examples:
  dicomcrypt standard unwrap ct.dcm.p7m -i key.pem -o ct.dcm
  dicomcrypt standard unwrap ct.dcm.p7m --passphrase-file secret
  dicomcrypt standard unwrap ct.dcm.p7m -i key.pem --signer scanner.pem

\b
Exit status: 3 no key or password fits, 4 damaged, cut short or forged, or a signature is
required and missing, 5 its signer is not taken.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@cms.identity
@opt.signatures
@_output
@standard_jobs.tree
def unwrap(
    inputs: tuple[str, ...], identity_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, require_signature: bool, signers: tuple[str, ...],
    output: str | None, **common: Unpack[standard_jobs.Common],
) -> None:
    """Take Secure DICOM Files apart, BER and DER, ours and others'.

    A file gets its name when its digest or its signatures were verified, and not before. Of a
    folder, what is none of them is left out.
    """
    from ..standard.changes import Unwrapping

    opt.one_use_of_standard_input(inputs, passphrase_file)
    opening = cms.load_opening(identity_files, ask, passphrase_file)
    policy = opt.load_signature_policy(require_signature, signers)
    sys.exit(standard_jobs.run_changes(
        "unwrap", inputs, output, Unwrapping(opening, policy), policy.demands, name=_plain_name,
        action="decrypt", **common))


def _plain_name(path: str) -> str:
    return path[: -len(SUFFIX)] if path.endswith(SUFFIX) else path + ".dcm"
