"""Matching as DICOM queries do (PS3.4 section C.2.2.2), as SQL over the catalogue's database."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from .database import name_key
from .rows import TEXT

_UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
         "TransferSyntaxUID"}  # fmt: skip
_DATES = {"PatientBirthDate", "StudyDate", "SeriesDate"}
_TIMES = {"StudyTime"}
_CODES = {"PatientSex", "Modality", "BodyPartExamined"}
_NAMES = {"PatientName": "person", "ReferringPhysicianName": "doctor"}
_OWN = {"SOPInstanceUID", "InstanceNumber"}

_DATE = r"\d{8}|\d{4}-\d{2}-\d{2}|\d{4}\.\d{2}\.\d{2}"
_TIME = r"\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?"
_RANGE = r"({0})?\s*(?:-|\.\.|/)\s*({0})?"
Condition = tuple[str, list[Any]]


class Query:
    """Keys that all have to match: {keyword or "path": text, or several texts, one of which has
    to match}.

    Text matches as a whole, with `*` and `?`, and case counts; codes (Modality) are upper case.
    An empty text, and `*`, match everything. UIDs may be lists (`\\` between). Dates (20260131 or
    2026-01-31) and times may be ranges: `A-B`, `A-`, `-B`. Names match without case and accents, in
    any of their representations; components that are left out at the end match everything:
    `mueller`, `mueller^h*`, `^hans`. A path matches itself and what lies in the folder of this
    name. exact: nothing has another meaning than itself, and nothing may be empty: for those who
    give away what matches. Raises UsageError for what cannot be a query."""

    def __init__(
        self, keys: Mapping[str, str | bytes | Sequence[str | bytes] | None], *,
        exact: bool = False,
    ) -> None:
        self._exact = exact
        self.conditions: list[Condition] = []
        self.by_uid = False  # whether the index of instance UIDs is wanted
        for keyword, wanted in keys.items():
            if wanted is None or wanted == ():
                continue
            texts = [wanted] if isinstance(wanted, str | bytes) else list(wanted)
            self._add(keyword, texts)

    def _add(self, keyword: str, texts: list[str | bytes]) -> None:
        if keyword == "path":
            found = [_path(os.fsencode(text), exact=self._exact) for text in texts]
        elif keyword not in TEXT.values():
            raise UsageError(f"{keyword!r} is no key of the catalogue: it has path, "
                             f"{', '.join(sorted(TEXT.values()))}")
        else:
            column = f'{"o" if keyword in _OWN else "g"}."{keyword}"'
            plain = [_text(text) for text in texts]
            if keyword in _UIDS:
                plain = [uid.strip() for text in plain for uid in text.split("\\")]
            if self._exact and "" in plain:
                raise UsageError(f"an empty {keyword} names nothing: give --all if all is meant")
            match = _same if self._exact and keyword not in _UIDS else _matcher(keyword)
            self.by_uid |= keyword == "SOPInstanceUID"
            found = [None if text in ("", "*") and not self._exact else match(column, text)
                     for text in plain]
        if None in found:
            return  # universal
        either = [condition for condition in found if condition is not None]
        self.conditions.append((
            "(" + " OR ".join(sql for sql, _ in either) + ")",
            [value for _, values in either for value in values],
        ))

    def where(self) -> Condition:
        """Return SQL over objects `o` and groups `g`, and its parameters: no text of the query is
        in the SQL."""
        if not self.conditions:
            return "1", []
        return (" AND ".join(sql for sql, _ in self.conditions),
                [value for _, values in self.conditions for value in values])


def _text(text: str | bytes) -> str:
    plain = os.fsdecode(text).strip(" \0")
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise UsageError("a query is not UTF-8") from None
    return plain


def _matcher(keyword: str) -> Callable[[str, str], Condition]:
    if keyword in _UIDS:
        return _uid
    if keyword in _DATES:
        return _date
    if keyword in _TIMES:
        return _time
    if keyword in _NAMES:
        return lambda _, text: _name(f"g.{_NAMES[keyword]}", text)
    if keyword in _CODES:
        return lambda column, text: _like(column, text.upper())
    return _like


def _same(column: str, text: str) -> Condition:
    return f"{column} = ?", [text]


def _glob(text: str) -> str:
    """Return a pattern for GLOB: only `*` and `?` mean something."""
    return re.sub(r"\*+", "*", text.replace("[", "[[]"))


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _like(column: str, text: str) -> Condition:
    if _has_wildcard(text):
        return f"{column} GLOB ?", [_glob(text)]
    return f"{column} = ?", [text]


def _uid(column: str, text: str) -> Condition:
    if not re.fullmatch(r"[0-9.]+", text):
        raise UsageError("a UID is of digits and dots, and matches as a whole")
    if column.startswith("o."):
        from zlib import crc32

        return f"(o.uid_crc = ? AND {column} = ?)", [crc32(text.encode()), text]
    return f"{column} = ?", [text]


def _bounds(text: str, form: str, what: str) -> tuple[str | None, str | None]:
    """Return the ends of a range, as they were written; both the same for one value."""
    if re.fullmatch(form, text, re.ASCII):
        return text, text
    found = re.fullmatch(_RANGE.format(form), text, re.ASCII)
    if found is None or found.groups() == (None, None):
        raise UsageError(f"not a {what}, nor a range A-B, A- or -B of them")
    return found.group(1), found.group(2)


def _between(sql: str, low: str | None, high: str | None) -> Condition:
    parts, values = [], []
    for sign, end in ((">=", low), ("<=", high)):
        if end is not None:
            parts.append(f"{sql} {sign} ?")
            values.append(end)
    return f"({' AND '.join(parts)})", values


def _date(column: str, text: str) -> Condition:
    ends = []
    for end in _bounds(text, _DATE, "date (20260131 or 2026-01-31)"):
        digits = None if end is None else re.sub(r"[-.]", "", end)
        if digits is not None:
            try:
                datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
            except ValueError:
                raise UsageError("there is no such date") from None
        ends.append(digits)
    return _between(column, ends[0], ends[1])


def _time(column: str, text: str) -> Condition:
    low, high = (None if end is None else re.sub(r"[:.]", "", end)
                 for end in _bounds(text, _TIME, "time (14, 1430, 14:30, 143000.5)"))
    for end in (low, high):
        if end and (end[:2] > "23" or end[2:4] > "59" or end[4:6] > "60"):
            raise UsageError("there is no such time")
    whole = f"substr(replace(replace({column}, '.', ''), ':', '') || '000000000000', 1, 12)"
    # a time that is cut short stands for all of its hour, minute or second
    return _between(whole, low and low.ljust(12, "0"), high and high.ljust(12, "9"))


def _name(column: str, text: str) -> Condition:
    groups = text.split("=")
    if len(groups) > 3:
        raise UsageError("a name has three representations at most (PS3.5 section 6.2.1)")
    parts: list[str] = []
    values: list[Any] = []
    for number, group in enumerate(groups, 1):
        components = [name_key(component) or "*" for component in group.split("^")]
        while components and components[-1] == "*":
            components.pop()
        if not components:
            continue
        wanted = "^".join(components)
        columns = [f"name{number}"] if len(groups) > 1 else ["name1", "name2", "name3"]
        if _has_wildcard(wanted):
            one, ends = "{0} GLOB ? OR {0} GLOB ?", [_glob(wanted), _glob(f"{wanted}^*")]
        else:  # what begins with `wanted^` lies before `wanted_`
            one, ends = "{0} = ? OR ({0} > ? AND {0} < ?)", [wanted, f"{wanted}^", f"{wanted}_"]
        parts.append(" OR ".join(one.format(c) for c in columns))
        values += ends * len(columns)
    if not parts:
        return "1", []
    both = " AND ".join(f"({part})" for part in parts)
    return f"{column} IN (SELECT id FROM people WHERE {both})", values  # noqa: S608


def _path(path: bytes, *, exact: bool = False) -> Condition | None:
    if exact and path in (b"", b"."):
        raise UsageError("an empty path names nothing: give --all if all is meant")
    if path in (b"", b"*") and not exact:
        return None
    if not exact and (b"*" in path or b"?" in path):
        pattern = re.sub(rb"\*+", b"*", path.replace(b"[", b"[[]"))
        return ("CAST(ifnull(g.folder, x'') || o.name AS TEXT) GLOB CAST(? AS TEXT)", [pattern])
    path = path.rstrip(b"/")
    cut = path.rfind(b"/") + 1
    return ("((g.folder IS ? AND o.name = ?) OR (g.folder >= ? AND g.folder < ?))",
            [path[:cut] or None, path[cut:], path + b"/", path + b"0"])
