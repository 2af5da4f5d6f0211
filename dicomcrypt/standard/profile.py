"""What the Basic Application Level Confidentiality Profile (PS3.15 E.2) with options (E.3) does
with each element: the table of PS3.15 E.1-1 in `profile.json`, made by tools/make_profile_table.py.

Actions: "K" keep, "X" remove, "Z" empty, "D" put a dummy in its place, "U" put another UID in its
place, "C" clean a text. Where the table leaves a choice, such as X/Z/D, what keeps most objects
conforming is done: a dummy before an empty value before removal.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from .elements import dictionary_vr

#: Options: what is kept ("retain") or cleaned, by the words of the command line.
RETAIN = ("dates", "devices", "institution", "patient", "uids")
CLEAN = ("descriptors",)
_CHOICES = {"X/Z": "Z", "X/D": "D", "Z/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}
#: What the marks of PS3.15 E.1 and what is encrypted are in.
ENCRYPTED_ATTRIBUTES, IDENTITY_REMOVED = 0x04000500, 0x00120062
METHOD, METHOD_CODES, TEMPORAL = 0x00120063, 0x00120064, 0x00280303
MARKS = frozenset((ENCRYPTED_ATTRIBUTES, IDENTITY_REMOVED, METHOD, METHOD_CODES, TEMPORAL))
_GROUPS = frozenset(range(0x5000, 0x5100, 2)) | frozenset(range(0x6000, 0x6100, 2))


@functools.cache
def table() -> dict[str, Any]:
    """The shipped table: "origin", "codes" {option: [value, meaning]}, "elements" {tag as eight
    digits, x for any: [action, {option: "K" or "C"}]}."""
    import json

    with open(os.path.join(os.path.dirname(__file__), "profile.json"), "rb") as file:
        found: dict[str, Any] = json.load(file)
    return found


class Profile:
    """The profile with some options: `action` gives an element's.

    retain: of `RETAIN`, clean: of `CLEAN`."""

    def __init__(self, retain: frozenset[str] = frozenset(), clean: frozenset[str] = frozenset()):
        self.options = tuple(sorted(retain | clean))
        self._actions: dict[int, str] = {}
        for digits, (basic, options) in table()["elements"].items():
            if "x" in digits:
                continue  # of groups that are handled as wholes
            action = _CHOICES.get(basic, basic)
            for option in self.options:
                allowed = options.get(option)
                if allowed == "C" and dictionary_vr(int(digits, 16)) == b"SQ":
                    continue  # what is in there would have to be understood
                if allowed == "K" or (option == "uids" and action == "U"):
                    action = "K"
                elif allowed == "C" and "descriptors" in clean and action != "K":
                    action = "C"
            self._actions[int(digits, 16)] = action

    def __reduce__(self) -> tuple[object, ...]:
        clean = frozenset(self.options) & frozenset(CLEAN)
        return Profile, (frozenset(self.options) - clean, clean)

    def action(self, tag: int) -> str:
        """The action for an element; "" for one that the profile leaves alone.

        Private elements, those of groups with overlays and curves and of groups that are of
        commands, file meta and directories, group lengths and public ones that PS3.6 does not have
        are removed. Of what the table does not have, names of persons get
        dummies, and UIDs that are none of classes, syntaxes and codes are replaced."""
        found = self._actions.get(tag)
        if found is None:
            group = tag >> 16
            if (group & 1 or group < 8 or not tag & 0xFFFF or group in _GROUPS
                    or not dictionary_vr(tag)):
                found = "X"
            elif tag in MARKS:
                found = "X"
            elif dictionary_vr(tag) == b"PN":
                found = "D"
            elif dictionary_vr(tag) == b"UI" and "uids" not in self.options:
                found = "" if _names_a_kind(tag) else "U"
            else:
                found = ""
            if len(self._actions) < 1 << 16:
                self._actions[tag] = found
        return found

    @property
    def codes(self) -> list[tuple[str, str]]:
        """Value and meaning (CID 7050) of the profile and its options."""
        return [tuple(table()["codes"][name]) for name in ("basic", *self.options)]


def _names_a_kind(tag: int) -> bool:
    """Whether an element's UID is that of a kind of things, by its name in PS3.6."""
    from pydicom.datadict import keyword_for_tag

    name = keyword_for_tag(tag)
    return any(kind in name for kind in ("SOPClass", "TransferSyntax", "CodingScheme", "Context",
                                         "MappingResource", "CreatorVersion"))


_TEXT = dict.fromkeys((b"AE", b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT", b"CS"), b"REMOVED")
_DUMMIES = {
    **_TEXT, b"AS": b"000Y", b"DA": b"19000101", b"TM": b"000000", b"DT": b"19000101000000",
    b"DS": b"0", b"IS": b"0", b"UR": b"urn:removed",
}  # fmt: skip
_SIZES = {b"US": 2, b"SS": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"AT": 4, b"FD": 8, b"UV": 8, b"SV": 8,
          b"OB": 2, b"OW": 2, b"OF": 4, b"OL": 4, b"OD": 8, b"OV": 8, b"UN": 2}  # fmt: skip


def dummy(vr: bytes) -> bytes:
    """A value that says nothing, of a VR that is no sequence and no UID."""
    return _DUMMIES.get(vr) or bytes(_SIZES.get(vr, 0))
