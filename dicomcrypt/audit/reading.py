"""Reading a log back, and saying whether it is whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..errors import DamagedError, UsageError
from ..regular import open_regular
from .records import MAX_LINE, ORIGIN, Verifier, parse, signature_of, signed_part

#: A torn line may hold whatever the medium had there; more than this is no torn line.
MAX_TORN = 1 << 20
PathLike = str | os.PathLike[str]
#: What every line of a log begins with, also one that was cut off later.
_PIECE = b'{"at":"'


@dataclass
class Report:
    """What was found in a log that is whole.

    first, last: numbers of its records; parts: its files; events, heads: how many; signed_to:
    number of the last head of a trusted key, -1 if there is none; torn: places where a line was
    cut off by a failure and the log went on; unfinished: bytes of a last line that is cut off;
    heads_checked, heads_before: of the given heads those found here, and those of parts that are
    no longer here; backwards: how often the clock went back.
    """

    log: str = ""
    first: int = -1
    last: int = -1
    parts: int = 0
    events: int = 0
    heads: int = 0
    signed_to: int = -1
    torn: int = 0
    unfinished: int = 0
    heads_checked: int = 0
    heads_before: int = 0
    backwards: int = 0
    last_at: str = ""
    keys: set[str] = field(default_factory=set)

    @property
    def unsigned(self) -> int:
        """Records behind the last signed head: nobody vouches for them yet."""
        return self.last - self.signed_to if self.signed_to >= 0 else self.last - self.first + 1


def part_name(path: PathLike, number: int) -> str:
    return f"{os.fspath(path)}.{number:06}"


def part_files(path: PathLike) -> list[str]:
    """Return the files of a log in order: those that were put aside, then the one in use."""
    folder, base = os.path.split(os.fspath(path))
    pattern = re.compile(re.escape(base) + r"\.[0-9]{6}")
    try:
        names = sorted(n for n in os.listdir(folder or ".") if pattern.fullmatch(n))
    except FileNotFoundError:
        names = []
    found = [os.path.join(folder, name) for name in names]
    if os.path.lexists(path):
        found.append(os.fspath(path))
    return found


#: A line that is no record: its bytes, why, and its number.
_Bad = tuple[bytes, str, int]


class Walker:
    """Goes through a log and checks form, numbers and chain; yields records."""

    def __init__(self, path: PathLike) -> None:
        self.path, self.report = path, Report()
        self._expected: tuple[int, str] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        files = part_files(self.path)
        if not files:
            raise UsageError(f"there is no audit log {os.fspath(self.path)!r}")
        for number, name in enumerate(files):
            with open(open_regular(name), "rb") as file:
                yield from self._part(file, name, last=number == len(files) - 1)
            self.report.parts += 1
        if self.report.first < 0 and not self.report.unfinished:
            raise DamagedError(f"audit log {os.fspath(self.path)!r} is empty")

    def _part(self, file: BinaryIO, name: str, *, last: bool) -> Iterator[dict[str, Any]]:
        bad: _Bad | None = None
        number = 0
        begun = False
        while line := file.readline(MAX_TORN + 2):
            number += 1
            if not line.endswith(b"\n"):
                if bad is not None:
                    break
                if not last or len(line) > MAX_TORN:
                    raise _damaged(name, number, self._next, "its line has no end")
                self.report.unfinished = len(line)
                return
            line = line[:-1]
            try:
                record = parse(line)
            except ValueError as error:
                if bad is not None:
                    break
                bad = line, str(error), number
                continue
            self._link(record, name, number, begun, bad)
            begun, bad = True, None
            yield record
        if bad is not None:
            raise _damaged(name, bad[2], self._next, bad[1])
        if not begun and not last:
            raise DamagedError(f"audit log {name!r} is empty")

    @property
    def _next(self) -> int:
        return self._expected[0] if self._expected else 0

    def _link(
        self, record: dict[str, Any], name: str, number: int, begun: bool, bad: _Bad | None
    ) -> None:
        report = self.report
        wrong = None
        if self._expected is None:
            # The oldest part that is here says itself where it stands.
            self._expected = record["n"], record["prev"]
            start = record["prev"] == ORIGIN
            if record["kind"] != "begin" or (record["part"] == 0, record["n"] == 0) != (
                start, start
            ):
                wrong = "the log does not begin as one"
            report.first, report.log = record["n"], record.get("log", "")
        if (record["kind"] == "begin") == begun:
            wrong = "a part's beginning is not where it should be"
        if "log" in record and record["log"] != report.log:
            wrong = "it is of another log"
        if (record["n"], record["prev"]) != self._expected:
            wrong = "it does not follow the one before it: one was changed, removed or moved"
        if bad is not None:
            digest = hashlib.sha256(bad[0]).hexdigest()
            if record["kind"] != "torn" or (record["digest"], record["bytes"]) != (
                digest, len(bad[0])
            ):
                raise _damaged(name, bad[2], self._next, bad[1])
            report.torn += 1
        elif record["kind"] == "torn":
            wrong = "the torn line that it tells of is not there"
        if wrong:
            raise _damaged(name, number, self._next, wrong)
        report.backwards += record["at"] < report.last_at
        report.last, report.last_at = record["n"], record["at"]
        self._expected = record["n"] + 1, record["sum"]


def _damaged(name: str, number: int, expected: int, why: str) -> DamagedError:
    return DamagedError(
        f"audit log {name!r} is damaged or forged at line {number} (record {expected}): {why}"
    )


def read(path: PathLike) -> Iterator[dict[str, Any]]:
    """Yield a log's events, oldest first, as dictionaries.

    Raises DamagedError at the first record that is not what it was; signatures are not
    checked: that is `verify`."""
    for record in Walker(path):
        if record["kind"] == "event":
            yield record


def read_heads(path: PathLike) -> list[dict[str, Any]]:
    """Return the heads that were written to a second place, at least one; the pieces of heads
    that a failure cut off are left out.

    Raises DamagedError for anything that is no head and for a file without one, UsageError if
    there is no such file."""
    found, name = [], os.fspath(path)
    try:
        with open(open_regular(path), "rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) <= MAX_LINE and _is_piece(line.rstrip(b"\n")):
                    continue
                try:
                    record = parse(line.removesuffix(b"\n"))
                except ValueError as error:
                    raise DamagedError(f"heads {name!r}, line {number}: {error}") from None
                if record["kind"] != "head":
                    raise DamagedError(f"heads {name!r}, line {number}: it is no head")
                found.append(record)
    except OSError as error:
        raise UsageError(f"cannot read heads {name!r}: {(error.strerror or '').lower()}") from None
    if not found:
        raise DamagedError(f"heads {name!r} holds no head, so that it proves nothing: is it the "
                           "right file?")
    return found


def _is_piece(line: bytes) -> bool:
    """Whether a line is the beginning of one that a failure cut off."""
    return _PIECE.startswith(line) or (line.startswith(_PIECE) and not line.endswith(b'"}'))


def verify(
    path: PathLike, trusted: Iterable[Verifier] = (), heads: Sequence[dict[str, Any]] = ()
) -> Report:
    """Check a whole log: form, numbers, chain, signatures, and heads that were kept elsewhere.

    trusted: keys of heads; with any given, every signed head must be by one of them and right,
    and there must be at least one. heads: of `read_heads`; each must stand in the log. Raises
    DamagedError that names the first bad record.
    """
    keys = {verifier.key_id: verifier for verifier in trusted}
    name = os.fspath(path)
    awaited: dict[int, str] = {}
    logs = set()
    for head in heads:
        if keys:
            _check_head(head, keys, f"the head of record {head['n']} that was kept elsewhere")
        if awaited.setdefault(head["n"], head["sum"]) != head["sum"]:
            raise DamagedError(f"two heads of record {head['n']} contradict each other: the log "
                               "was rewritten")
        logs.add(head["log"])
    walker = Walker(path)
    report = walker.report
    for record in walker:
        kind = record["kind"]
        if kind == "event":
            report.events += 1
        elif kind == "head":
            report.heads += 1
            if record["key"]:
                report.keys.add(record["key"])
                if keys:
                    _check_head(record, keys, f"audit log {name!r}: the head at record "
                                              f"{record['n']}")
                    report.signed_to = record["n"]
        expected = awaited.pop(record["n"], None)
        if expected is not None:
            if expected != record["sum"]:
                raise DamagedError(f"audit log {name!r} was rewritten: record {record['n']} is "
                                   "not the head that was kept elsewhere")
            report.heads_checked += 1
    if logs - {report.log}:
        raise DamagedError(f"audit log {name!r} is another log than the one of the heads")
    report.heads_before = sum(n < report.first for n in awaited)
    if missing := [n for n in awaited if n >= report.first]:
        raise DamagedError(f"audit log {name!r} is cut off: it ends with record {report.last}, "
                           f"and the head at record {min(missing)} was kept elsewhere")
    if keys and report.signed_to < 0:
        raise DamagedError(f"audit log {name!r} has no head signed by a trusted key")
    return report


def _check_head(head: dict[str, Any], keys: dict[str, Verifier], what: str) -> None:
    verifier = keys.get(head["key"])
    if verifier is None:
        who = f"signed by {head['key'][:16]}, which is not trusted" if head["key"] else "unsigned"
        raise DamagedError(f"{what} is {who}")
    if not verifier.verify(signed_part(head), signature_of(head)):
        raise DamagedError(f"{what} has a wrong signature")
