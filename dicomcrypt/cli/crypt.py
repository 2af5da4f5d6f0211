"""`dicomcrypt encrypt` and `decrypt`, for files, trees and pipes."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import auditing, cluster, outputs
from . import options as opt
from .outcome import single
from .pipes import decrypt_pipe, encrypt_pipe
from .targets import pair

if TYPE_CHECKING:
    from ..container.stanza import Identity, Recipient
    from ..trees.pool import Outcome


@click.command(epilog="""\b
Examples:
  dicomcrypt encrypt ct.dcm -r doctor.pub                      makes ct.dcm.dcmx
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/           a whole tree
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/ --names encrypted
  dicomcrypt encrypt ct.dcm -p                                 with a passphrase
  dicomcrypt encrypt us.dcm -r doctor.pub --tags-to index.pub --pixels-to study.pub
  dicomcrypt encrypt ct.dcm -r doctor.crt                      with a certificate
  dicomcrypt encrypt ct.dcm -r @radiology                      a group of the configuration
  dicomcrypt encrypt ct.dcm -r team.txt#ct                     a group of a recipient file
  dicomcrypt encrypt ct.dcm -r someone@hospital.example        looked up in directories
  dicomcrypt encrypt ct.dcm --card                             to the card in the reader
  dicomcrypt encrypt ct.dcm -r doctor.pub --sign-with hospital.p12
  dicomcrypt encrypt ct.dcm -r doctor.pub --sign-card          signed by the card in the reader
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/ --engine dask --scheduler tcp://head:8786
  cat ct.dcm | dicomcrypt encrypt - -r doctor.pub > ct.dcmx

\b
A recipient is a .pub file, a certificate or public key (PEM, DER, PKCS #12), FILE#GROUP or
@GROUP, or an e-mail address. A recipient file has a key a line, and may have the lines
  file OTHER.pub       whoever is in that file, which lies beside this one
  email ADDRESS        whose certificates the directories have
  group NAME           here a group begins, up to the next such line
Without any, [recipients] default of the configuration says who it is. docs/keys.md tells more.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@click.option("-r", "--recipient", "recipients", multiple=True, metavar=opt.RECIPIENT,
              help="Who may read it (see below); repeatable.")
@opt.card_recipient
@click.option("--tags-to", multiple=True, metavar=opt.RECIPIENT,
              help="Who may read the tags only.")
@click.option("--pixels-to", multiple=True, metavar=opt.RECIPIENT,
              help="Who may read the pixel data only.")
@click.option("--recovery", multiple=True, metavar=opt.RECIPIENT,
              help="Who may read it when other keys are lost, beside [recipients] recovery of the "
              "configuration; repeatable.")
@click.option("--no-recovery", is_flag=True, help="Without recovery recipients, and no warning.")
@opt.passphrase
@click.option("-o", "--output", metavar="FILE|FOLDER|-",
              help="Where it goes; by default beside the input, with .dcmx added.")
@click.option("--method", type=click.Choice(opt.METHODS), default="randomized",
              show_default=True, help="Block layer below the authenticated encryption.")
@click.option("--names", type=click.Choice(["keep", "encrypted"]), default="keep",
              show_default=True,
              help="File and folder names of a tree. Names may tell patients.")
@click.option("--links", type=click.Choice(["keep", "follow", "skip"]), default="keep",
              show_default=True, help="Symbolic links in a tree; follow: those to files.")
@click.option("--resume", is_flag=True,
              help="Leave out what was encrypted before, by other jobs too.")
@click.option("--verify", is_flag=True,
              help="Read every object back from the medium and compare it with its source.")
@click.option("--delete-source", is_flag=True,
              help="Remove sources whose objects are verified and on the medium (with --verify).")
@click.option("--force-scopes", is_flag=True,
              help="Give --tags-to and --pixels-to also files of which they can read nothing.")
@opt.sign_with
@opt.sign_card
@opt.pin
@opt.kdf
@opt.classical
@opt.jobs
@opt.shard
@opt.engine
@opt.shards
@opt.journal
@opt.no_sync
@opt.dry_run
@opt.force
@opt.output_style
def encrypt(
    inputs: tuple[str, ...], recipients: tuple[str, ...], tags_to: tuple[str, ...],
    pixels_to: tuple[str, ...], recovery: tuple[str, ...], no_recovery: bool, ask: bool,
    passphrase_file: str | None, output: str | None, method: str, names: str, links: str,
    resume: bool, verify: bool, delete_source: bool, force_scopes: bool, sign_with: str | None,
    sign_passphrase_file: str | None, kdf: str, allow_classical: bool, allow_mixed: bool,
    jobs: int | None, shard: tuple[int, int] | None, journal: str | None, no_sync: bool,
    dry_run: bool, force: bool, as_json: bool, quiet: bool, verbose: bool,
) -> None:
    """Encrypt files, or whole folders.

    Any file is taken, DICOM or not. Originals stay as they are. Files that are DCMX objects
    already are skipped and named. Under --names encrypted all objects lie in one folder, and empty
    folders, folder modes and times are not kept.

    A folder's job that was interrupted or killed goes on where its last checkpoint was when the
    same command is given again.
    """
    from ..ciphers.transform import method_number
    from ..keys.batch import Envelope, scoped_recipients
    from ..keys.passphrase import Passphrase
    from ..keys.references import each_once
    from ..objects.files import SUFFIX, encrypt_path, encrypted_before
    from ..trees.pool import Outcome, default_jobs
    from ..trees.tree import EncryptOptions, encrypt_tree, is_object, plan_encryption
    from .console import Report, run

    if resume and names == "encrypted":
        raise UsageError("--resume cannot tell which files are done under encrypted names; a job "
                         "that was broken off goes on without it")
    if delete_source and (not verify or no_sync):
        raise UsageError("--delete-source needs --verify, and cannot stand with --no-sync")
    remote = cluster.wanted(inputs, jobs=jobs, shard=shard, journal=journal)
    opt.one_use_of_standard_input(inputs, passphrase_file)
    told = not as_json and not quiet
    by_passphrase = ask or passphrase_file is not None
    if not (recipients or tags_to or pixels_to or by_passphrase or opt.card_wanted()):
        recipients = default_recipients(told)
    everybody = opt.load_recipient_files(recipients)
    if opt.card_wanted():
        from .card_options import load_recipient

        everybody.append(load_recipient())
    spare = recovery_recipients(recovery, no_recovery)
    if spare and by_passphrase and not allow_mixed:
        raise UsageError("a passphrase beside recovery recipients: a guess would open the object "
                         "for all of them; give --allow-mixed if that is meant, or --no-recovery")
    everybody = each_once(everybody + spare)
    if by_passphrase:
        passphrase = opt.needed_passphrase(ask, passphrase_file, confirm=True)
        everybody.append(Passphrase(passphrase, kdf=kdf))
    signer = opt.load_signer(sign_with, sign_passphrase_file)
    targets = pair(inputs, output, lambda path: path + SUFFIX, "encrypt", make=not dry_run)
    whole_tree = len(targets) > 1 or os.path.isdir(targets[0][0])
    scoped = scoped_recipients(everybody, opt.load_recipient_files(tags_to),
                               opt.load_recipient_files(pixels_to))
    envelope = Envelope(
        scoped, batch=whole_tree, allow_classical=allow_classical, allow_mixed=allow_mixed,
    )  # fmt: skip
    warnings = [] if spare or no_recovery or "-" in inputs else recovery_warnings(told)
    number = method_number(method)
    if "-" in targets[0]:
        with auditing.job("encrypt", targets[0][1]):
            encrypt_pipe(*targets[0], envelope, number, force=force, force_scopes=force_scopes,
                         signer=signer)
        return
    settings = EncryptOptions(number, names, links, force, resume, force_scopes, verify,
                              delete_source, not no_sync, signer)

    def one(source: str, target: str) -> Outcome:
        if is_object(source):
            return Outcome(source, "skipped", message="a DCMX object already")
        if resume and encrypted_before(source, target, envelope, signed=signer is not None):
            return Outcome(source, "skipped", message="encrypted before")
        if dry_run:
            return planned(source, target, force)
        base = os.path.basename(source)
        name = None if os.path.basename(target) == base + SUFFIX else os.fsencode(base)
        before = os.stat(source)
        read, size, verified = encrypt_path(
            source, target, envelope, number, name=name, force=force, force_scopes=force_scopes,
            verify=verify, progress=report.follow(source), signer=signer,
        )  # fmt: skip
        outcome = Outcome(source, "done", target, read, size,
                          details={"verified": verified} if verified else None)
        if delete_source:
            remove_source(outcome, before)
        return outcome

    several = len(targets) > 1
    if several and journal is not None:
        raise UsageError("--journal is for one tree: each has a journal of its own")
    with Report("encrypt", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        report.warnings += warnings
        if remote and not dry_run:
            from ..cluster.jobs import EncryptShards

            cluster.run_trees(report, [
                EncryptShards(os.path.abspath(source), os.path.abspath(target), scoped,
                              allow_classical, allow_mixed, settings)
                for source, target in targets
            ])  # fmt: skip
            sys.exit(report.exit_status())
        for source, target in targets:
            if not os.path.isdir(source):
                run(report, single(source, functools.partial(one, source, target)))
            elif dry_run:
                run(report, plan_encryption(source, target, settings, shard=shard))
            else:
                run(report, encrypt_tree(source, target, envelope, settings,
                                         jobs or default_jobs(), shard=shard, journal=journal,
                                         keep_journal=several, watch=report.watch))
    if several and not dry_run and not report.exit_status():
        remove_journals(targets, shard, journal)
    sys.exit(report.exit_status())


def default_recipients(told: bool) -> tuple[str, ...]:
    """Who is meant when nobody is named: `[recipients] default` of the configuration."""
    from .. import config
    from .console import say

    found = opt.configured_recipients("default")
    if found and told:
        names = ", ".join(os.path.basename(name) for name in found)
        say(f"no recipient given: {names}, by [recipients] default of {config.config_path()}")
    return tuple(found)


def recovery_recipients(given: tuple[str, ...], without: bool) -> list[Recipient]:
    """Who may read everything when other keys are lost."""
    if without:
        if given:
            raise UsageError("--recovery and --no-recovery: give one of them")
        return []
    return opt.load_recipient_files([*opt.configured_recipients("recovery"), *given])


def recovery_warnings(told: bool) -> list[str]:
    """Say that nobody could help if a key were lost, unless the configuration knows."""
    from .. import config
    from .console import complain

    if not config.flag("recipients", "warn_recovery", True):
        return []
    warning = ("no recovery recipient is set: a lost key is the end of the data (see "
               "docs/operations.md); --recovery sets one, warn_recovery = false under [recipients] "
               "in the configuration silences this")
    if told:
        complain(warning)
    return [warning]


def remove_journals(
    targets: Sequence[tuple[str, str]], shard: tuple[int, int] | None, journal: str | None
) -> None:
    """A job of several trees is done: until then each tree's journal says that it is."""
    from ..trees.journal import place

    for source, target in targets:
        if os.path.isdir(source):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place(target, shard, journal))


def planned(source: str, target: str, force: bool) -> Outcome:
    """What a dry run says of one file."""
    from ..regular import check_not_kept
    from ..trees.pool import Outcome

    outputs.not_there(target, force)
    check_not_kept(target)
    return Outcome(source, "planned", target, os.path.getsize(source))


def remove_source(outcome: Outcome, before: os.stat_result) -> None:
    """Remove the source of a verified object, if it is still what was encrypted."""
    from ..objects.atomic import sync_folders
    from ..objects.files import file_identity

    sync_folders([os.path.dirname(os.path.abspath(outcome.output or ""))])
    try:
        if file_identity(os.lstat(outcome.path)) != file_identity(before):
            outcome.details["source_kept"] = "changed since it was encrypted"
        else:
            os.unlink(outcome.path)
            outcome.details["deleted"] = True
    except OSError as error:
        outcome.details["source_kept"] = (error.strerror or str(error)).lower()


@click.command(epilog="""\b
Examples:
  dicomcrypt decrypt ct.dcm.dcmx -i doctor.key -o ct.dcm
  dicomcrypt decrypt safe/ -i doctor.key -o back/       names, modes and times come back
  dicomcrypt decrypt ct.dcm.dcmx -i doctor.key -o - | dcmdump -
  dicomcrypt decrypt safe/ --card -o back/              with card and PIN, asked once
  dicomcrypt decrypt ct.dcm.dcmx -i index.key --part tags -o ct.tags
  dicomcrypt decrypt ct.dcm.dcmx -i doctor.key --signer hospital.pem -o ct.dcm
  dicomcrypt decrypt bad.dcmx -i doctor.key --salvage -o rescued.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@opt.identity
@click.option("-o", "--output", metavar="FILE|FOLDER|-",
              help="Where it goes; by default beside the input, without .dcmx.")
@click.option("--part", type=click.Choice(["all", "tags", "pixels"]), default="all",
              show_default=True, help="For identities that open only that.")
@click.option("--salvage", is_flag=True,
              help="Rescue what authenticates in a damaged object whose end is there; zeros "
              "for the rest.")
@opt.signatures
@click.option("--unsafe-links", is_flag=True, help="Restore links that point out of the tree.")
@click.option("--resume", is_flag=True,
              help="Leave out what was decrypted before, by other jobs too.")
@opt.jobs
@opt.shard
@opt.journal
@opt.no_sync
@opt.force
@opt.output_style
def decrypt(
    inputs: tuple[str, ...], identity_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, output: str | None, part: str, salvage: bool,
    require_signature: bool, signers: tuple[str, ...], unsafe_links: bool, resume: bool,
    jobs: int | None, shard: tuple[int, int] | None, journal: str | None, no_sync: bool,
    force: bool, as_json: bool, quiet: bool, verbose: bool,
) -> None:
    """Decrypt objects, or whole folders of them.

    A file appears under its name when its last byte was verified, or not at all. A signature that
    is there is verified, always; --json says who signed. A folder's job that was interrupted or
    killed goes on when the same command is given again.
    """
    from ..objects.files import SUFFIX
    from ..trees.pool import Outcome, default_jobs
    from ..trees.tree import DecryptOptions, decrypt_tree
    from .console import Report, run

    opt.one_use_of_standard_input(inputs, passphrase_file)
    identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    policy = opt.load_signature_policy(require_signature, signers)

    def default_name(path: str) -> str:
        if not path.endswith(SUFFIX):
            raise UsageError(f"{path!r} does not end in {SUFFIX}: give --output")
        return path[: -len(SUFFIX)]

    targets = pair(inputs, output, default_name, "decrypt")
    if salvage:
        if len(targets) > 1 or output is None or "-" in targets[0] or os.path.isdir(inputs[0]):
            raise UsageError("--salvage takes one object and --output FILE")
        if policy.demands:
            raise UsageError("--salvage gives out what is damaged: it cannot stand with a demand "
                             "for a signature")
        with auditing.job("salvage", targets[0][0]):
            _salvage(*targets[0], identities, force, as_json, quiet)
        return
    if "-" in targets[0]:
        with auditing.job("decrypt", targets[0][0]):
            decrypt_pipe(*targets[0], identities, part, policy, force=force)
        return
    settings = DecryptOptions(part, force, resume, unsafe_links, not no_sync, policy)

    def one(source: str, target: str) -> Outcome:
        from ..objects.files import decrypted_before, object_meta, open_path, write_plain

        opened, file = open_path(source, identities, policy=policy)
        with contextlib.closing(file):
            if resume and os.path.lexists(target) and part == "all" and \
                    decrypted_before(target, object_meta(opened)[0]):
                return Outcome(source, "skipped", message="decrypted before")
            size = write_plain(opened, target, part=part, force=force,
                               progress=report.follow(source))
        signature = policy.facts(opened)
        return Outcome(source, "done", target, os.path.getsize(source), size,
                       details={"signature": signature} if signature else None)

    several = len(targets) > 1
    if several and journal is not None:
        raise UsageError("--journal is for one tree: each has a journal of its own")
    with Report("decrypt", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for source, target in targets:
            if os.path.isdir(source):
                run(report, decrypt_tree(source, target, identities, settings,
                                         jobs or default_jobs(), shard=shard, journal=journal,
                                         keep_journal=several, watch=report.watch))
            else:
                run(report, single(source, functools.partial(one, source, target)))
    if several and not report.exit_status():
        remove_journals(targets, shard, journal)
    sys.exit(report.exit_status())


def _salvage(
    source: str, target: str, identities: Sequence[Identity], force: bool, as_json: bool,
    quiet: bool,
) -> None:
    from ..objects.salvage import salvage_path
    from .console import complain, print_json

    report = salvage_path(source, target, identities, force=force)
    if as_json:
        print_json(report)
    elif not quiet:
        for entry in report["streams"]:
            click.echo(f"{entry['stream']}: {entry['state']}", err=True)
        for entry in report["lost"]:
            click.echo(f"lost: {entry['stream']} bytes {entry['start']} to {entry['end']}",
                       err=True)
    signature = report.get("signature")
    if signature is not None and not as_json and not quiet:
        click.echo(f"signature: {signature['state']}"
                   + (f", by {signature['signer']}" if "signer" in signature else ""), err=True)
    whole = not report["lost"] and not {"header", "index", "trailer"} & set(report)
    if whole and signature is not None and signature["state"] != "valid":
        complain(f"{source!r}: what came out is not what was signed: {signature['reason']}")
        sys.exit(4)
    if not whole:
        complain(f"{source!r} is damaged: {report['lost_bytes']} of {report['bytes']} bytes in "
                 f"{target!r} are lost, and zero")
        sys.exit(4)
