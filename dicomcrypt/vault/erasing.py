"""Forgetting a record for good (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import DamagedError, OutputExistsError, UnknownKeyError, UsageError
from .backups import Backup, backups, holding, remove_leftovers
from .holds import check_erasable, forget_records
from .keys import VaultKeys, pack_document, parse_document
from .store import Store
from .vault import REWRAP, Vault, object_name

PREFIX, MAGIC = "erased/", b"DCMXERA1"
_HEAD = struct.Struct("<8s16sI")
_NONCE, _LIMIT = 12, 1 << 20
#: The document of an erasure that is not at its end: its id, time, tombstones, number of objects,
#: number of documents `erasing.N` with the ids of objects, ids of backups that have the keys.
PENDING = "erasing"
_ID, _TIME, _RECORDS, _COUNT, _PARTS, _BACKUPS = range(6)
_PART, _MOST_PARTS = 50_000, 32


class Erasure(NamedTuple):
    """What was erased: no names. time: ns since 1970; records: ids of its keys, now tombstones;
    backups: copies of the key table that still hold the keys."""

    id: bytes
    time: int
    records: list[bytes]
    objects: int
    backups: list[Backup]


def objects_of(vault: Vault, records: Sequence[bytes]) -> list[bytes]:
    """Return the ids of all objects of a record."""
    rows = vault.catalogue.rows(records)
    return list(dict.fromkeys(row.object_id for _, row in rows if row.object_id))


def erase(vault: Vault, records: Sequence[bytes]) -> Erasure:
    """Erase a record, of which these are all keys (`selecting.find_record`). Hold the writers'
    lease. Raises PolicyError if it is held or to be kept.

    When the first transaction is done the record is unreadable, here and in every copy of the
    objects and the catalogue; if this is cut short, the next writer ends it."""
    keys = vault.keys
    vault.catalogue.refresh()
    rows = [row for _, row in vault.catalogue.rows(records)]
    check_erasable(vault, records, rows)
    objects = list(dict.fromkeys(row.object_id for row in rows if row.object_id))
    if len(objects) > _PART * _MOST_PARTS:
        raise UsageError(f"a record of more than {_PART * _MOST_PARTS} objects cannot be erased")
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
            _PARTS: len(parts), _BACKUPS: [backup.id for backup in kept],
        })  # fmt: skip
    return _finish(vault)


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
    """End an erasure that was cut short. Hold the writers' lease."""
    return [] if vault.keys.document(PENDING) is None else [_finish(vault)]


def _finish(vault: Vault) -> Erasure:
    """All that comes after the keys are gone; each step may be done again."""
    keys, document = vault.keys, vault.keys.document(PENDING) or {}
    records, count, parts = document[_RECORDS], document[_COUNT], document[_PARTS]
    kept = [backup for backup in backups(keys) if backup.id in document[_BACKUPS]]
    done = Erasure(document[_ID], document[_TIME], records, count, kept)
    with contextlib.suppress(OutputExistsError):
        vault.store.put_new(f"{PREFIX}{done.id.hex()}", seal_erasure(keys, done))
    for number in range(parts):
        part = keys.table.get_document(f"{PENDING}.{number}") or b""
        vault.store.delete_many(
            object_name(part[at : at + 16]) for at in range(0, len(part), 16)
        )
    vault.catalogue.forget(records)
    vault.catalogue.compact()
    keys.table.vacuum()
    remove_leftovers(keys, vault.keys_path)
    with keys.transaction():
        keys.table.delete_document(PENDING)
        for number in range(parts):
            with contextlib.suppress(UnknownKeyError):
                keys.table.delete_document(f"{PENDING}.{number}")
    return done


# ---- the journal of erasures ---------------------------------------------------


def seal_erasure(keys: VaultKeys, done: Erasure) -> bytes:
    """Return the blob that says what was erased.

    It is sealed under the first vault key: any copy of the key table, however old, opens it, so
    that a restored one forgets what was erased since."""
    head = _HEAD.pack(MAGIC, keys.vault_id, 1)
    nonce = os.urandom(_NONCE)
    content = pack_document({0: done.time, 1: done.records, 2: done.objects})
    return head + nonce + AESGCM(keys.derive(1, "erasure")).encrypt(nonce, content, head)


def open_erasure(keys: VaultKeys, data: bytes) -> tuple[int, list[bytes], int]:
    """Return time (ns), ids of record keys, number of objects; raises DamagedError."""
    at = _HEAD.size + _NONCE
    try:
        magic, vault_id, g = _HEAD.unpack_from(data)
        if magic != MAGIC or vault_id != keys.vault_id:
            raise ValueError
        head = data[: _HEAD.size]
        content = AESGCM(keys.derive(g, "erasure")).decrypt(data[_HEAD.size : at], data[at:], head)
        found = parse_document(content)
        return found[0], found[1], found[2]
    except (InvalidTag, ValueError, KeyError, struct.error):
        raise DamagedError("what the vault says of an erasure is damaged or forged") from None


def erasures(store: Store, keys: VaultKeys) -> Iterator[tuple[str, list[bytes] | None]]:
    """Yield (name, ids of record keys that were erased) of the store's journal; None for one that
    is damaged."""
    for name in store.list(PREFIX):
        try:
            yield name, open_erasure(keys, store.read(name, 0, _LIMIT))[1]
        except DamagedError:
            yield name, None
