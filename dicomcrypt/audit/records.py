"""A log's lines: canonical JSON, chained by SHA-256 (docs/audit.md)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from ..errors import UsageError
from .vocabulary import check_event

CONTEXT, HEAD_CONTEXT = b"dcmx/1 audit\0", b"dcmx/1 audit head\0"
MAX_LINE = 16384
ORIGIN = "0" * 64
_HASH = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}Z")
_COMMON = {"kind", "n", "at", "prev", "sum"}
_FIELDS = {
    "begin": {"log", "part"},
    "event": {"action", "actor", "objects", "outcome", "details"},
    "head": {"log", "key", "signature"},
    "torn": {"bytes", "digest"},
}


class Signer(Protocol):
    """A key that signs heads; `policy.signing.Signer` is one."""

    @property
    def key_id(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


class Verifier(Protocol):
    """A public key that heads are checked with; `policy.signing.Verifier` is one."""

    key_id: str

    def verify(self, data: bytes, signature: bytes) -> bool: ...


def now() -> str:
    """The time in UTC with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def chained(kind: str, n: int, prev: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole record behind the one whose sum is `prev`."""
    record = {"kind": kind, "n": n, "at": now(), "prev": prev, **fields}
    record["sum"] = sum_of(record)
    return record


def sum_of(record: Mapping[str, Any]) -> str:
    """SHA-256 over a record without its sum."""
    rest = {key: value for key, value in record.items() if key != "sum"}
    return hashlib.sha256(CONTEXT + canonical(rest)).hexdigest()


def line_of(record: Mapping[str, Any]) -> bytes:
    line = canonical(record) + b"\n"
    if len(line) > MAX_LINE:
        raise UsageError("a record of the audit log is too long")
    return line


def signed_part(record: Mapping[str, Any]) -> bytes:
    """What a head's signature covers: everything in it, and by `prev` all before it."""
    rest = {key: value for key, value in record.items() if key not in ("sum", "signature")}
    return HEAD_CONTEXT + canonical(rest)


def head(n: int, prev: str, log: str, signer: Signer | None) -> dict[str, Any]:
    """Return a head behind the record whose sum is `prev`, signed if somebody signs."""
    record = {"kind": "head", "n": n, "at": now(), "prev": prev, "log": log,
              "key": signer.key_id if signer else "", "signature": ""}
    if signer:
        record["signature"] = base64.b64encode(signer.sign(signed_part(record))).decode()
    record["sum"] = sum_of(record)
    return record


def signature_of(record: Mapping[str, Any]) -> bytes:
    return base64.b64decode(record["signature"], validate=True)


def parse(line: bytes) -> dict[str, Any]:
    """Parse a line without its end; raises ValueError, saying what is wrong.

    A record has one form only: what is laid out otherwise is not taken."""
    if len(line) >= MAX_LINE:
        raise ValueError("it is too long")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS or set(record) != _COMMON | _FIELDS[kind]:
        raise ValueError("it has other fields than a record")
    try:
        same = canonical(record) == line
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ValueError("it is not in canonical form")
    if not _number(record["n"]) or not _text(record["prev"], _HASH) \
            or not _text(record["at"], _TIME):
        raise ValueError("its number, time or chain is malformed")
    _check_kind(kind, record)
    if record["sum"] != sum_of(record):
        raise ValueError("its sum is wrong")
    return record


def _check_kind(kind: str, record: dict[str, Any]) -> None:
    if kind == "event":
        if not isinstance(record["objects"], list) or not isinstance(record["details"], dict):
            raise ValueError("its objects or details are malformed")
        check_event(*(record[f] for f in ("action", "actor", "objects", "outcome", "details")))
    elif kind == "torn":
        if not _number(record["bytes"]) or not _text(record["digest"], _HASH):
            raise ValueError("it is malformed")
    else:
        if not _text(record["log"], _LOG):
            raise ValueError("its log's id is malformed")
        if kind == "begin" and not _number(record["part"]):
            raise ValueError("its part is malformed")
        if kind == "head":
            _check_head(record)


def _check_head(record: dict[str, Any]) -> None:
    try:
        signature_of(record)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("its signature is malformed") from None
    if record["key"] != "" and not _text(record["key"], _HASH):
        raise ValueError("its key is malformed")
    if (record["key"] == "") != (record["signature"] == ""):
        raise ValueError("its key and signature do not go together")


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _text(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
