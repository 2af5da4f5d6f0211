"""Applies a profile to the elements of a data set, at every depth (PS3.15 E.1.1)."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from .elements import (
    Element,
    Syntax,
    dictionary_vr,
    elements,
    encode,
    inside,
    items,
    sequence,
)
from .profile import Profile, dummy
from .uids import UidMap

_TEXT = frozenset(b"AE AS CS DA DT LO LT PN SH ST TM UC UR UT".split())
_OPAQUE = frozenset((b"UN", b"OB"))
_PADDED_BY_ZERO = frozenset((b"UI", b"OB", b"UN"))
_CODE = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119, 0x00080120))
_SCHEME, _BIRTH_DATE, _PATIENT_ID = 0x00080102, 0x00100030, 0x00100020
_NAMING = frozenset((b"PN", b"LO", b"SH", b"ST", b"LT", b"UC", b"UT"))
#: Elements beside those of group 0010 whose values must not turn up elsewhere either.
_TELLING = frozenset((0x00080050, 0x00080080, 0x00080081, 0x00081040, 0x00081010, 0x00200010,
                      0x00380010, 0x00400254, 0x00321032))  # fmt: skip
#: Code strings by which readers find their way: a name that is like one is not one. Character set,
#: modality, photometric interpretation; relationship, kind, and continuity of content items.
_STRUCTURE = frozenset((0x00080005, 0x00080060, 0x00280004, 0x0040A010, 0x0040A040, 0x0040A050))
_WORDS = re.compile(rb"[\^=\\, ]+")
_SEPARATORS = re.compile(rb"[\^, ]+")
_LEAST_NAME, _LEAST_TEXT = 4, 5


class Cleaned(NamedTuple):
    """A data set after a profile: pieces of what stays, and which elements of the top level were
    changed or removed."""

    pieces: list[bytes]
    moved: list[Element]


class Cleaner:
    """One data set's cleaning. sweep: values, in small letters, at sight of which a text that the
    profile leaves alone is replaced too. names: words, in small letters, that no cleaned text may
    keep. exact: values that code strings are not to hold, as words."""

    def __init__(
        self, profile: Profile, uids: UidMap, sweep: frozenset[bytes] = frozenset(),
        names: frozenset[bytes] = frozenset(), exact: frozenset[bytes] = frozenset(),
    ) -> None:
        self._profile, self._uids, self._sweep, self._names = profile, uids, sweep, names
        self._exact = exact
        #: Identifying values that were met, in small letters: names, numbers, UIDs; and parts of
        #: names.
        self.telling: set[bytes] = set()
        self.names: set[bytes] = set()
        self.exact: set[bytes] = set()

    def again(self) -> Cleaner:
        """A cleaner that knows what this one has met."""
        return Cleaner(self._profile, self._uids, frozenset(self.telling), frozenset(self.names),
                       frozenset(self.exact))

    def met_in(self, data: bytes) -> bool:
        """Whether some bytes hold what this cleaner has met."""
        return _holds(data, self.telling, bare=True)

    def dataset(self, data: bytes, found: Iterable[Element], syntax: Syntax) -> Cleaned:
        """Clean elements of the top level."""
        pieces, moved = [], []
        start = stop = -1  # of a run of bytes that stay
        for element in found:
            new = self._element(data, element, syntax, False, 0)
            if new is None:
                if element.begin != stop:
                    if stop > start:
                        pieces.append(data[start:stop])
                    start = element.begin
                stop = element.end
                continue
            moved.append(element)
            if new:
                if stop > start:
                    pieces.append(data[start:stop])
                start = stop = -1
                pieces.append(new)
        if stop > start:
            pieces.append(data[start:stop])
        return Cleaned(pieces, moved)

    def _element(
        self, data: bytes, e: Element, syntax: Syntax, strict: bool, depth: int
    ) -> bytes | None:
        """What takes an element's place: nothing (b"") or an element; None if it stays.

        strict: inside of what the profile wants a dummy for, texts are replaced, too."""
        action = self._profile.action(e.tag)
        if action == "X":
            self._tell(data, e)
            return b""
        if action == "K":
            return None
        vr = e.vr
        if vr == b"UN":
            vr = dictionary_vr(e.tag) or vr
        if vr == b"SQ" or e.undefined:
            return self._sequence(data, e, syntax, action, strict, depth)
        value = data[e.start : e.stop]
        if not value:
            return None
        if action == "":
            if self._sweep and e.tag not in _STRUCTURE and self._swept(value, e.vr, vr):
                action = "U" if vr == b"UI" else "D"
            elif strict and vr != b"CS" and e.tag not in _CODE and (
                vr in _TEXT or e.vr in _OPAQUE
            ):
                action = "D"
            else:
                return None
        self._tell(data, e)
        if action == "U":
            new = self._uids.new(value)
            if new == value:
                return None
            if len(value) > 8:
                self.telling.update(uid for uid in value.rstrip(b"\0 ").split(b"\\")
                                    if not uid.startswith(b"1.2.840.10008."))
        elif action == "D":
            if e.tag == _PATIENT_ID:  # one for all patients would make one patient of them
                new = self._uids.pseudonym(value)
            else:
                new = self._uids.new(value) if vr == b"UI" else dummy(vr)
        elif action == "C" and e.vr in _NAMING:
            new = clean_text(value, self._names)
            if new == value:
                return None
        else:
            new = b""
        if len(new) & 1 and vr not in _PADDED_BY_ZERO:
            new += b" "
        return encode(e.tag, e.vr, new, syntax)

    def _swept(self, value: bytes, vr: bytes, meant: bytes) -> bool:
        """Whether a value that the profile leaves alone holds what was met. In code strings names
        count as whole words, and as they are written: MONOCHROME2 is about no Rome."""
        if vr == b"CS":
            return any(re.search(rb"(?<![A-Za-z0-9])%b(?![A-Za-z0-9])" % re.escape(text), value)
                       for text in self._exact if text in value)
        if vr in _TEXT or vr in _OPAQUE or meant == b"UI":
            return _holds(value, self._sweep, bare=vr in _OPAQUE)
        return False

    def _sequence(
        self, data: bytes, e: Element, syntax: Syntax, action: str, strict: bool, depth: int
    ) -> bytes | None:
        if action == "Z":
            return encode(e.tag, e.vr, b"", syntax) if e.stop > e.start else None
        strict = strict or action == "D"
        inner = inside(e.vr, syntax)
        end = e.end if e.undefined else e.stop
        contents, changed = [], False
        for begin, start, stop in items(data, e.start, end, inner, delimited=e.undefined,
                                        depth=depth):
            if begin == start:
                break
            found = elements(data, start, stop, inner, depth + 1)
            foreign = strict and _local_code(data, found)
            pieces = []
            for one in found:
                new = self._element(data, one, inner, strict, depth + 1)
                if foreign and new is None and one.tag in _CODE and one.tag != _SCHEME:
                    new = encode(one.tag, one.vr, dummy(one.vr), inner)
                if new is None:
                    pieces.append(data[one.begin : one.end])
                else:
                    changed = True
                    pieces.append(new)
            contents.append(b"".join(pieces))
        if not changed:
            return None
        return sequence(e.tag, contents, syntax, vr=e.vr, undefined=e.undefined)

    def _tell(self, data: bytes, e: Element) -> None:
        """Remember a value that is identifying."""
        if e.stop - e.start > 1024:
            return
        vr = e.vr if e.vr != b"UN" else dictionary_vr(e.tag)
        whole = data[e.start : e.stop].strip(b" \0")
        value = whole.lower()
        if e.tag == _BIRTH_DATE and len(value) >= _LEAST_TEXT:
            self.telling.update(_dates(value))
        elif vr in _NAMING and (vr == b"PN" or e.tag >> 16 == 0x0010 or e.tag in _TELLING):
            self.exact.update(part for part in (*_WORDS.split(whole), whole)
                              if len(part) >= _LEAST_NAME)
            for one in value.split(b"\\"):
                if vr == b"PN":
                    for group in one.split(b"="):
                        self._tell_name(group)
                if len(one) >= _LEAST_TEXT:
                    self.telling.add(one)

    def _tell_name(self, name: bytes) -> None:
        """Remember the parts of a name, and short ones together."""
        parts = [part for part in _SEPARATORS.split(name) if part]
        self.names.update(parts)
        for part in parts:
            self.telling.update(form for form in _spellings(part) if len(form) >= _LEAST_NAME)
        if len(parts) > 1 and min(map(len, parts[:2])) < _LEAST_NAME:
            family, given = parts[:2]
            forms = [family + b" " + given, given + b" " + family, family + b", " + given]
            if not (family + given).isascii():  # such as Chinese, which has no blanks
                forms.append(family + given)
            self.telling.update(form for form in forms if len(form) >= _LEAST_TEXT)


def _holds(data: bytes, texts: Iterable[bytes], *, bare: bool) -> bool:
    """Whether some bytes hold one of these texts, in capital letters or small ones; bare: with
    zero bytes between, as UTF-16 has them, too."""
    low = data.lower()
    kinds = (low, low.replace(b"\0", b"")) if bare else (low,)
    return any(text in kind for text in texts for kind in kinds)


def _spellings(part: bytes) -> set[bytes]:
    """Part of a name as others may have written it: letters beyond ASCII large, small, or without
    their marks."""
    if part.isascii():
        return {part}
    try:
        coding, text = "utf-8", part.decode()
    except UnicodeDecodeError:
        coding, text = "latin-1", part.decode("latin-1")
    low = text.lower()
    plain = unicodedata.normalize("NFKD", low).encode("ascii", "ignore")
    german = low.translate(_GERMAN).encode("ascii", "ignore")
    forms = {form.encode(coding, "ignore").lower() for form in (low, text.upper(), text.title())}
    return {part, plain, german, *forms}


_GERMAN = {ord("\u00e4"): "ae", ord("\u00f6"): "oe", ord("\u00fc"): "ue", ord("\u00df"): "ss"}


def _dates(value: bytes) -> list[bytes]:
    """A date of DICOM, and as it stands in texts."""
    if len(value) != 8 or not value.isdigit():
        return [value]
    y, m, d = value[:4], value[4:6], value[6:]
    short_m, short_d = m.lstrip(b"0"), d.lstrip(b"0")
    found = [value]
    for mark in b"- . /".split():
        found += [mark.join(parts) for parts in (
            (y, m, d), (d, m, y), (m, d, y), (short_d, short_m, y), (short_m, short_d, y)
        )]  # fmt: skip
    return found


def _local_code(data: bytes, found: Iterable[Element]) -> bool:
    """Whether an item has a code of somebody's own: its meaning may say anything."""
    for element in found:
        if element.tag == _SCHEME:
            return data[element.start : element.stop].strip(b" \0") not in _schemes()
    return True


@functools.cache
def _schemes() -> frozenset[bytes]:
    """Coding schemes that are public: of PS3.16's concepts, and SNOMED's old names."""
    from pydicom.sr._concepts_dict import concepts

    return frozenset(name.encode() for name in concepts) | {b"SRT", b"SNM3"}


# ---- texts ---------------------------------------------------------------------

_WORD = re.compile(rb"[A-Za-z]+")
_CAPITALS = re.compile(r"[A-Z]?[a-z]{2,}")


@functools.cache
def vocabulary() -> frozenset[bytes]:
    """Words, in small letters, of the concepts of PS3.16 as pydicom has them: anatomy, views,
    procedures, equipment."""
    from pydicom.sr._concepts_dict import concepts

    found: set[bytes] = set()
    for scheme in ("DCM", "SCT"):
        for keyword in concepts[scheme]:
            found.update(word.lower().encode() for word in _CAPITALS.findall(keyword))
    return frozenset(word for word in found if len(word) > 2)


def clean_text(value: bytes, names: frozenset[bytes] = frozenset()) -> bytes:
    """A text with those of its words alone that the standard's own vocabulary has; no numbers, and
    none of these names, in small letters."""
    known = vocabulary() - names
    return b" ".join(word for word in _WORD.findall(value) if word.lower() in known)
