"""`dicomcrypt vault hold|retention|erase|merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import click

from ..errors import UsageError
from . import auditing
from . import options as opt
from .console import on_terminal
from .vault import Unlocking, about, open_vault, unlocking
from .vault_backups import copies, day, moment

if TYPE_CHECKING:
    from ..vault.erasing import Erasure
    from ..vault.vault import Vault

whose = opt.shared(
    click.option("--patient", metavar="ID", help="Patient ID of the record."),
    click.option("--issuer", metavar="NAME", help="Issuer of the patient ID, '' for none."),
    click.option("--study", metavar="UID", help="A study of the record."),
    click.option("--record", metavar="HEX", help="Id of one of the record's keys."),
)  # fmt: skip


def the_record(
    vault: Vault, patient: str | None, issuer: str | None, study: str | None, record: str | None
) -> list[bytes]:
    """Return the ids of the keys of the record that the options `whose` name."""
    from ..vault.selecting import find_record

    try:
        key_id = bytes.fromhex(record) if record is not None else None
    except ValueError:
        raise UsageError("--record is a record key's id, in hexadecimal") from None
    return find_record(vault, patient=patient, issuer=issuer, study=study, key_id=key_id)


def tell_ended(vault: Vault) -> None:
    """Say which erasures of earlier commands were ended, and put them into the audit log."""
    from .console import say

    for done in vault.ended:
        with auditing.job(**about("erase", vault)) as facts:
            facts |= proof(done)
        say(f"an erasure that was cut short was ended: {done.objects} objects"
            + (f", of which {len(done.left)} could not be deleted" if done.left else ""))


def proof(done: Erasure) -> dict[str, Any]:
    """What the audit log has of an erasure."""
    from ..audit.vocabulary import MAX_OBJECTS

    return {"objects": [r.hex() for r in done.records[:MAX_OBJECTS]], "done": done.objects,
            "number": len(done.records), "erasure": done.id.hex()}


# ---- hold, retention -----------------------------------------------------------


@click.command(epilog="""\b
Examples:
  dicomcrypt vault hold safe/ -i doctor.key --patient 4711 --reason court-2031
  dicomcrypt vault hold safe/ -i doctor.key --patient 4711 --off --reason court-2031
  dicomcrypt vault hold safe/ -i doctor.key
""")
@unlocking
@whose
@click.option("--off", is_flag=True, help="Take the hold away.")
@click.option("--reason", metavar="CODE", help="Why: a code of letters, digits, . _ and -.")
@opt.as_json
@opt.hushed
def hold(
    folder: str, patient: str | None, issuer: str | None, study: str | None, record: str | None,
    off: bool, reason: str | None, as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Keep a record from being erased, or list what is held.

    A record is held as a whole: with --study, the record in which that study lies.
    """
    from ..vault import holds
    from .console import print_json, print_table, say

    with open_vault(folder, how) as vault:
        if not (patient or study or record):
            if off or reason:
                raise UsageError("whose record? give --patient, --study or --record, and --reason")
            found = [{"record": h.record.hex(), "reason": h.reason, "since": day(h.since / 1e9)}
                     for h in holds.holds(vault.keys)]
            if as_json:
                print_json(found)
            else:
                print_table([list(h.values()) for h in found], ("record", "reason", "since"))
            return
        if reason is None:
            raise UsageError("give the reason's code with --reason")
        keys = the_record(vault, patient, issuer, study, record)
        with auditing.job(**about("release" if off else "hold", vault)) as facts:
            facts["objects"] = [key.hex() for key in keys[:1]]
            (holds.release if off else holds.hold)(vault, keys, reason)
        if as_json:
            print_json({"record": keys[0].hex(), "reason": reason, "held": not off})
        else:
            say(f"record {keys[0].hex()}: {'not held' if off else 'held'} ({reason})")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault retention safe/ -i doctor.key --default 10y
  dicomcrypt vault retention safe/ -i doctor.key --patient 4711 2055-12-31
  dicomcrypt vault retention safe/ -i doctor.key --patient 4711 --off
""")
@unlocking
@click.argument("until", required=False)
@whose
@click.option("--default", "default", metavar="DURATION",
              help="Keep every record so long (90d, 6m, 10y; 0: not at all).")
@click.option("--off", is_flag=True, help="The default counts for this record again.")
@opt.as_json
@opt.hushed
def retention(
    folder: str, until: str | None, patient: str | None, issuer: str | None, study: str | None,
    record: str | None, default: str | None, off: bool, as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Say how long records are kept at least: UNTIL a date or for a duration from now.

    The default counts from a record's latest study, or from when it was added if no study has a
    date. A record's own time counts instead of the default. Without anything, it is shown.
    """
    from ..vault import holds
    from .console import print_json, say

    given = bool(patient or study or record)
    if default is not None and (given or until or off):
        raise UsageError("--default counts for all records: give it alone")
    if given != bool(until or off) or (until and off):
        raise UsageError("give a record, and until when it is kept (or --off)")
    with open_vault(folder, how) as vault:
        if default is not None:
            with auditing.job(**about("retention", vault)):
                holds.set_default(vault.keys, 0 if default == "0" else holds.parse_span(default))
        elif given:
            keys = the_record(vault, patient, issuer, study, record)
            with auditing.job(**about("retention", vault)) as facts:
                facts["objects"] = [keys[0].hex()]
                holds.set_retention(vault.keys, keys, holds.parse_until(until) if until else None)
        own = holds.retentions(vault.keys)
        seconds = holds.default_retention(vault.keys)
    facts = {"default_days": round(seconds / 86400),
             "records": {key.hex(): holds.last_day(time) for key, time in own.items()}}
    if as_json:
        print_json(facts)
        return
    say(f"default: {facts['default_days']} days" if seconds else "no default")
    for key, date in facts["records"].items():
        say(f"record {key}: until {date}")


# ---- erase, merge ----------------------------------------------------------------


@click.command(epilog="""\b
Examples:
  dicomcrypt vault erase safe/ -i doctor.key --patient 4711
  dicomcrypt vault erase safe/ -i doctor.key --patient 4711 --issuer HOSPITAL --yes-erase
  dicomcrypt vault erase safe/ -i doctor.key --study 1.2.840.1 --yes-erase

\b
Given again, it ends what was cut short or could not be deleted, and says when the record was
erased and the id of the proof; who holds the vault's keys can ask that of any ID, and nobody
else.

\b
What it cannot undo: files that were decrypted before, keys that somebody kept, and copies of the
key table that were made before: those that are registered are named; destroy them.

\b
What it does not know of: files that tell of the patient but not in their own Patient ID, such as
a DICOMDIR, a report, or a broken file. They lie in other records: look with `vault find --path`.
""")
@unlocking
@whose
@click.option("--yes-erase", is_flag=True, help="Do not ask: erase.")
@opt.as_json
@opt.hushed
def erase(
    folder: str, patient: str | None, issuer: str | None, study: str | None, record: str | None,
    yes_erase: bool, as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Erase a record for good: its keys, its objects, and what the catalogue says of it.

    Copies of its objects in any backup are noise from then on. A record is erased as a whole: all
    studies of the patient, and with --study those of a record without a patient. Refused under a
    hold, within its retention, and without confirmation.
    """
    from ..errors import ErasureError, UnknownKeyError
    from ..vault.erasing import Erasure, check_left, erased_before
    from ..vault.erasing import erase as erase_record
    from ..vault.holds import check_erasable
    from ..vault.reserve import released
    from ..vault.vault import keys_place, read_header

    if not (patient or study or record):
        raise UsageError("whose record? give --patient, --study or --record")
    place = keys_place(read_header(folder)[0], how["keys_path"])
    with (
        released(place), open_vault(folder, how) as vault, vault.lease("vault erase"),
    ):
        tell_ended(vault)
        try:
            keys = the_record(vault, patient, issuer, study, record)
        except UnknownKeyError:
            done = erased_before(vault, patient=patient, issuer=issuer, study=study,
                                 key_id=bytes.fromhex(record or ""))
            if done is None:
                raise
            if done.id not in [ended.id for ended in vault.ended]:
                with auditing.job(**about("erase", vault)) as facts:
                    facts |= proof(done)
            _tell_erased(done, as_json, before=True)
            check_left(done)
            return
        rows = [row for _, row in vault.catalogue.rows(keys)]
        if study is not None and any(row.PatientID for row in rows):
            raise UsageError("the study is a patient's, whose record is erased as a whole: give "
                             "--patient")
        check_erasable(vault, keys, rows)
        objects = len({row.object_id for row in rows})
        if not yes_erase:
            _confirm(objects, patient or study or record)
        with auditing.job(**about("erase", vault)) as facts:
            try:
                done = erase_record(vault, keys)
            except ErasureError as error:
                if isinstance(error.erasure, Erasure):
                    facts |= proof(error.erasure)
                raise
            facts |= proof(done)
    _tell_erased(done, as_json)


def _tell_erased(done: Erasure, as_json: bool, *, before: bool = False) -> None:
    from .console import print_json, say

    found = copies(done.backups)
    if as_json:
        print_json({"erasure": done.id.hex(), "time": moment(done.time / 1e9), "before": before,
                    "objects": done.objects, "tombstones": [key.hex() for key in done.records],
                    "backups": found})
        return
    say(f"erased{f' before, at {moment(done.time / 1e9)}' if before else ''}: {done.objects} "
        f"objects, {len(done.records)} keys; proof {done.id.hex()}")
    for backup in found:
        say(f"copy of the key table that still holds the key: {backup['place']} "
            f"(id {backup['id']}, {backup['time']}): destroy it, then `vault backup-keys --forget`")


def _confirm(objects: int, name: str | None) -> None:
    from .console import remark

    if not on_terminal():
        raise UsageError("nothing is erased without confirmation: give --yes-erase")
    remark(f"{objects} objects will be gone for good, in every backup, too")
    if click.prompt("Type the ID of the record again", err=True).strip() != (name or "").strip():
        raise UsageError("that is another ID: nothing was erased")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault merge safe/ -i doctor.key --patient 4712 --into 4711
  dicomcrypt vault merge safe/ -i doctor.key --patient TMP-9 --issuer ER --into 4711
""")
@unlocking
@whose
@click.option("--into", required=True, metavar="ID", help="Patient ID that is the right one.")
@click.option("--into-issuer", metavar="NAME", help="Its issuer, '' for none.")
@opt.as_json
@opt.hushed
def merge(
    folder: str, patient: str | None, issuer: str | None, study: str | None, record: str | None,
    into: str, into_issuer: str | None, as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Make two records one, when a patient ID was corrected.

    What the vault has, and what is added later under either ID, is listed under the right one from
    then on, held and erased together; the files themselves stay as they are. The right ID needs a
    record: add a file under it first. It cannot be undone.
    """
    from ..errors import UnknownKeyError
    from ..vault.merging import merge as merge_records
    from .console import print_json, say

    with open_vault(folder, how) as vault, vault.lease("vault merge"):
        tell_ended(vault)
        one = the_record(vault, patient, issuer, study, record)
        try:
            other = the_record(vault, into, into_issuer, None, None)
        except UnknownKeyError:
            raise UsageError("the vault has no record under the ID of --into: add a file under it "
                             "first, then merge") from None
        with auditing.job(**about("merge", vault)) as facts:
            facts["objects"] = [one[0].hex(), other[0].hex()]
            count = merge_records(vault, one, other)
    if as_json:
        print_json({"rows": count, "keys": len({*one, *other})})
    else:
        say(f"one record of {len({*one, *other})} keys; {count} files are listed under the right "
            "ID" if {*one} != {*other} else "they are one record already")
