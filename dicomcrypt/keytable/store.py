"""Where a key table's rows lie: five spaces of keys and values, in SQLite so far.

A store knows nothing of what the rows mean, and protects nothing: all of that is above it.
Another data base comes in by the protocol `Store`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from ..errors import DamagedError, DiskFullError, JobBusyError, OutputExistsError, UsageError
from ..regular import open_regular

HEAD, ACCESS, ENTRIES, DOCUMENTS, ATTEMPTS = "head", "access", "entries", "documents", "attempts"
SPACES = (HEAD, ACCESS, ENTRIES, DOCUMENTS, ATTEMPTS)
#: Bytes of a value.
LONGEST_VALUE = 1 << 21

_APPLICATION = 0x64636B74  # "dckt"
_VERSION = 1
_PAGE = 1000  # rows read at a time
_SCHEMA = {
    space: f"CREATE TABLE {space} (key BLOB PRIMARY KEY NOT NULL CHECK (typeof(key) = 'blob'), "
    "value BLOB NOT NULL CHECK (typeof(value) = 'blob')) WITHOUT ROWID"
    for space in SPACES
}
_GET = {space: f"SELECT value FROM {space} WHERE key = ?" for space in SPACES}  # noqa: S608
_PUT = {space: f"INSERT OR REPLACE INTO {space} VALUES (?, ?)" for space in SPACES}  # noqa: S608
_DELETE = {space: f"DELETE FROM {space} WHERE key = ?" for space in SPACES}  # noqa: S608
_COUNT = {space: f"SELECT count(*) FROM {space}" for space in SPACES}  # noqa: S608
_ITEMS = {
    space: f"SELECT key, value FROM {space} WHERE key > ? ORDER BY key LIMIT {_PAGE}"  # noqa: S608
    for space in SPACES
}


class Store(Protocol):
    """Five spaces of (key, value), both bytes. One transaction sees or does all or nothing."""

    def get(self, space: str, key: bytes) -> bytes | None: ...

    def put(self, space: str, key: bytes, value: bytes) -> None: ...

    def put_many(self, space: str, rows: Iterable[tuple[bytes, bytes]]) -> None: ...

    def delete(self, space: str, key: bytes) -> bool: ...

    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield all rows of a space, keys ascending."""

    def count(self, space: str) -> int: ...

    def transaction(self, *, write: bool = True) -> contextlib.AbstractContextManager[None]:
        """Everything inside happens, or none of it; others with write=True wait."""

    def vacuum(self) -> None:
        """Leave nothing of what was removed or replaced."""

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Put everything, as of this moment, into a new file."""

    def close(self) -> None: ...


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise JobBusyError(f"key table {path!r} is in use by others: try again") from None
        if "full" in text:
            raise DiskFullError(f"no room is left for key table {path!r}: make room") from None
        if "readonly" in text:
            raise UsageError(f"key table {path!r} cannot be written to") from None
        if "no such table" in text:
            raise DamagedError(f"key table {path!r} is damaged: {text}") from None
        raise UsageError(f"cannot use key table {path!r}: {text}") from None
    except sqlite3.IntegrityError:
        raise DamagedError(f"key table {path!r} does not take such a row") from None
    except (sqlite3.DatabaseError, sqlite3.DataError) as error:
        raise DamagedError(f"key table {path!r} is damaged: {error}") from None


class SqliteStore:
    """A store in an SQLite file, which other processes may use at the same time.

    Values that are deleted or replaced are overwritten in the file (secure_delete). For several
    threads, one at a time; not for use after a fork.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an existing file; raises UsageError, DamagedError for what is no key table."""
        self.path = os.fspath(path)
        _check_file(self.path)
        self._connection = self._connect()
        try:
            with _translated(self.path):
                self._check_schema()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        with _translated(self.path):
            connection = sqlite3.connect(
                f"{Path(self.path).absolute().as_uri()}?mode=rw", uri=True, timeout=10,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE + 4096)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        try:
            with _translated(self.path):
                for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "secure_delete = ON",
                               "temp_store = MEMORY", "synchronous = EXTRA"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> SqliteStore:
        """Make an empty store, mode 0600; raises OutputExistsError if the file exists."""
        name = os.fspath(path)
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise OutputExistsError(
                f"{name!r} exists: a key table is never overwritten, choose another name"
            ) from None
        store = cls.__new__(cls)
        store.path = name
        try:
            store._connection = store._connect()
            try:
                with _translated(name):
                    run = store._connection.execute
                    run(f"PRAGMA application_id = {_APPLICATION}")
                    run(f"PRAGMA user_version = {_VERSION}")
                with store.transaction():
                    for statement in _SCHEMA.values():
                        run(statement)
            except BaseException:
                store.close()
                raise
        except BaseException:
            os.unlink(name)
            raise
        return store

    def _check_schema(self) -> None:
        """Refuse triggers, views and other tables: the file may come from anybody."""
        run = self._connection.execute
        version = run("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise UsageError(f"key table {self.path!r} is of version {version}: this program "
                             f"knows version {_VERSION}")
        found = run("SELECT name, sql FROM sqlite_master").fetchmany(len(_SCHEMA) + 1)
        if dict(found) != _SCHEMA or len(found) != len(_SCHEMA):
            raise DamagedError(f"{self.path!r} holds something else than a key table")
        run("PRAGMA journal_mode = DELETE").fetchall()

    def __repr__(self) -> str:
        return f"SqliteStore({self.path!r})"

    def get(self, space: str, key: bytes) -> bytes | None:
        with _translated(self.path):
            row = self._connection.execute(_GET[space], (key,)).fetchone()
        return None if row is None else row[0]

    def put(self, space: str, key: bytes, value: bytes) -> None:
        with _translated(self.path):
            self._connection.execute(_PUT[space], (key, value))

    def put_many(self, space: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        with _translated(self.path):
            self._connection.executemany(_PUT[space], rows)

    def delete(self, space: str, key: bytes) -> bool:
        with _translated(self.path):
            return self._connection.execute(_DELETE[space], (key,)).rowcount > 0

    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        last = b""
        while True:
            with _translated(self.path):
                rows = self._connection.execute(_ITEMS[space], (last,)).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def count(self, space: str) -> int:
        with _translated(self.path):
            count: int = self._connection.execute(_COUNT[space]).fetchone()[0]
        return count

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            with _translated(self.path):
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def vacuum(self) -> None:
        run, limit = self._connection, sqlite3.SQLITE_LIMIT_ATTACHED
        before = run.setlimit(limit, 1)  # SQLite writes into a second database, in memory
        try:
            with _translated(self.path):
                run.execute("VACUUM")
        finally:
            run.setlimit(limit, before)

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise OutputExistsError(f"{name!r} exists: choose another name") from None
        try:
            with _translated(name), contextlib.closing(sqlite3.connect(name)) as copy:
                copy.execute("PRAGMA synchronous = EXTRA")
                self._connection.backup(copy)
        except BaseException:
            os.unlink(name)
            raise

    def close(self) -> None:
        self._connection.close()


def _check_file(path: str) -> None:
    """Look at the first bytes before SQLite does, and at what it opens besides: it would wait for a
    pipe."""
    for beside in (f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        if os.path.lexists(beside) and not stat.S_ISREG(os.lstat(beside).st_mode):
            raise UsageError(f"{beside!r} is not a regular file: remove it")
    try:
        with open(open_regular(path), "rb") as file:
            start = file.read(100)
    except OSError as error:
        raise UsageError(f"cannot read key table {path!r}: {(error.strerror or '').lower()}"
                         ) from None
    if start[:16] != b"SQLite format 3\0" or len(start) < 100 or (
        int.from_bytes(start[68:72], "big") != _APPLICATION
    ):
        raise UsageError(f"{path!r} is no key table")
