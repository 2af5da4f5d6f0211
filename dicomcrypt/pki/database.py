"""The authority's certificate database: SQLite, safe for several processes at a time."""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DamagedError, JobBusyError, UsageError

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY CHECK (length(serial) BETWEEN 1 AND 40),
    issuer TEXT NOT NULL CHECK (issuer IN ('root', 'issuing', 'attribute')),
    kind TEXT NOT NULL CHECK (kind IN ('authority', 'certificate', 'attributes')),
    subject TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT,
    uses TEXT NOT NULL,
    begin TEXT NOT NULL,
    end TEXT NOT NULL,
    issued TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'valid' CHECK (status IN ('valid', 'hold', 'revoked')),
    revoked TEXT,
    reason TEXT,
    renews TEXT REFERENCES certificates (serial),
    der BLOB NOT NULL
);
CREATE TABLE lists (
    issuer TEXT NOT NULL, number INTEGER NOT NULL, made TEXT NOT NULL, next TEXT NOT NULL,
    PRIMARY KEY (issuer, number)
);
PRAGMA user_version = 1;
"""


def stamp(moment: datetime.datetime) -> str:
    """A moment as the database keeps it."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)


class Database:
    """Certificates with their status, and the numbers of revocation lists."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        if not create and not os.path.isfile(path):
            raise UsageError(f"{path!r} is not there: no authority's folder")
        self.path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        with self._errors():
            if create:
                os.chmod(path, 0o600)
                self._db.executescript(_SCHEMA)
            self._db.execute("PRAGMA foreign_keys = ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != 1:
            self.close()
            raise UsageError(f"{path!r} is no authority's database of this version")

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise JobBusyError(
                    f"{self.path!r} is in use by another process: try again"
                ) from None
            raise DamagedError(f"{self.path!r}: {str(error)[:120]}") from None
        except sqlite3.DatabaseError as error:
            raise DamagedError(
                f"{self.path!r} is damaged ({str(error)[:80]}): restore it from its backup"
            ) from None

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """A transaction: no other process changes anything meanwhile; undone by an error."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, text: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._errors():
            return [dict(row) for row in self._db.execute(text, values)]

    # ---- what is in it -------------------------------------------------------

    def add(self, **row: Any) -> None:
        """Add a certificate; a serial that is there already is an error and changes nothing."""
        marks = ", ".join("?" * len(row))
        # The names are this module's callers' keywords, never data.
        text = f"INSERT INTO certificates ({', '.join(row)}) VALUES ({marks})"  # noqa: S608
        self.rows(text, list(row.values()))

    def find(self, serial: int) -> dict[str, Any]:
        """The row of a serial; UsageError if there is none."""
        found = self.rows("SELECT * FROM certificates WHERE serial = ?", [f"{serial:x}"])
        if not found:
            raise UsageError(f"no certificate of serial {serial:x} was issued here")
        return found[0]

    def set_status(self, serial: int, status: str, when: str | None, reason: str | None) -> None:
        self.rows(
            "UPDATE certificates SET status = ?, revoked = ?, reason = ? WHERE serial = ?",
            [status, when, reason, f"{serial:x}"],
        )

    def next_list(self, issuer: str, made: str, following: str) -> int:
        """Take the next number of an issuer's revocation lists."""
        last = self.rows("SELECT max(number) AS n FROM lists WHERE issuer = ?", [issuer])[0]["n"]
        number = (last or 0) + 1
        self.rows("INSERT INTO lists VALUES (?, ?, ?, ?)", [issuer, number, made, following])
        return number

    def get_meta(self, name: str) -> str | None:
        found = self.rows("SELECT value FROM meta WHERE name = ?", [name])
        return found[0]["value"] if found else None

    def set_meta(self, name: str, value: str) -> None:
        self.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, value])
