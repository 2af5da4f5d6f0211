"""Objects that hold one file of a record twice: what a job that was cut short may leave."""

from __future__ import annotations

import contextlib
import hashlib

from ..container.reader import Container
from ..errors import DicomcryptError, UnknownKeyError
from ..objects.decoder import FileOutput, decode
from ..objects.files import object_meta
from ..objects.signing import unlock
from .keys import RECORD, VaultKeys
from .rows import Row
from .sealing import Hasher
from .selecting import whole_record
from .store import open_blob
from .vault import Vault, object_name


def lineage(keys: VaultKeys, record: bytes) -> list[bytes]:
    """Return a record key's id, that of the key in whose place it was made, and so on."""
    found = [record]
    with contextlib.suppress(UnknownKeyError):
        while (info := keys.table.info(found[-1])).kind == RECORD and info.label:
            found.append(bytes.fromhex(info.label))
    return found


class _Hashed:
    """A file whose bytes a hasher sees, and nobody else."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher

    def write(self, piece: memoryview) -> None:
        self._hasher.update(piece)


def hash_content(vault: Vault, object_id: bytes, hasher: Hasher) -> bytes:
    """Return the digest of an object's file. Raises DicomcryptError, OSError."""
    with contextlib.closing(open_blob(vault.store, object_name(object_id))) as source:
        opened = unlock(Container(source), [vault.identity])
        link = object_meta(opened)[1].link
        if link is not None:
            hasher.update(b"link\0" + link)
        decode(opened, FileOutput(_Hashed(hasher)), bytearray())
    return hasher.digest()


class Doubles:
    """Finds objects whose record has the same file under the same path already.

    Of those that may be, every byte is compared, by digests that nobody else sees."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._digests: dict[bytes, bytes | None] = {}
        self._known: dict[tuple[bytes, bytes | None, int | None], list[bytes]] = {}
        self._learnt: set[bytes] = set()

    def learn(self, who: Row, record: bytes) -> None:
        """Take in what the catalogue has of a record. who: its identity."""
        if record in self._learnt:
            return
        self._learnt.add(record)
        catalogue = self._vault.catalogue
        for _, row in catalogue.rows(whole_record(catalogue, lineage(self._vault.keys, record))):
            self.add(who, row)

    def add(self, who: Row, row: Row) -> None:
        """Take in an object that stays."""
        known = self._known.setdefault((who.encode(), row.path, row.size), [])
        if row.object_id is not None and row.object_id not in known:
            known.append(row.object_id)

    def of(self, who: Row, row: Row) -> bytes | None:
        """Return the id of another object with the same file; None if there is none."""
        for other in self._known.get((who.encode(), row.path, row.size), ()):
            if other != row.object_id and self._same(other, row.object_id or b""):
                return other
        return None

    def _same(self, one: bytes, other: bytes) -> bool:
        first = self._digest(one)
        return first is not None and first == self._digest(other)

    def _digest(self, object_id: bytes) -> bytes | None:
        if object_id not in self._digests:
            self._digests[object_id] = None
            with contextlib.suppress(DicomcryptError, OSError):
                self._digests[object_id] = hash_content(self._vault, object_id, hashlib.sha256())
        return self._digests[object_id]
