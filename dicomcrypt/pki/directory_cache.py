"""What directories answered, kept for a while.

SQLite, readable by its owner alone. A row is kept under the directory's settings and a digest of
what was asked. Whatever comes out is parsed and checked like a fresh answer: the cache saves
time, and is not trusted more than the network. A cache that cannot be used is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError

SECTION = "directory_cache"
#: Seconds that an answer is good for: with something in it, and with nothing.
KEPT, KEPT_EMPTY = 3600.0, 300.0
#: Seconds after which a stale answer is thrown away.
FORGOTTEN = 30 * 86400.0
_LIMIT = 1 << 26  # bytes of all answers together
_SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    directory BLOB NOT NULL, query BLOB NOT NULL, stored REAL NOT NULL, expires REAL NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (directory, query))"""


def cache_path() -> Path | None:
    """Where the configuration keeps the cache: [directory_cache] path, else beside the
    configuration; None if there is no configuration or `path` is empty."""
    from .. import config

    told = config.section(SECTION)
    where = config.config_path()
    if where is None or told.get("path") == "":
        return None
    if not isinstance(told.get("path", ""), str):
        raise UsageError(f"configuration: [{SECTION}] path is no file name")
    return where.parent / os.path.expanduser(told.get("path") or "cache/directories.sqlite")


class Cache:
    """Answers by directory and query; `path` None keeps nothing."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = Path(path) if path is not None else None

    def get(
        self, directory: str, query: str, *, stale: bool = False
    ) -> tuple[list[bytes], float] | None:
        """Return the values and their age in seconds, or None; expired ones only if `stale`."""
        with self._open() as database:
            if database is None:
                return None
            row = database.execute(
                "SELECT body, stored, expires FROM answers WHERE directory = ? AND query = ?",
                (_digest(directory), _digest(query)),
            ).fetchone()
            now = time.time()
            # an answer from the future is the work of a clock put back
            if row is None or row[1] > now + 60 or (row[2] <= now and not stale):
                return None
            return _unpack(row[0]), max(0.0, now - row[1])
        return None

    def put(
        self, directory: str, query: str, values: Sequence[bytes], expires: float | None = None
    ) -> None:
        """Keep an answer until `expires` (seconds since the epoch) at the latest."""
        now = time.time()
        until = now + (KEPT if values else KEPT_EMPTY)
        if expires is not None:
            until = min(until, expires)
        with self._open() as database:
            if database is None:
                return
            database.execute("DELETE FROM answers WHERE expires < ?", (now - FORGOTTEN,))
            used = database.execute("SELECT total(length(body)) FROM answers").fetchone()[0]
            if used > _LIMIT:
                database.execute("DELETE FROM answers")
            database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
                (_digest(directory), _digest(query), now, until, _pack(values)),
            )

    def forget(self, directory: str) -> None:
        """Throw away what a directory answered: something changed there."""
        with self._open() as database:
            if database is not None:
                database.execute("DELETE FROM answers WHERE directory = ?", (_digest(directory),))

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The database, or None; an error of it ends what was begun and nothing more."""
        if self.path is None:
            yield None
            return
        import sqlite3

        database = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            database = sqlite3.connect(self.path, timeout=1)
            database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            if database is not None:
                database.close()
            if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
                with contextlib.suppress(OSError):
                    self.path.unlink()
            yield None
            return
        try:
            with contextlib.suppress(sqlite3.Error), database:
                yield database
        finally:
            database.close()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _pack(values: Sequence[bytes]) -> bytes:
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def _unpack(body: bytes) -> list[bytes]:
    values, position = [], 0
    while position < len(body):
        size = int.from_bytes(body[position : position + 4], "big")
        values.append(body[position + 4 : position + 4 + size])
        position += 4 + size
    return values
