"""Forgetting a record for good (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import (
    DamagedError,
    DicomcryptError,
    ErasureError,
    OutputExistsError,
    UnknownKeyError,
    UsageError,
)
from ..trees.checkpoint import FULL
from .backups import Backup, backups, holding, remove_leftovers
from .holds import check_erasable, forget_records
from .keys import TOMBSTONE, VaultKeys, pack_document, parse_document
from .rows import Row
from .selecting import identities_of
from .store import Store
from .vault import REWRAP, Vault, object_name

PREFIX, MAGIC = "erased/", b"DCMXERA1"
_HEAD = struct.Struct("<8s16sI")
_NONCE, _LIMIT = 12, 1 << 20
#: The document of an erasure that is not at its end: its id, time, tombstones, number of objects,
#: number of documents `erasing.N` with the ids of objects, ids of backups that have the keys, tags.
PENDING = "erasing"
_ID, _TIME, _RECORDS, _COUNT, _PARTS, _BACKUPS, _TAGS = range(7)
_PART, _MOST_PARTS = 50_000, 32
#: The document of objects of erased records that could not be deleted, and how many it names.
LEFT = "erasing-left"
_MOST_LEFT, _SHOWN = 50_000, 3


class Erasure(NamedTuple):
    """What was erased: no names. time: ns since 1970; records: ids of its keys, now tombstones;
    backups: copies of the key table that still hold the keys; left: ids of objects, of this and
    earlier erasures, that could not be deleted."""

    id: bytes
    time: int
    records: list[bytes]
    objects: int
    backups: list[Backup]
    left: Sequence[bytes] = ()


def erase(vault: Vault, records: Sequence[bytes]) -> Erasure:
    """Erase a record, of which these are all keys (`selecting.find_record`). Hold the writers'
    lease. Raises PolicyError if it is held or to be kept, ErasureError if it is unreadable, but
    something of it could not be removed.

    When the first transaction is done the record is unreadable, here and in every copy of the
    objects and the catalogue; if this is cut short, the next writer ends it."""
    keys = vault.keys
    vault.catalogue.refresh()
    rows = [row for _, row in vault.catalogue.rows(records)]
    check_erasable(vault, records, rows)
    objects = list(dict.fromkeys(row.object_id for row in rows if row.object_id))
    if len(objects) > _PART * _MOST_PARTS:
        raise UsageError(f"a record of more than {_PART * _MOST_PARTS} objects cannot be erased")
    tags = tags_of(keys, identities_of(vault.catalogue, records))
    records = with_pending(keys, records)
    now, kept = time.time_ns(), holding(keys, records)
    # Of what was encrypted anew since, copies have keys that this table does not remember.
    first = min((row.added_ns or 0 for row in rows), default=now)
    kept += [backup for backup in backups(keys) if backup.time >= first and backup not in kept]
    with keys.transaction():
        if keys.document(PENDING) is not None:
            raise UsageError("another erasure is not at its end")
        buried = keys.bury_records(records, now)
        if not buried:
            raise UsageError("the vault has no such record")
        keys.renew_cache_key()
        forget_records(keys, records)
        parts = [objects[at : at + _PART] for at in range(0, len(objects), _PART)]
        for number, part in enumerate(parts):
            keys.table.put_document(f"{PENDING}.{number}", b"".join(part))
        keys.put_document(PENDING, {
            _ID: os.urandom(16), _TIME: now, _RECORDS: buried, _COUNT: len(objects),
            _PARTS: len(parts), _BACKUPS: [backup.id for backup in kept], _TAGS: tags,
        })  # fmt: skip
    done = _finish(vault)
    check_left(done)
    return done


def with_pending(keys: VaultKeys, records: Sequence[bytes]) -> list[bytes]:
    """Return these record keys, and those that a deep rewrap that was cut short made for them:
    the catalogue may not have them yet."""
    found = list(dict.fromkeys(records))
    if keys.document(REWRAP) is not None:
        successors = keys.successors()
        for key_id in found:  # grows on the way
            found += [k for k in successors.get(key_id, ()) if k not in found]
    return found


def finish_pending(vault: Vault) -> list[Erasure]:
    """End an erasure that was cut short, and delete what could not be deleted before. Hold the
    writers' lease. Raises ErasureError if it cannot be ended."""
    done = [] if vault.keys.document(PENDING) is None else [_finish(vault)]
    if not done:
        _delete_left(vault)
    return done


def _finish(vault: Vault) -> Erasure:
    """All that comes after the keys are gone; each step may be done again."""
    keys, document = vault.keys, vault.keys.document(PENDING) or {}
    kept = [backup for backup in backups(keys) if backup.id in document[_BACKUPS]]
    done = Erasure(document[_ID], document[_TIME], document[_RECORDS], document[_COUNT], kept)
    try:
        return done._replace(left=_remove(vault, done, document))
    except (DicomcryptError, OSError) as error:
        raise ErasureError(
            f"the record's keys are destroyed, nobody can read it any more (erasure "
            f"{done.id.hex()}); still to be removed: its {done.objects} objects, as far as they "
            f"are there, and rows that are noise: {_reason(error)}: mend that, then give the same "
            "command again", done
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, DicomcryptError):
        name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return f"{name}{(error.strerror or str(error)).lower()}"
    return str(error)


def _remove(vault: Vault, done: Erasure, document: dict[int, Any]) -> list[bytes]:
    """Return the ids of objects that could not be deleted."""
    keys, name = vault.keys, f"{PREFIX}{done.id.hex()}"
    data = seal_erasure(keys, done, document.get(_TAGS, []), document[_BACKUPS])
    # On a full medium, the objects' room first.
    noted = _put(vault.store, name, data, patient=True)
    left: list[bytes] = []
    for number in range(document[_PARTS]):
        part = keys.table.get_document(f"{PENDING}.{number}") or b""
        left += _delete(vault.store, [part[at : at + 16] for at in range(0, len(part), 16)])
    if not noted:
        _put(vault.store, name, data)
    vault.catalogue.forget(done.records)
    vault.catalogue.compact()
    keys.table.vacuum()
    remove_leftovers(keys, vault.keys_path)
    with keys.transaction():
        keys.table.delete_document(PENDING)
        for number in range(document[_PARTS]):
            with contextlib.suppress(UnknownKeyError):
                keys.table.delete_document(f"{PENDING}.{number}")
        left = [*dict.fromkeys([*_left(keys), *left])]
        _put_left(keys, left)
    return left


def _put(store: Store, name: str, data: bytes, *, patient: bool = False) -> bool:
    try:
        store.put_new(name, data)
    except OutputExistsError:
        pass
    except OSError as error:
        if patient and error.errno in FULL:
            return False
        raise
    return True


def _delete(store: Store, objects: Sequence[bytes]) -> list[bytes]:
    """Delete objects; return those that could not be."""
    try:
        store.delete_many(map(object_name, objects))
        return []
    except OSError:
        left = []
        for object_id in objects:
            try:
                store.delete(object_name(object_id))
            except OSError:
                left.append(object_id)
        return left


def _left(keys: VaultKeys) -> list[bytes]:
    found: list[bytes] = (keys.document(LEFT) or {}).get(0, [])
    return found


def _put_left(keys: VaultKeys, left: list[bytes]) -> None:
    """Remember what could not be deleted; of too much the rest is found by `repair`."""
    if left:
        keys.put_document(LEFT, {0: left[:_MOST_LEFT]})
    elif keys.document(LEFT) is not None:
        keys.table.delete_document(LEFT)


def _delete_left(vault: Vault) -> None:
    before = _left(vault.keys)
    if before:
        left = _delete(vault.store, before)
        if len(left) < len(before):
            with vault.keys.transaction():
                _put_left(vault.keys, left)


def check_left(done: Erasure) -> None:
    """Raise ErasureError if objects of erased records could not be deleted."""
    if not done.left:
        return
    names = ", ".join(map(object_name, done.left[:_SHOWN]))
    raise ErasureError(
        f"the record's keys are destroyed, nobody can read it any more (erasure {done.id.hex()}); "
        f"{len(done.left)} objects of erased records, which are noise, cannot be deleted "
        f"({names}{', ...' if len(done.left) > _SHOWN else ''}): look who may write there, then "
        "give the same command again", done
    )


# ---- the journal of erasures ---------------------------------------------------


def tags_of(keys: VaultKeys, identities: Sequence[Row]) -> list[bytes]:
    """Return what a record is known by after it was erased: to who holds the first vault key and
    asks for its patient or study, and to nobody else; 16 bytes each."""
    tags = []
    for who in identities:
        if who.PatientID:
            tags += [_tag(keys, "patient", who.PatientID),
                     _tag(keys, "issuer", who.IssuerOfPatientID or "", who.PatientID)]
        elif who.StudyInstanceUID:
            tags.append(_tag(keys, "study", who.StudyInstanceUID))
    return tags


def _tag(keys: VaultKeys, *parts: str) -> bytes:
    text = "\0".join(parts).encode()
    return blake2b(text, key=keys.derive(1, "erased"), digest_size=16).digest()


def seal_erasure(
    keys: VaultKeys, done: Erasure, tags: Sequence[bytes] = (), kept: Sequence[bytes] = (),
) -> bytes:
    """Return the blob that says what was erased. tags: `tags_of` it; kept: ids of backups.

    It is sealed under the first vault key: any copy of the key table, however old, opens it, so
    that a restored one forgets what was erased since."""
    head = _HEAD.pack(MAGIC, keys.vault_id, 1)
    nonce = os.urandom(_NONCE)
    content = pack_document({0: done.time, 1: done.records, 2: done.objects, 3: [*tags],
                             4: [*kept]})
    return head + nonce + AESGCM(keys.derive(1, "erasure")).encrypt(nonce, content, head)


def open_erasure(keys: VaultKeys, data: bytes) -> dict[int, Any]:
    """Return time (ns), ids of record keys, number of objects, tags, ids of backups, under keys 0
    to 4; raises DamagedError."""
    at = _HEAD.size + _NONCE
    try:
        magic, vault_id, g = _HEAD.unpack_from(data)
        if magic != MAGIC or vault_id != keys.vault_id:
            raise ValueError
        head = data[: _HEAD.size]
        content = AESGCM(keys.derive(g, "erasure")).decrypt(data[_HEAD.size : at], data[at:], head)
        found = parse_document(content)
        if not {0, 1, 2} <= found.keys():
            raise ValueError
        return {3: [], 4: []} | found
    except (InvalidTag, ValueError, struct.error):
        raise DamagedError("what the vault says of an erasure is damaged or forged") from None


def erased_before(
    vault: Vault, *, patient: str | None = None, issuer: str | None = None,
    study: str | None = None, key_id: bytes | None = None,
) -> Erasure | None:
    """Return the latest erasure of a record, named as for `selecting.find_record`; None if there
    is none."""
    if patient is not None:
        patient = patient.strip()
        wanted = (_tag(vault.keys, "patient", patient) if issuer is None else
                  _tag(vault.keys, "issuer", issuer.strip(), patient))
    else:
        wanted = _tag(vault.keys, "study", study) if study is not None else b""
    latest = None
    for name in vault.store.list(PREFIX):
        with contextlib.suppress(DamagedError):
            found = open_erasure(vault.keys, vault.store.read(name, 0, _LIMIT))
            if (wanted in found[3] or key_id in found[1]) and (
                latest is None or found[0] > latest.time
            ):
                kept = [backup for backup in backups(vault.keys) if backup.id in found[4]]
                latest = Erasure(bytes.fromhex(name.removeprefix(PREFIX)), found[0], found[1],
                                 found[2], kept, _left(vault.keys))
    return latest


def erasures(store: Store, keys: VaultKeys) -> Iterator[tuple[str, list[bytes] | None]]:
    """Yield (name, ids of record keys that were erased) of the store's journal; None for one that
    is damaged."""
    for name in store.list(PREFIX):
        try:
            yield name, open_erasure(keys, store.read(name, 0, _LIMIT))[1]
        except DamagedError:
            yield name, None


def unnoted(vault: Vault) -> dict[bytes, int]:
    """Return {id of a key that was erased: when, ns since 1970} of those that no note of the store
    names: it was lost, or is damaged."""
    keys = vault.keys
    noted = {record for _, records in erasures(vault.store, keys) for record in records or ()}
    noted.update((keys.document(PENDING) or {}).get(_RECORDS, ()))
    return {info.id: int(info.label or 0) for info in keys.table.labels()
            if info.kind == TOMBSTONE and info.id not in noted}


def note_again(vault: Vault) -> None:
    """Note again what was erased, from the key table, in the place of damaged notes. Number of
    objects and tags are lost. Hold the writers' lease."""
    bare = unnoted(vault)
    names = [name for name, records in erasures(vault.store, vault.keys) if records is None]
    if bare and not names:
        names = [f"{PREFIX}{os.urandom(16).hex()}"]
    for name in names:
        done = Erasure(b"", max(bare.values(), default=0), [*bare], 0, [])
        vault.store.replace(name, seal_erasure(vault.keys, done))
