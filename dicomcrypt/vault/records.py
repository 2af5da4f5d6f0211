"""Which record key a file's object is for: found in the catalogue, or made."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from .facts import Owner
from .merging import main_identity
from .rows import Row, identity_row
from .selecting import whole_record
from .vault import Vault

#: Record keys are made so many at a time: each transaction waits for the medium.
_STOCK = 256
#: Of a record with more files than this a worker is not told which are known.
_MOST_KNOWN = 50_000


class Grant(NamedTuple):
    """What a worker needs to encrypt for a record. known: deduplication digests of the files that
    it has, 16 bytes of each, by their sizes."""

    record_id: bytes
    record_key: bytes
    dedupe_key: bytes
    known: dict[int, bytes]

    def __repr__(self) -> str:
        return f"Grant({self.record_id.hex()})"


class Records:
    """The records of a job; asked by its workers.

    place: from where it adds; what belongs to no patient and no study has a record for each.

    Digests of what is in the vault, and of what this job adds, are kept as the job goes on."""

    def __init__(self, vault: Vault, *, dedupe: bool, place: bytes) -> None:
        self._vault, self._keys, self._dedupe = vault, vault.keys, dedupe
        key = vault.keys.derive(1, "lookup")
        self._job = hashlib.blake2b(place, key=key, digest_size=16).digest()
        self._ids: dict[Owner, tuple[bytes, bytes]] = {}  # its record key, its first one
        self._known: dict[bytes, dict[int, bytes]] = {}
        self._stock: list[tuple[bytes, bytes]] = []
        self._size = 1
        #: Object id by the digest's first 16 bytes; keyed digests of two records never meet.
        self.claims: dict[bytes, bytes] = {}
        self._places: set[bytes] = set()
        #: Under which identity the files of those whose record was merged are shown.
        self.shown: dict[Owner, Row] = {}
        #: Identity rows of record keys that were made, until the catalogue has them.
        self.new: dict[bytes, Row] = {}

    def answer(self, owners: list[Owner]) -> list[Grant]:
        """Return what is needed to encrypt for these; record keys are on the medium."""
        return [self._grant(owner) for owner in owners]

    def _grant(self, owner: Owner) -> Grant:
        keys = self._keys
        if owner not in self._ids:
            self._ids[owner] = self._find(owner)
        record_id, first = self._ids[owner]
        return Grant(record_id, keys.record_key(record_id) or b"", keys.dedupe_key(first) or b"",
                     self._known.get(record_id, {}))

    def _find(self, owner: Owner) -> tuple[bytes, bytes]:
        catalogue, found = self._vault.catalogue, []
        if owner.patient_id:
            found = catalogue.record_of(owner.issuer, owner.patient_id)
        elif owner.study:
            found = catalogue.record_of(None, None, owner.study)
        else:
            found = catalogue.record_of(None, None, job=self._job)
        found = [key_id for key_id in whole_record(catalogue, found)
                 if self._keys.record_key(key_id) is not None]
        who = identity_row(owner.issuer, owner.patient_id, study=owner.study, job=self._job)
        # Of a merged record, each identity's files are under its own keys.
        own = [key_id for key_id in found if catalogue.identities(key_id)[0] == who]
        current = next(filter(self._keys.is_current, reversed(own)), None)
        if current is None:
            current = self.make(who)
        if found and self._dedupe:
            self._learn(current, found)
        if len(own) < len(found):
            self.shown[owner] = main_identity(self._vault, found)
        return current, (own or found or [current])[0]

    def make(self, identity: Row) -> bytes:
        """Make a record key; return its id. identity: says whose it is."""
        if not self._stock:
            with self._keys.transaction():
                made = [self._keys.new_record_key() for _ in range(self._size)]
            self._stock = made  # not before they are on the medium
            self._size = min(2 * self._size, _STOCK)
        record_id = self._stock.pop()[0]
        self.new[record_id] = identity
        return record_id

    def _learn(self, current: bytes, found: list[bytes]) -> None:
        known: dict[int, list[bytes]] = {}
        count = 0
        for _, row in self._vault.catalogue.rows(found):
            if row.dedupe_digest is None or row.object_id is None:
                continue
            digest = row.dedupe_digest[:16]
            self.claims.setdefault(digest, row.object_id)
            self._places.add(_place(row.object_id, row.path or b""))
            known.setdefault(row.size or 0, []).append(digest)
            count += 1
        if count <= _MOST_KNOWN:
            self._known[current] = {size: b"".join(found) for size, found in known.items()}

    def there(self, object_id: bytes, path: bytes) -> bool:
        """Whether the catalogue has this object under this path already."""
        return _place(object_id, path) in self._places

    def identities(self, record_ids: set[bytes]) -> dict[bytes, Row]:
        """The identity rows that the catalogue does not have yet, of these record keys."""
        return {key_id: self.new.pop(key_id) for key_id in record_ids & self.new.keys()}

    def close(self) -> None:
        """Remove the record keys that were not needed."""
        stock, self._stock = self._stock, []
        if stock:
            self._keys.delete_records(key_id for key_id, _ in stock)


def _place(object_id: bytes, path: bytes) -> bytes:
    return hashlib.blake2b(object_id + path, digest_size=12).digest()
