"""What keeps a record from being erased: holds and retention (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import PolicyError, UsageError
from .keys import VaultKeys
from .rows import Row
from .vault import Vault

HOLDS, RETENTION = "holds", "retention"
#: Keys of the document `retention`: seconds for records without a time of their own; those.
_DEFAULT, _UNTIL = 0, 1
_REASON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SPAN = re.compile(r"([1-9][0-9]{0,3})([dwmy])")
_DAYS = {"d": 1, "w": 7, "m": 30.4375, "y": 365.25}
_DAY = 86400
_MOST_YEARS, _LAST_YEAR = 1000, 9998


class Hold(NamedTuple):
    """reason: a code; since: ns since 1970."""

    record: bytes
    reason: str
    since: int


def parse_span(text: str) -> int:
    """Return the seconds of 30d, 6w, 6m or 10y; raises UsageError."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise UsageError(f"{text!r} is no duration: give 90d, 6m or 10y")
    days = int(found[1]) * _DAYS[found[2]]
    if days > _MOST_YEARS * _DAYS["y"]:
        raise UsageError(f"{text!r} is too long: {_MOST_YEARS}y at most")
    return round(days * _DAY)


def parse_until(text: str, now: float | None = None) -> int:
    """Return a time, seconds since 1970, of a date (2035-12-31, its end) or a duration from now."""
    try:
        date = datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError:
        return round(now if now is not None else time.time()) + parse_span(text)
    if date.year > _LAST_YEAR:
        raise UsageError(f"{text!r} is too late: {_LAST_YEAR}-12-31 at most")
    return round(date.timestamp()) + _DAY


def last_day(until: float) -> str:
    """Return the last day (UTC) of what is kept until then, seconds since 1970."""
    try:
        return datetime.datetime.fromtimestamp(until - 1, datetime.UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return datetime.date.max.isoformat()


# ---- holds -------------------------------------------------------------------


def holds(keys: VaultKeys) -> list[Hold]:
    """Return all holds."""
    return [Hold(*entry) for entry in (keys.document(HOLDS) or {}).get(0, [])]


def hold(vault: Vault, records: Sequence[bytes], reason: str) -> None:
    """Keep a record from being erased; several holds of different reasons are possible."""
    if not _REASON.fullmatch(reason):
        raise UsageError("a reason is a code of up to 32 letters, digits, . _ or -")
    with vault.keys.transaction():
        record = _present(vault.keys, records)
        found = [h for h in holds(vault.keys) if not (h.record in records and h.reason == reason)]
        _put_holds(vault.keys, [*found, Hold(record, reason, time.time_ns())])


def release(vault: Vault, records: Sequence[bytes], reason: str) -> None:
    """Take a hold away. Raises UsageError if there is none with this reason."""
    with vault.keys.transaction():
        found = holds(vault.keys)
        left = [h for h in found if not (h.record in records and h.reason == reason)]
        if len(left) == len(found):
            raise UsageError(f"the record is not held for {reason!r}")
        _put_holds(vault.keys, left)


def _put_holds(keys: VaultKeys, found: Iterable[Hold]) -> None:
    keys.put_document(HOLDS, {0: [list(entry) for entry in found]})


def _present(keys: VaultKeys, records: Sequence[bytes]) -> bytes:
    """Return the first of a record's keys that is there. Raises UsageError if none is, since the
    catalogue was read."""
    for record in records:
        if keys.record_key(record) is not None:
            return record
    raise UsageError("the record was erased or encrypted anew meanwhile: give the command again")


# ---- retention -----------------------------------------------------------------


def default_retention(keys: VaultKeys) -> int:
    """Return the seconds that every record is kept at least, 0 for none."""
    found: int = (keys.document(RETENTION) or {}).get(_DEFAULT, 0)
    return found


def retentions(keys: VaultKeys) -> dict[bytes, int]:
    """Return {record key id: seconds since 1970} of records with a time of their own."""
    return dict((keys.document(RETENTION) or {}).get(_UNTIL, []))


def set_default(keys: VaultKeys, seconds: int) -> None:
    """Keep every record so long at least from its latest study on; 0: not at all."""
    with keys.transaction():
        document = keys.document(RETENTION) or {}
        keys.put_document(RETENTION, document | {_DEFAULT: seconds})


def set_retention(keys: VaultKeys, records: Sequence[bytes], until: int | None) -> None:
    """Keep a record until then, whatever the default says; None: the default counts again."""
    with keys.transaction():
        document = keys.document(RETENTION) or {}
        found = {r: t for r, t in document.get(_UNTIL, []) if r not in records}
        if until is not None:
            found[_present(keys, records)] = until
        keys.put_document(RETENTION, document | {_UNTIL: [list(pair) for pair in found.items()]})


def kept_until(vault: Vault, records: Sequence[bytes], rows: Iterable[Row]) -> int:
    """Return until when a record is kept, seconds since 1970; 0: nothing says so.

    The default counts from the record's latest study date that has passed, or from its latest
    addition if it has none."""
    own = [t for r, t in retentions(vault.keys).items() if r in records]
    if own:
        return max(own)
    default = default_retention(vault.keys)
    return _latest(rows) + default if default else 0


def _latest(rows: Iterable[Row]) -> int:
    studied, added, now = 0, 0, time.time()
    for row in rows:
        added = max(added, (row.added_ns or 0) // 10**9)
        try:
            date = datetime.datetime.strptime(row.StudyDate or "", "%Y%m%d")
        except ValueError:
            continue
        seconds = round(date.replace(tzinfo=datetime.UTC).timestamp())
        if studied < seconds <= now:
            studied = seconds
    return studied or added


# ---- both ------------------------------------------------------------------------


def check_erasable(vault: Vault, records: Sequence[bytes], rows: Iterable[Row]) -> None:
    """Raise PolicyError if a record is held, or its retention has not passed."""
    reasons = sorted({h.reason for h in holds(vault.keys) if h.record in records})
    if reasons:
        raise PolicyError(
            f"the record is held ({', '.join(reasons)}): it can be erased when the hold is off"
        )
    until = kept_until(vault, records, rows)
    if until > time.time():
        raise PolicyError(f"the record is to be kept until the end of {last_day(until)}: it "
                          "cannot be erased before")


def forget_records(keys: VaultKeys, records: Sequence[bytes]) -> None:
    """Remove what is said of records that are erased; in a `transaction` with that."""
    if any(h.record in records for h in holds(keys)):
        _put_holds(keys, [h for h in holds(keys) if h.record not in records])
    if any(r in records for r in retentions(keys)):
        set_retention(keys, records, None)


def rename_records(keys: VaultKeys, successors: Mapping[bytes, bytes]) -> None:
    """Let what is said of record keys hold for those that take their places; in a `transaction`
    with their end."""
    if any(h.record in successors for h in holds(keys)):
        found: dict[tuple[bytes, str], Hold] = {}
        for one in holds(keys):
            one = one._replace(record=successors.get(one.record, one.record))
            first = found.setdefault((one.record, one.reason), one)
            found[one.record, one.reason] = min(first, one)
        _put_holds(keys, found.values())
    if any(r in successors for r in retentions(keys)):
        until: dict[bytes, int] = {}
        for record, time_ in retentions(keys).items():
            record = successors.get(record, record)
            until[record] = max(until.get(record, 0), time_)
        document = keys.document(RETENTION) or {}
        keys.put_document(RETENTION, document | {_UNTIL: [list(pair) for pair in until.items()]})
