"""`standard protect` and `standard reveal`: attribute confidentiality (PS3.15 E)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Unpack

import click

from ..errors import UsageError
from . import options as opt
from . import standard_jobs
from . import standard_options as cms
from .standard_jobs import certificates, run_changes


@click.command(epilog="""\b
Examples:
  dicomcrypt standard protect ct.dcm -r doctor.pem -o shared.dcm
  dicomcrypt standard protect study/ -r doctor.pem -r trial.pem -o shared/ --names uid
  dicomcrypt standard protect study/ -r doctor.pem --retain dates --retain devices -o shared/
  dicomcrypt standard protect 2026/ -r doctor.pem --uid-key hospital.uid-key -o shared/
  dicomcrypt standard protect old/ -r doctor.pem --classic --cipher aes-256-cbc -o shared/
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@standard_jobs.output
@cms.recipients
@click.option("--retain", type=click.Choice(["dates", "devices", "institution", "patient", "uids"]),
              multiple=True, help="Leave that as it is, by the profile's option of the name; "
              "repeatable.")
@click.option("--clean", type=click.Choice(["descriptors"]), multiple=True,
              help="Keep the words of descriptions that the standard's vocabulary has.")
@click.option("--uid-key", metavar="FILE", help="Secret by which UIDs are replaced: the same ones "
              "in every job that has it. Made if it is not there; without it one a job.")
@click.option("--burned-in", is_flag=True,
              help="Take images that say that identifying text is in their pixels; it stays there.")
@click.option("--names", type=click.Choice(["keep", "uid"]), default="keep", show_default=True,
              help="Names of a tree's outputs: the input's, which may identify, or new UIDs.")
@standard_jobs.tree
def protect(
    inputs: tuple[str, ...], output: str, recipient_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, classic: bool, cipher: str, retain: tuple[str, ...],
    clean: tuple[str, ...], uid_key: str | None, burned_in: bool, names: str,
    **common: Unpack[standard_jobs.Common],
) -> None:
    """Encrypt what identifies a person inside of DICOM files, which stay DICOM files.

    Identifying elements, private ones among them, go into the Encrypted Attributes Sequence
    (PS3.15 E) for the recipients, the rest stays in clear, UIDs are replaced alike in all files.
    A file that is not wholly understood is refused. Pixels are not encrypted: `encrypt` and
    `standard wrap` do that.
    """
    from ..standard.changes import Protecting
    from ..standard.profile import Profile
    from ..standard.protect import Protector
    from ..standard.uids import UidMap

    opt.one_use_of_standard_input(inputs, passphrase_file)
    recipients = cms.load_cms_recipients(recipient_files, ask, passphrase_file, classic=classic)
    profile = Profile(frozenset(retain), frozenset(clean))
    trees = any(map(os.path.isdir, inputs))
    with _uid_key(uid_key, output if trees else None, common["shard"]) as (key, keep):
        protector = Protector(profile, UidMap(key), recipients, cipher, burned_in=burned_in)
        job = [repr((profile.options, cipher, classic, burned_in)).encode(),
               *certificates(recipients)]
        status = run_changes("protect", inputs, output, Protecting(protector), job, names=names,
                             **common)
        keep[0] = status != 0
    sys.exit(status)


@click.command(epilog="""\b
Examples:
  dicomcrypt standard reveal shared.dcm -i doctor-key.pem -o ct.dcm
  dicomcrypt standard reveal shared/ -i doctor.p12 -o back/
  dicomcrypt standard reveal shared/ --passphrase-file secret.txt -o back/
  dicomcrypt standard reveal shared/ --card -o back/
  dicomcrypt standard reveal shared/ -i 'pkcs11:token=ward;object=p256' -o back/
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@standard_jobs.output
@cms.identity
@standard_jobs.tree
def reveal(
    inputs: tuple[str, ...], output: str, identity_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, **common: Unpack[standard_jobs.Common],
) -> None:
    """Put encrypted attributes back, of whatever program they are.

    What `standard protect` made and nobody changed comes back byte for byte; what else has
    encrypted attributes gets these back.
    """
    from ..standard.changes import Revealing

    opt.one_use_of_standard_input(inputs, passphrase_file)
    opening = cms.load_opening(identity_files, ask, passphrase_file)
    if cms.stays_here(opening):
        common["jobs"] = 1
    sys.exit(run_changes("reveal", inputs, output, Revealing(opening), [], **common))


@contextlib.contextmanager
def _uid_key(
    path: str | None, tree: str | None, shard: tuple[int, int] | None
) -> Iterator[tuple[bytes, list[bool]]]:
    """The secret for UIDs, and a list whose first says whether it is to be kept.

    A job on a tree keeps its own beside the output until it is done, so that a job which goes on
    gives the same UIDs."""
    from ..standard.uids import load_key, new_key

    keep = [True]
    if path is not None:
        yield load_key(path), keep
    elif tree is None:
        yield new_key(), keep
    elif shard is not None:
        raise UsageError("several jobs share one tree: give all of them the same --uid-key FILE")
    else:
        own = os.path.normpath(tree) + ".uid-key"
        yield load_key(own), keep
        if not keep[0]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(own)
