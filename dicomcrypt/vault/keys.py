"""A vault's keys, in its key table (docs/spec/vault-v1.md, 2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..container.schedule import expand
from ..errors import DamagedError, UnknownKeyError, UsageError
from ..keytable import UnlockedKeyTable
from ..native._cbor import bounded, decode_map, encode_map

VAULT, RECORD, CACHE, TOMBSTONE = "vault", "record", "cache", "tombstone"
#: What is in the place of a record key that `rewrap --deep` replaced: copies of the table have it,
#: and it is to be buried in them when its heir is.
REPLACED = "replaced"
VERSION = 1
#: Keys of the document `vault`: version, vault id, ids of the vault keys, the cache key's id,
#: settings.
_VERSION, _VAULT_ID, _VAULT_KEYS, _CACHE_KEY, SETTINGS = range(5)
_MOST_ITEMS = 1 << 20


def pack_document(entries: dict[int, Any]) -> bytes:
    """Return a document's CBOR: unsigned keys; values int, bytes, str, lists of these."""
    return encode_map(entries)


def parse_document(data: bytes) -> dict[int, Any]:
    """Undo `pack_document`; raises DamagedError."""
    try:
        if bounded(data, _MOST_ITEMS, _MOST_ITEMS):
            return decode_map(data)
    except ValueError:
        pass
    raise DamagedError("a document of the vault's key table is not well-formed")


def object_wrapping_key(record_key: bytes, core: bytes) -> bytes:
    """What wraps the key of one object of a record."""
    return expand(record_key, b"dcmx/1 vault kek\0" + core, 32)


class VaultKeys:
    """The keys of one vault, over its unlocked key table.

    Several threads may use it, as they may the table. Raises UsageError if the table is not a
    vault's, DamagedError for what was changed."""

    def __init__(self, table: UnlockedKeyTable) -> None:
        self.table = table
        self._reload()

    @classmethod
    def create(cls, table: UnlockedKeyTable, settings: Sequence[Any] = ()) -> VaultKeys:
        """Make the keys of a new vault in an empty table."""
        with table.transaction():
            if table.get_document("vault") is not None:
                raise UsageError("the key table is another vault's already")
            first, cache = table.new_key(VAULT, "1")[0], table.new_key(CACHE)[0]
            document = {_VERSION: VERSION, _VAULT_ID: os.urandom(16), _VAULT_KEYS: [first],
                        _CACHE_KEY: cache, SETTINGS: list(settings)}
            table.put_document("vault", pack_document(document))
            table.put_document("state", pack_document({0: 0}))
        return cls(table)

    def __repr__(self) -> str:
        return f"VaultKeys({self.vault_id.hex()}, generation {self.generation})"

    def _reload(self) -> None:
        found = self.document("vault")
        if found is None:
            raise UsageError("the key table holds no vault's keys: is it the right one?")
        if found.get(_VERSION) != VERSION:
            raise UsageError("the vault is of a version that this program does not know")
        ids = found.get(_VAULT_KEYS)
        if not isinstance(ids, list) or not ids or len(found.get(_VAULT_ID, b"")) != 16:
            raise DamagedError("the key table's document of the vault is damaged")
        #: 16 bytes, not secret.
        self.vault_id: bytes = found[_VAULT_ID]
        self._vault_ids: list[bytes] = ids
        self._vault_keys: dict[int, bytes] = {}
        self._row_keys: dict[bytes, bytes] = {}
        self._derived: dict[tuple[int, bytes], bytes] = {}

    # ---- vault keys ---------------------------------------------------------

    @property
    def generation(self) -> int:
        """Of the latest vault key; the first is 1."""
        return len(self._vault_ids)

    def vault_key(self, g: int) -> bytes:
        """Return the vault key of a generation; raises DamagedError if there is none."""
        if g not in self._vault_keys:
            if not 1 <= g <= len(self._vault_ids):
                raise DamagedError(
                    "something in the vault is of a newer generation than the key table: is it "
                    "an old copy?"
                )
            self._vault_keys[g] = self.table.get(self._vault_ids[g - 1], kind=VAULT)
        return self._vault_keys[g]

    def derive(self, g: int, label: str) -> bytes:
        """W_g(label) of the specification, 32 bytes."""
        place = g, label.encode()
        if place not in self._derived:
            info = b"dcmx/1 vault " + place[1] + b"\0" + self.vault_id
            self._derived[place] = expand(self.vault_key(g), info, 32)
        return self._derived[place]

    def new_generation(self) -> int:
        """Make the next vault key; return its generation."""
        with self.table.transaction():
            document = self.document("vault") or {}
            made = self.table.new_key(VAULT, str(len(document[_VAULT_KEYS]) + 1))[0]
            document[_VAULT_KEYS].append(made)
            self.put_document("vault", document)
        self._reload()
        return self.generation

    # ---- record keys --------------------------------------------------------

    def record_key(self, key_id: bytes) -> bytes | None:
        """Return a record key; None if it is gone: erased."""
        try:
            return self.table.get(key_id, kind=RECORD)
        except UnknownKeyError:
            return None

    def new_record_key(self, replaces: bytes | None = None) -> tuple[bytes, bytes]:
        """Make a record key; return (its id, the key). Many at once: in a `transaction`.

        replaces: id of the one whose place it is to take; it is the new one's label."""
        return self.table.new_key(RECORD, None if replaces is None else replaces.hex())

    def successors(self) -> dict[bytes, list[bytes]]:
        """Return {id: ids of record keys that were made to replace it}; reads the table whole."""
        found: dict[bytes, list[bytes]] = {}
        for info in self.table.labels():
            if info.kind == RECORD and info.label:
                found.setdefault(bytes.fromhex(info.label), []).append(info.id)
        return found

    def replaced(self) -> dict[bytes, bytes | None]:
        """Return {id whose record key `replace_records` destroyed: id of its heir}; reads the
        table whole."""
        return {info.id: bytes.fromhex(info.label) if info.label else None
                for info in self.table.labels() if info.kind == REPLACED}

    def replace_records(self, heirs: Mapping[bytes, bytes | None]) -> None:
        """Destroy record keys under which nothing is any more but what the catalogue drops.

        heirs: {its id: id of the key of its record that has its place, None if there is none};
        that stays known, since copies of the table still hold what is destroyed here."""
        with self.table.transaction():
            for key_id, heir in heirs.items():
                self._row_keys.pop(key_id, None)
                if self.record_key(key_id) is not None:
                    self.table.bury(key_id, REPLACED, heir.hex() if heir else None)

    def ancestors(self, key_ids: Iterable[bytes]) -> list[bytes]:
        """Return the ids of all replaced keys whose heirs, or heirs' heirs, are among these."""
        before: dict[bytes, list[bytes]] = {}
        if self.generation == 1:  # nothing was ever replaced
            return []
        for old, heir in self.replaced().items():
            if heir is not None:
                before.setdefault(heir, []).append(old)
        found = [old for key_id in key_ids for old in before.get(key_id, ())]
        for key_id in found:  # grows on the way
            found += before.get(key_id, ())
        return found

    def is_current(self, key_id: bytes) -> bool:
        """Whether a record key is there and younger than the latest vault key."""
        try:
            made = self.table.info(key_id).generation
        except UnknownKeyError:
            return False
        return made >= self.table.info(self._vault_ids[-1]).generation

    def row_key(self, key_id: bytes) -> bytes | None:
        """Return the key of a record key's catalogue rows; None if that is gone."""
        if key_id not in self._row_keys:
            key = self.record_key(key_id)
            if key is None:
                return None
            if len(self._row_keys) >= 1 << 16:
                self._row_keys.clear()
            self._row_keys[key_id] = expand(key, b"dcmx/1 vault rows\0" + self.vault_id, 32)
        return self._row_keys[key_id]

    def dedupe_key(self, key_id: bytes) -> bytes | None:
        """Return the key of a record key's deduplication digests; None if that is gone."""
        key = self.record_key(key_id)
        if key is None:
            return None
        return expand(key, b"dcmx/1 vault dedupe\0" + self.vault_id, 32)

    def delete_records(self, key_ids: Iterable[bytes]) -> int:
        """Delete record keys, all or none; return how many were there."""
        count = 0
        with self.table.transaction():
            for key_id in key_ids:
                self._row_keys.pop(key_id, None)
                try:
                    self.table.delete(key_id)
                except UnknownKeyError:
                    continue
                count += 1
        return count

    def bury_records(self, key_ids: Iterable[bytes], time_ns: int) -> list[bytes]:
        """Destroy record keys, all or none: under their ids, and those of keys that they replaced,
        is a tombstone with the time from now on. Return the ids of those that were there."""
        found, key_ids = [], list(key_ids)
        with self.table.transaction():
            for key_id in [*key_ids, *self.ancestors(key_ids)]:
                self._row_keys.pop(key_id, None)
                if self._kind(key_id) in (RECORD, REPLACED):
                    self.table.bury(key_id, TOMBSTONE, str(time_ns))
                    found.append(key_id)
        return found

    def is_gone(self, key_id: bytes) -> bool:
        """Whether a record key was destroyed on purpose: erased, or replaced."""
        return self._kind(key_id) in (TOMBSTONE, REPLACED)

    def is_buried(self, key_id: bytes) -> bool:
        """Whether a record key was destroyed by an erasure."""
        return self._kind(key_id) == TOMBSTONE

    def _kind(self, key_id: bytes) -> str | None:
        try:
            return self.table.info(key_id).kind
        except UnknownKeyError:
            return None

    # ---- cache, state, documents --------------------------------------------

    def cache_key(self) -> bytes:
        """Return the key of the local cache, 32 bytes."""
        return self.table.get((self.document("vault") or {})[_CACHE_KEY], kind=CACHE)

    def renew_cache_key(self) -> bytes:
        """Make a new key of the cache in the place of the old one, which is deleted."""
        with self.table.transaction():
            document = self.document("vault") or {}
            self.table.delete(document[_CACHE_KEY])
            document[_CACHE_KEY], key = self.table.new_key(CACHE)
            self.put_document("vault", document)
        return key

    @property
    def state(self) -> int:
        """The generation of the catalogue's head, 0 before the first one."""
        found: int = (self.document("state") or {}).get(0, 0)
        return found

    @property
    def head_generation(self) -> int:
        """Of the vault key that sealed the catalogue's head last; an older one's does not count."""
        found: int = (self.document("state") or {}).get(1, 0)
        return found

    def raise_state(self, n: int, g: int = 0) -> None:
        """Say that the catalogue's head is of generation n from now on, sealed under the vault key
        of generation g; never lower ones."""
        with self.table.transaction():
            if n < self.state:
                raise DamagedError("the catalogue's head is older than the key table says")
            self.put_document("state", {0: n, 1: max(g, self.head_generation)})

    @property
    def settings(self) -> list[Any]:
        """The vault's settings."""
        found: list[Any] = (self.document("vault") or {}).get(SETTINGS, [])
        return found

    def document(self, name: str) -> dict[int, Any] | None:
        """Return a document of the table, a map with unsigned keys; None if there is none."""
        data = self.table.get_document(name)
        return None if data is None else parse_document(data)

    def put_document(self, name: str, entries: dict[int, Any]) -> None:
        """Put a document; in a `transaction` together with other changes."""
        self.table.put_document(name, pack_document(entries))

    def transaction(self) -> AbstractContextManager[None]:
        """Several changes at once: all are stored, or none."""
        return self.table.transaction()

    def close(self) -> None:
        """Lock the table."""
        self._vault_keys.clear()
        self._row_keys.clear()
        self._derived.clear()
        self.table.close()
