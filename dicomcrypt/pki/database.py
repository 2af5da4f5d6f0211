"""The authority's certificate database: SQLite, safe for several processes at a time."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cryptography import x509

from ..errors import DamagedError, DiskFullError, JobBusyError, UsageError
from .names import Role

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


_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master"


def _objects(database: sqlite3.Connection) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in database.execute(_OBJECTS).fetchmany(64)}


@functools.cache
def _expected() -> set[tuple[Any, ...]]:
    """What a database's schema is: triggers and views would change what is done to it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        return _objects(fresh)


# ---- what a row may be ---------------------------------------------------------

_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_REASON = re.compile(r"[A-Za-z]{1,32}")


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(moment(value))
    except (ValueError, OverflowError):
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_serial(value: Any) -> bool:
    return isinstance(value, str) and bool(_SERIAL.fullmatch(value)) and int(value, 16) > 0


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_COLUMNS: dict[str, Callable[[Any], bool]] = {
    "serial": _is_serial, "issuer": _one_of("root", "issuing", "attribute"),
    "kind": _one_of("authority", "certificate", "attributes"), "subject": _is_text,
    "email": _is_text, "role": _or_none(_one_of(*Role)), "uses": _is_text, "begin": _is_moment,
    "end": _is_moment, "issued": _is_moment, "status": _one_of("valid", "hold", "revoked"),
    "revoked": _or_none(_is_moment),
    "reason": _or_none(lambda value: isinstance(value, str) and bool(_REASON.fullmatch(value))),
    "renews": _or_none(_is_serial), "der": lambda value: isinstance(value, bytes),
}  # fmt: skip


class Database:
    """Certificates with their status, and the numbers of revocation lists."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        if not create and not os.path.isfile(path):
            raise UsageError(f"{path!r} is not there: no authority's folder")
        self.path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            with self._errors():
                self._db.execute("PRAGMA trusted_schema = OFF")
                if create:
                    os.chmod(path, 0o600)
                    self._db.executescript(_SCHEMA)
                self._db.execute("PRAGMA foreign_keys = ON")
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version != 1:
                    raise UsageError(f"{path!r} is no authority's database of this version")
                if _objects(self._db) != _expected():
                    raise DamagedError(f"{path!r} holds something else than an authority's tables "
                                       "(a trigger, view or changed table): restore it from its "
                                       "backup")
        except BaseException:
            self.close()
            raise

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
            if "full" in str(error):
                raise DiskFullError(
                    f"no room is left for {self.path!r}: nothing is changed"
                ) from None
            if "readonly" in str(error) or "unable to open" in str(error):
                raise UsageError(f"{self.path!r} cannot be written to") from None
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
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, text: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._errors():
            return [dict(row) for row in self._db.execute(text, values)]

    def certificates(
        self, where: str = "1", values: Sequence[Any] = (), order: str = "issued, serial"
    ) -> Iterator[dict[str, Any]]:
        """Yield checked rows of the certificates for which an SQL condition holds.

        Raises DamagedError for a row that this program does not write."""
        # Conditions are this package's own, never data.
        text = f"SELECT * FROM certificates WHERE {where} ORDER BY {order}"  # noqa: S608
        for row in self.rows(text, values):
            yield self._checked(row)

    def _checked(self, row: dict[str, Any]) -> dict[str, Any]:
        for column, fits in _COLUMNS.items():
            if not fits(row[column]):
                raise self._damaged(row, f"its {column} is none")
        if (row["revoked"] is None) != (row["status"] == "valid"):
            raise self._damaged(row, "its status and its date of revocation contradict each other")
        return row

    def _damaged(self, row: dict[str, Any], why: str) -> DamagedError:
        serial = row["serial"] if _is_serial(row["serial"]) else "of an impossible serial"
        return DamagedError(f"{self.path!r} is damaged or was changed by hand: certificate "
                            f"{serial}: {why}; restore it from its backup")

    def certificate_of(self, row: dict[str, Any]) -> x509.Certificate:
        """The certificate of a row that is none of attributes; DamagedError if it is another."""
        from .files import PARSE_ERRORS, quiet

        try:
            with quiet():
                found = x509.load_der_x509_certificate(row["der"])
                if f"{found.serial_number:x}" == row["serial"]:
                    return found
        except PARSE_ERRORS:
            pass
        raise self._damaged(row, "what was issued is not what is kept")

    # ---- what is in it -------------------------------------------------------

    def add(self, **row: Any) -> None:
        """Add a certificate; a serial that is there already is an error and changes nothing."""
        marks = ", ".join("?" * len(row))
        # The names are this module's callers' keywords, never data.
        text = f"INSERT INTO certificates ({', '.join(row)}) VALUES ({marks})"  # noqa: S608
        self.rows(text, list(row.values()))

    def find(self, serial: int) -> dict[str, Any]:
        """The row of a serial; UsageError if there is none."""
        for row in self.certificates("serial = ?", [f"{serial:x}"]):
            return row
        raise UsageError(f"no certificate of serial {serial:x} was issued here")

    def set_status(
        self, serial: int, status: str, when: str | None, reason: str | None
    ) -> dict[str, Any]:
        """Change a certificate's status; return its row as it stands then."""
        self.rows(
            "UPDATE certificates SET status = ?, revoked = ?, reason = ? WHERE serial = ?",
            [status, when, reason, f"{serial:x}"],
        )
        row = self.find(serial)
        if (row["status"], row["revoked"], row["reason"]) != (status, when, reason):
            raise self._damaged(row, "its status does not change")
        return row

    def last_list(self, issuer: str) -> int:
        """The number of an issuer's newest revocation list, 0 if there is none."""
        last = self.rows("SELECT max(number) AS n FROM lists WHERE issuer = ?", [issuer])[0]["n"]
        if last is not None and not (isinstance(last, int) and 0 < last < 1 << 62):
            raise DamagedError(f"{self.path!r} is damaged: the number of a revocation list is "
                               "none; restore it from its backup")
        return last or 0

    def add_list(self, issuer: str, number: int, made: str, following: str) -> None:
        self.rows("INSERT INTO lists VALUES (?, ?, ?, ?)", [issuer, number, made, following])

    def get_meta(self, name: str) -> str | None:
        found = self.rows("SELECT value FROM meta WHERE name = ?", [name])
        if found and not isinstance(found[0]["value"], str):
            raise DamagedError(f"{self.path!r} is damaged: {name} is no text")
        return found[0]["value"] if found else None

    def set_meta(self, name: str, value: str) -> None:
        self.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, value])
