"""An unlocked key table: its entries, documents and accesses (docs/keytable.md)."""

from __future__ import annotations

import hmac
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag

from ..container.stanza import Recipient, Stanza
from ..errors import DamagedError, UnknownKeyError, UsageError
from ..keys.passphrase import Passphrase
from .access import MOST_ACCESSES, access_name, parse_access, unwrap_by_password
from .changes import HEAD_KEY, Changes
from .seals import HEAD_SIZE, Seals
from .store import ACCESS, DOCUMENTS, ENTRIES, HEAD, SqliteStore, Store

_GENERATION = struct.Struct(">Q")
_KIND = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_DOCUMENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LONGEST_LABEL, _LONGEST_DOCUMENT, _MOST_DOCUMENTS = 1024, 1 << 20, 64


class KeyInfo(NamedTuple):
    """An entry without its key. generation: the change of the table that made it."""

    id: bytes
    kind: str
    label: str | None
    generation: int


def read_table_id(store: Store) -> bytes:
    """Return the table's id, 16 bytes, which is not secret and not yet verified."""
    value = store.get(HEAD, HEAD_KEY)
    if value is None or len(value) != HEAD_SIZE:
        raise DamagedError("the key table has no head: it is damaged, or was not made whole")
    return value[:16]


class UnlockedKeyTable(Changes):
    """Keys by id, each new one random; made by `KeyTable.create` and `KeyTable.unlock`.

    Several processes may have the table unlocked; in one process, threads take turns. It is
    not for use after a fork. Use it in a `with`, or call `close`.
    """

    def __init__(
        self, store: Store, table_id: bytes, key: bytes, *, fingerprint: str | None = None,
        strict: bool = True,
    ) -> None:
        super().__init__(store, Seals(table_id, key), strict=strict)
        #: Ids of rows that could not be read, of a table unlocked with strict=False.
        self.damaged: set[bytes] = set()
        if fingerprint is not None and not hmac.compare_digest(
            fingerprint.lower().encode(), self.fingerprint.encode()
        ):
            raise DamagedError(
                f"the key table is another one: its fingerprint is {self.fingerprint}"
            )

    @classmethod
    def _new(cls, store: Store, access: Mapping[str, Recipient]) -> UnlockedKeyTable:
        table = cls(store, os.urandom(16), os.urandom(32))
        with table.transaction():
            for name, recipient in access.items():
                table.grant(name, recipient)
        return table

    def __repr__(self) -> str:
        return f"UnlockedKeyTable({self._seals.table_id.hex()})"

    def __enter__(self) -> UnlockedKeyTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("an unlocked key table cannot be pickled")

    def close(self) -> None:
        """Lock the table: overwrite its key in memory as far as Python allows, close the file."""
        with self._lock:
            if self._seals:
                self._seals.wipe()
                self._store.close()

    @property
    def table_id(self) -> bytes:
        """16 bytes, not secret."""
        return self._seals.table_id

    @property
    def fingerprint(self) -> str:
        """32 hex digits that only a table with this key has; not secret."""
        self._ready()
        return self._seals.derive(b"fingerprint", b"", 16).hex()

    @property
    def counter(self) -> int:
        """Changes so far, as last seen here. Whoever keeps it elsewhere notices an older copy."""
        return self._counter

    # ---- entries ------------------------------------------------------------

    def new_key(self, kind: str, label: str | None = None) -> tuple[bytes, bytes]:
        """Store a new random key; return its id (16 bytes) and the key (32 bytes).

        kind: what it is for, up to 32 of a-z 0-9 . _ -, not hidden; label: text for people,
        up to 1,024 bytes, encrypted.
        """
        found, key = os.urandom(16), os.urandom(32)
        with self.transaction():
            self._put_entry(found, kind, label, key)
        return found, key

    def get(self, key_id: bytes, kind: str | None = None) -> bytes:
        """Return a key, 32 bytes.

        Raises UnknownKeyError if there is none, or it is of another kind than the one given;
        DamagedError if its row was changed.
        """
        info, key = self._entry(key_id, self._row(key_id))
        if kind is not None and info.kind != kind:
            raise UnknownKeyError(f"key {key_id.hex()} is of kind {info.kind!r}, not {kind!r}")
        return key

    def info(self, key_id: bytes) -> KeyInfo:
        """Return what is known of a key; errors as of `get`."""
        return self._entry(key_id, self._row(key_id))[0]

    def delete(self, key_id: bytes) -> None:
        """Remove a key; what it encrypted cannot be read any more.

        The row is overwritten in the file. Copies of the file, and blocks that a file system
        or a flash medium keeps, are beyond reach. Raises UnknownKeyError.
        """
        with self.transaction():
            if not self._store.delete(ENTRIES, _valid_id(key_id)):
                raise UnknownKeyError(f"the key table has no key {key_id.hex()}")
            self._added -= 1
            self._changed = True

    def bury(self, key_id: bytes, kind: str, label: str | None = None) -> None:
        """Remove a key, and keep its id taken: by an entry of another kind without a key.

        So it cannot come back by an import. Raises UnknownKeyError."""
        with self.transaction():
            self.delete(key_id)
            self._put_entry(key_id, kind, label, bytes(32))

    def vacuum(self) -> None:
        """Write the whole file anew, so that nothing is left in it of rows that were removed."""
        with self._lock:
            self._ready()
            if self._depth:
                raise UsageError("a key table is not written anew inside another change")
            self._store.vacuum()

    def copy_to(self, path: str | os.PathLike[str]) -> int:
        """Put a copy as of this moment into a new file, mode 0600, with the same accesses; others
        may use the table meanwhile. Return the copy's counter. Raises OutputExistsError."""
        with self._lock:
            self._ready()
            self._store.copy_to(path)
        with self.open_copy(path) as copy:
            return copy.counter

    def open_copy(self, path: str | os.PathLike[str]) -> UnlockedKeyTable:
        """Open a file that `copy_to` made, with this table's key. Raises DamagedError."""
        store = SqliteStore(path)
        try:
            table = UnlockedKeyTable(store, self.table_id, self._seals.key())
            table._verify()
            return table
        except BaseException:
            store.close()
            raise

    def labels(self) -> Iterator[KeyInfo]:
        """Yield all entries without their keys, ids ascending; each row is verified."""
        for info, _ in self._entries():
            yield info

    def check(self) -> int:
        """Verify every row of the table; return the number of entries. Raises DamagedError."""
        with self._reading():
            head = self._read_head()
            self._check_roster(head)
            count = 0
            for count, (info, _) in enumerate(self._entries(), 1):  # noqa: B007
                if info.generation > head.counter:
                    raise DamagedError(f"key {info.id.hex()} is newer than the key table's head")
            if count != head.entries:
                raise DamagedError(f"the key table has {count} of its {head.entries} entries")
            for name in self.documents():
                self.get_document(name)
        return count

    def _entries(self) -> Iterator[tuple[KeyInfo, bytes]]:
        rows = self._store.items(ENTRIES)
        while True:
            with self._lock:
                self._ready()
                row = next(rows, None)
            if row is None:
                return
            try:
                entry = self._entry(*row)
            except DamagedError:
                if self._strict:
                    raise
                self.damaged.add(row[0])
                continue
            yield entry

    def _row(self, key_id: bytes) -> bytes:
        with self._lock:
            self._ready()
            value = self._store.get(ENTRIES, _valid_id(key_id))
        if value is None:
            raise UnknownKeyError(f"the key table has no key {key_id.hex()}")
        return value

    def _entry(self, key_id: bytes, value: bytes) -> tuple[KeyInfo, bytes]:
        """Layout: generation 8, length of kind 1, kind, what `Seals.seal` made of key and label."""
        try:
            at = 9 + value[8]
            kind = value[9:at].decode("ascii")
            generation = _GENERATION.unpack_from(value)[0]
            content = self._seals.open(b"entry", key_id, value[:at], value[at:])
            label = content[33:].decode() if content[32] else None
            return KeyInfo(key_id, kind, label, generation), content[:32]
        except (InvalidTag, IndexError, ValueError, struct.error):
            raise DamagedError(f"key {key_id.hex()} of the key table was changed") from None

    def _put_entry(self, key_id: bytes, kind: str, label: str | None, key: bytes) -> None:
        self._store.put(ENTRIES, *self._sealed_entry(key_id, kind, label, key))

    def _sealed_entry(
        self, key_id: bytes, kind: str, label: str | None, key: bytes
    ) -> tuple[bytes, bytes]:
        """Return an entry as it is stored, which it is next."""
        text = _check_entry(kind, label)
        head = _GENERATION.pack(self._generation) + bytes((len(kind),)) + kind.encode()
        self._added += 1
        self._changed = True
        return key_id, head + self._seals.seal(b"entry", key_id, head, key + text)

    def _copy_into(self, other: UnlockedKeyTable) -> None:
        """Put all entries and documents into an empty table, as one change of it."""
        with other.transaction():
            other._store.put_many(ENTRIES, (
                other._sealed_entry(info.id, info.kind, info.label, key)
                for info, key in self._entries()
            ))
            for name in self.documents():
                other.put_document(name, self.get_document(name) or b"")

    # ---- documents ----------------------------------------------------------

    def put_document(self, name: str, data: bytes) -> None:
        """Store a small named document, up to 1 MiB, encrypted and bound to this table."""
        key = _document_name(name)
        if len(data) > _LONGEST_DOCUMENT:
            raise UsageError("a document in the key table is 1 MiB at most")
        with self.transaction():
            self._check_roster(self._begun)
            if self._store.get(DOCUMENTS, key) is None and (
                self._store.count(DOCUMENTS) >= _MOST_DOCUMENTS
            ):
                raise UsageError(f"a key table holds {_MOST_DOCUMENTS} documents at most")
            head = _GENERATION.pack(self._generation)
            self._store.put(DOCUMENTS, key, head + self._seals.seal(b"document", key, head, data))
            self._changed = self._roster_changed = True

    def get_document(self, name: str) -> bytes | None:
        """Return a document, None if there is none; an older one put back is noticed.

        Raises DamagedError if it was changed."""
        key = _document_name(name)
        with self._reading():
            if self._strict:
                self._check_roster(self._read_head())
            value = self._store.get(DOCUMENTS, key)
        if value is None:
            return None
        try:
            return self._seals.open(b"document", key, value[:8], value[8:])
        except (InvalidTag, ValueError):
            raise DamagedError(f"document {name!r} of the key table was changed") from None

    def delete_document(self, name: str) -> None:
        """Remove a document; raises UnknownKeyError if there is none."""
        with self.transaction():
            self._check_roster(self._begun)
            if not self._store.delete(DOCUMENTS, _document_name(name)):
                raise UnknownKeyError(f"the key table has no document {name!r}")
            self._changed = self._roster_changed = True

    def documents(self) -> list[str]:
        """Return the names of the documents."""
        with self._reading():
            return [key.decode("ascii", "replace") for key, _ in self._store.items(DOCUMENTS)]

    # ---- accesses -----------------------------------------------------------

    def accesses(self) -> dict[str, Stanza]:
        """Return who may unlock the table: names and wrapped keys (type and hint tell more)."""
        with self._reading():
            if self._strict:
                self._check_roster(self._read_head())
            return {name.decode(): parse_access(v) for name, v in self._store.items(ACCESS)}

    def grant(self, name: str, recipient: Recipient, *, replace: bool = False) -> None:
        """Let somebody unlock the table: a Passphrase makes a login. Raises UsageError if the
        name is taken and replace is not set."""
        key = access_name(name)
        with self.transaction():
            self._check_roster(self._begun)
            taken = self._store.get(ACCESS, key) is not None
            if taken and not replace:
                raise UsageError(f"the key table has an access {name!r} already")
            if not taken and self._store.count(ACCESS) >= MOST_ACCESSES:
                raise UsageError(f"a key table has {MOST_ACCESSES} accesses at most")
            self._store.put(ACCESS, key, self._seals.wrap(recipient, key))
            self._changed = self._roster_changed = True

    def revoke(self, name: str) -> None:
        """Take an access away; never the last one.

        It does not change the table's key: who kept an old copy of the file can read that copy,
        see docs/keytable.md. Raises UnknownKeyError, UsageError.
        """
        with self.transaction():
            self._check_roster(self._begun)
            key = access_name(name)
            if self._store.get(ACCESS, key) is None:
                raise UnknownKeyError(f"the key table has no access {name!r}")
            if self._store.count(ACCESS) == 1:
                raise UsageError("the last access cannot be taken away: nobody could unlock it")
            self._store.delete(ACCESS, key)
            self._changed = self._roster_changed = True

    def change_password(self, login: str, old: str, new: str | Passphrase) -> None:
        """Change a login's password; the rest of the table stays as it is.

        Raises NoIdentityError and ThrottledError for the old one, as `KeyTable.unlock` does.
        """
        with self._lock:
            self._ready()
            if self._depth:
                raise UsageError("a password is not changed inside another change")
            key = unwrap_by_password(self._store, self.table_id, login, old)
            if not self._seals.made_of(key):
                raise DamagedError("the access does not give this key table's key")
            self.grant(login, Passphrase(new) if isinstance(new, str) else new, replace=True)

    # ---- messages -----------------------------------------------------------

    def export(
        self, *, password: str | None = None, certificates: Sequence[bytes] = (),
        armor: bool = True,
    ) -> bytes:
        """Return all keys as an OpenPGP message (docs/keytable.md); see `openpgp.encrypt`."""
        from . import openpgp

        with self._reading():
            text = openpgp.to_json(self.table_id, self._entries())
        return openpgp.encrypt(text, password=password, certificates=certificates, armor=armor)

    def import_(
        self, message: bytes, *, password: str | None = None, key: bytes | None = None
    ) -> tuple[int, int]:
        """Take over the keys of an OpenPGP message; return how many are new, how many were here.

        All or none: raises UsageError if an id stands for another key here; errors of
        `openpgp.decrypt` and `openpgp.from_json`.
        """
        from . import openpgp

        entries = openpgp.from_json(openpgp.decrypt(message, password=password, key=key))
        new = []
        with self.transaction():
            for entry in entries:
                value = self._store.get(ENTRIES, entry.id)
                if value is None:
                    _check_entry(entry.kind, entry.label)
                    new.append(entry)
                    continue
                info, here = self._entry(entry.id, value)
                if not hmac.compare_digest(here, entry.key) or info.kind != entry.kind:
                    raise UsageError(f"key {entry.id.hex()} is another one here: nothing imported")
            for entry in new:
                self._put_entry(*entry)
        return len(new), len(entries) - len(new)


def _valid_id(key_id: bytes) -> bytes:
    if len(key_id) != 16:
        raise UsageError("the id of a key is 16 bytes long")
    return key_id


def _check_entry(kind: str, label: str | None) -> bytes:
    """Return the label as it is stored."""
    if not _KIND.fullmatch(kind):
        raise UsageError("a kind is 1 to 32 of a-z 0-9 . _ -")
    try:
        text = b"\0" if label is None else b"\1" + label.encode()
    except UnicodeEncodeError:
        raise UsageError("the label is not valid text") from None
    if len(text) > _LONGEST_LABEL + 1:
        raise UsageError(f"a label is {_LONGEST_LABEL} bytes long at most")
    return text


def _document_name(name: str) -> bytes:
    if not _DOCUMENT_NAME.fullmatch(name):
        raise UsageError("a document's name is 1 to 64 of a-z 0-9 . _ -")
    return name.encode()
