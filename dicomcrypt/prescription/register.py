"""The register: what was dispensed or cancelled, once and for all.

It stores hashes and a status, and cannot tell whose prescription one is. An entry's number is
SHA-256 of the hash of the serial number and the hash of the doctor's public key, so that only the
doctor who prescribed can cancel. Statements are signed; questions are not.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import hashlib
import json
import os
import sqlite3
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography import x509

from ..errors import DamagedError, DicomcryptError, PolicyError, UsageError
from ..keys.spki import public_der
from ..pki import names, rights
from ..pki.revocation import day
from . import signed, wire
from .holders import Holder
from .opening import Sources

LIMIT = 256 << 10
DISPENSING, CANCELLATION = "dispensing", "cancellation"
DISPENSED, CANCELLED, OPEN = "dispensed", "cancelled", "open"
_PREFIX = b"dicomcrypt prescription\0"
_AGE = datetime.timedelta(hours=1)  # how old a statement may be when it comes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    status TEXT NOT NULL CHECK (status IN ('dispensed', 'cancelled')),
    moment INTEGER NOT NULL,
    statement BLOB NOT NULL CHECK (length(statement) = 32)
) STRICT
"""


class Entry(NamedTuple):
    """number: of the register's rows; 0 and no moment for what it does not know."""

    status: str
    number: int
    moment: datetime.datetime | None

    def as_json(self) -> dict[str, Any]:
        moment = None if self.moment is None else int(self.moment.timestamp())
        return {"status": self.status, "number": self.number, "moment": moment}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Entry:
        """Raises DamagedError for what is none."""
        status, number, moment = (value.get(k) for k in ("status", "number", "moment"))
        if status not in (DISPENSED, CANCELLED, OPEN) or not isinstance(number, int):
            raise DamagedError("the register's answer is not as it must be")
        try:
            when = None if moment is None else datetime.datetime.fromtimestamp(
                moment, datetime.UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise DamagedError("the register's answer is not as it must be") from None
        return cls(status, number, when)


def serial_hash(serial: str) -> bytes:
    return hashlib.sha256(serial.encode()).digest()


def key_hash(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate's public key, which outlives the certificate."""
    return hashlib.sha256(public_der(certificate.public_key())).digest()


def entry_id(serial: bytes, doctor: bytes) -> bytes:
    """Of the hashes of a serial number and of a doctor's key."""
    return hashlib.sha256(_PREFIX + serial + doctor).digest()


# ---- the register's side -------------------------------------------------------


class Register:
    """A register in an SQLite file of mode 0600; answers questions (`wire.Handler`)."""

    def __init__(self, path: str | os.PathLike[str], sources: Sources) -> None:
        self._path, self._sources = os.fspath(path), sources
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            with self._database() as database:
                database.execute(_SCHEMA)
        except sqlite3.DatabaseError:
            raise DamagedError(f"{self._path!r} is no register") from None

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
        finally:
            database.close()

    def answer(
        self, question: dict[str, Any], peer: x509.Certificate | None = None
    ) -> dict[str, Any]:
        """Answer a question, or act on a statement. Raises DamagedError, PolicyError, and
        DicomcryptError if the database cannot be used: then nothing was noted."""
        try:
            return self._answer(question)
        except sqlite3.Error:
            raise DicomcryptError("its database cannot be used now") from None

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = question.get("ask")
        if asked == "status":
            number = entry_id(_hash(question, "serial"), _hash(question, "doctor"))
            return self.status(number).as_json()
        if asked == "state":
            try:
                statement = base64.b64decode(str(question.get("statement")), validate=True)
            except (binascii.Error, ValueError):
                raise DamagedError("the statement is not base64") from None
            return self._state(signed.parse(statement)).as_json()
        raise UsageError("nothing that is known was asked")

    def status(self, number: bytes) -> Entry:
        with self._database() as database:
            return self._find(database, number)

    @staticmethod
    def _find(database: sqlite3.Connection, number: bytes) -> Entry:
        row = database.execute("SELECT status, number, moment FROM entries WHERE id = ?",
                               (number,)).fetchone()
        if row is None:
            return Entry(OPEN, 0, None)
        return Entry(row[0], row[1], datetime.datetime.fromtimestamp(row[2], datetime.UTC))

    def _state(self, statement: signed.SignedMessage) -> Entry:
        """Take a signed statement: once, whoever comes at the same time."""
        actions = {DISPENSING: ("dispense", DISPENSED), CANCELLATION: ("prescribe", CANCELLED)}
        if statement.kind not in actions:
            raise DamagedError("the statement is of another kind")
        action, status = actions[statement.kind]
        certificate, now = statement.certificate, names.now()
        if certificate is None:
            raise DamagedError("the statement has no certificate inside")
        statement.verify(certificate)
        rights.require(certificate, action, trust=self._sources.now(),
                       intermediates=statement.certificates)
        try:
            said = json.loads(statement.content)
        except (ValueError, RecursionError):
            raise DamagedError("the statement is not JSON") from None
        if not isinstance(said, dict):
            raise DamagedError("the statement is not as it must be")
        doctor = _hash(said, "doctor") if status == DISPENSED else key_hash(certificate)
        number = entry_id(_hash(said, "serial"), doctor)
        return self._note(number, status, statement, now)

    def _note(
        self, number: bytes, status: str, statement: signed.SignedMessage, now: datetime.datetime
    ) -> Entry:
        digest, fresh = statement.signature_digest, abs(now - statement.moment) <= _AGE
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT statement FROM entries WHERE id = ?",
                                   (number,)).fetchone()
            if row is None and fresh:
                database.execute(
                    "INSERT INTO entries (id, status, moment, statement) VALUES (?, ?, ?, ?)",
                    (number, status, int(now.timestamp()), digest),
                )
            entry = self._find(database, number)
            database.execute("COMMIT")
        if row is None and not fresh:
            raise PolicyError(f"the statement was signed on {day(statement.moment)}: make it anew, "
                              "or check both clocks")
        # The same statement once more is a question whether it came: its answer may be lost.
        if row is not None and row[0] != digest:
            refuse(entry)
        return entry


def refuse(entry: Entry) -> None:
    """Raise PolicyError for an entry that is dispensed or cancelled."""
    if entry.status != OPEN and entry.moment is not None:
        advice = "it is not dispensed again" if entry.status == DISPENSED else \
            "ask the doctor for another"
        raise PolicyError(f"the prescription was {entry.status} on {day(entry.moment)}: {advice}")


def _hash(value: dict[str, Any], key: str) -> bytes:
    text = value.get(key)
    if not isinstance(text, str) or len(text) != 64 or text.strip("0123456789abcdef"):
        raise DamagedError(f"{key} is no SHA-256 in hexadecimal")
    return bytes.fromhex(text)


# ---- the others' side ----------------------------------------------------------


class Client:
    """A register elsewhere. context: of TLS with a certificate of one's own."""

    def __init__(self, address: str, context: ssl.SSLContext, judge: wire.Judge) -> None:
        self.address, self._context, self._judge = address, context, judge

    def _ask(self, question: dict[str, Any]) -> Entry:
        return Entry.of_json(wire.ask(self.address, question, what="the register", limit=LIMIT,
                                      context=self._context, judge=self._judge))

    def status(self, serial: str, doctor: x509.Certificate) -> Entry:
        """What is known of a prescription; for whoever knows its serial number."""
        return self._ask({"ask": "status", "serial": serial_hash(serial).hex(),
                          "doctor": key_hash(doctor).hex()})

    def state(self, statement: bytes) -> Entry:
        """Have a statement noted. Raises PolicyError if the prescription was dispensed or
        cancelled before, CertificateRefusedError if its signer may not, DamagedError for an answer
        that does not say it was noted."""
        entry = self._ask({"ask": "state", "statement": base64.b64encode(statement).decode()})
        wanted = {DISPENSING: DISPENSED, CANCELLATION: CANCELLED}.get(signed.parse(statement).kind)
        if entry.status != wanted or entry.number < 1 or entry.moment is None:
            raise DamagedError(f"the register did not note that it is {wanted}: it answers "
                               f"{entry.status}")
        return entry


def dispensing(serial: str, doctor: x509.Certificate, pharmacist: Holder) -> bytes:
    """A pharmacist's statement that a prescription is dispensed."""
    said = {"serial": serial_hash(serial).hex(), "doctor": key_hash(doctor).hex(),
            "nonce": os.urandom(16).hex()}
    return signed.sign(json.dumps(said).encode(), pharmacist, DISPENSING)


def cancellation(serial: str, doctor: Holder) -> bytes:
    """A doctor's statement that a prescription of his is cancelled."""
    said = {"serial": serial_hash(serial).hex(), "nonce": os.urandom(16).hex()}
    return signed.sign(json.dumps(said).encode(), doctor, CANCELLATION)
