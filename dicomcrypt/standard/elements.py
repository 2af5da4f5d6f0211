"""DICOM data sets as elements with their places (PS3.5 section 7), without their
values being understood: what is kept of a file is kept byte for byte.

Everything is parsed within bounds; what is not as the standard says raises DamagedError.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..errors import DamagedError

MAX_DEPTH = 32
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL "
VRS = frozenset((_VRS + b"UN UR US UT UV").split())
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class Syntax(NamedTuple):
    """How elements are encoded."""

    implicit: bool = False
    big: bool = False

    @property
    def order(self) -> Literal["little", "big"]:
        """The order of bytes, as `int.from_bytes` has it."""
        return "big" if self.big else "little"


LITTLE = Syntax()
IMPLICIT = Syntax(implicit=True)


class Element(NamedTuple):
    """An element of some bytes: its header begins at `begin`, its value at `start`, the value ends
    at `stop` and the element at `end`, which lies behind the mark of an undefined length."""

    tag: int
    vr: bytes
    begin: int
    start: int
    stop: int
    end: int

    @property
    def undefined(self) -> bool:
        return self.stop != self.end


class ShortError(DamagedError):
    """The bytes end before the element does."""


def damaged(what: str) -> DamagedError:
    return DamagedError(f"not a DICOM data set as PS3.5 has it: {what}")


def _cut() -> ShortError:
    return ShortError("not a DICOM data set as PS3.5 has it: it is cut short")


@functools.cache
def dictionary_vr(tag: int) -> bytes:
    """The VR that PS3.6 gives a public element, b"" if it has none of that tag. Of several the
    first; the encoding of their values is the same."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).encode()[:2]
    except KeyError:
        return b""


_LITTLE_HEAD, _BIG_HEAD = struct.Struct("<HHI"), struct.Struct(">HHI")
_LITTLE_LONG, _BIG_LONG = struct.Struct("<I"), struct.Struct(">I")


def element_at(data: bytes, at: int, end: int, syntax: Syntax, depth: int = 0) -> Element:
    """Return the element at `at`; raises ShortError if it does not end by `end`, DamagedError."""
    if at + 8 > end:
        raise _cut()
    group, number, size = (_BIG_HEAD if syntax.big else _LITTLE_HEAD).unpack_from(data, at)
    tag, start = group << 16 | number, at + 8
    if group == 0xFFFE:
        raise damaged("an item stands where an element must")
    if syntax.implicit:
        vr = dictionary_vr(tag) or b"UN"
        if size == UNDEFINED and vr not in (b"OB", b"OW", b"UN"):
            vr = b"SQ"
    else:
        vr = data[at + 4 : at + 6]
        if vr not in VRS:
            raise damaged("an element has no VR that is known")
        if vr in LONG:
            start = at + 12
            if start > end:
                raise _cut()
            (size,) = (_BIG_LONG if syntax.big else _LITTLE_LONG).unpack_from(data, at + 8)
        elif syntax.big:
            size &= 0xFFFF
        else:
            size >>= 16
    if size != UNDEFINED:
        if start + size > end:
            raise _cut()
        return Element(tag, vr, at, start, start + size, start + size)
    if vr not in (b"SQ", b"UN"):
        raise damaged("an element has no length")
    stop = start
    for _, _, last in items(data, start, end, inside(vr, syntax), delimited=True, depth=depth):
        stop = last
    return Element(tag, vr, at, start, stop, stop + 8)


def inside(vr: bytes, syntax: Syntax) -> Syntax:
    """How the items of a sequence are encoded: of VR UN as PS3.5 section 6.2.2 says."""
    return IMPLICIT if vr == b"UN" else syntax


def items(
    data: bytes, at: int, end: int, syntax: Syntax, *, delimited: bool, depth: int = 0
) -> Iterator[tuple[int, int, int]]:
    """Yield (begin of the item, begin of its content, end) of a sequence's items, the end without
    its mark, and at last one (end, end, end) for the end of them all.

    Raises ShortError, DamagedError."""
    if depth >= MAX_DEPTH:
        raise damaged(f"sequences are nested over {MAX_DEPTH} deep")
    head = _BIG_HEAD if syntax.big else _LITTLE_HEAD
    while delimited or at < end:
        if at + 8 > end:
            raise _cut()
        group, number, size = head.unpack_from(data, at)
        tag, start = group << 16 | number, at + 8
        if tag == SEQUENCE_END and delimited and size == 0:
            break
        if tag != ITEM:
            raise damaged("a sequence holds what is no item")
        if size == UNDEFINED:
            stop = start
            while True:
                if stop + 8 > end:
                    raise _cut()
                group, number, size = head.unpack_from(data, stop)
                if group << 16 | number == ITEM_END:
                    if size:
                        raise damaged("an item's end has a length")
                    break
                stop = element_at(data, stop, end, syntax, depth + 1).end
            yield at, start, stop
            at = stop + 8
        else:
            stop = start + size
            if stop > end:
                raise _cut()
            yield at, start, stop
            at = stop
    yield at, at, at


def elements(data: bytes, at: int, end: int, syntax: Syntax, depth: int = 0) -> list[Element]:
    """All elements of data[at:end]; raises DamagedError."""
    found = []
    while at < end:
        one = element_at(data, at, end, syntax, depth)
        found.append(one)
        at = one.end
    return found


# ---- writing ------------------------------------------------------------------


def tag_bytes(tag: int, syntax: Syntax) -> bytes:
    return struct.pack(">HH" if syntax.big else "<HH", tag >> 16, tag & 0xFFFF)


def header(tag: int, vr: bytes, size: int, syntax: Syntax) -> bytes:
    """The header of an element; size: UNDEFINED for one that its mark ends."""
    order = ">" if syntax.big else "<"
    if syntax.implicit:
        return struct.pack(order + "HHI", tag >> 16, tag & 0xFFFF, size)
    if vr in LONG:
        return struct.pack(order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, size)
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, size)


def encode(tag: int, vr: bytes, value: bytes, syntax: Syntax) -> bytes:
    """An element; a value of odd length is padded."""
    if len(value) & 1:
        value += b"\0" if vr in (b"UI", b"OB", b"UN") else b" "
    return header(tag, vr, len(value), syntax) + value


def sequence(
    tag: int, contents: list[bytes], syntax: Syntax, *, vr: bytes = b"SQ", undefined: bool = False
) -> bytes:
    """A sequence of items with these contents."""
    inner = inside(vr, syntax)
    if undefined:
        body = b"".join(
            header(ITEM, b"", UNDEFINED, Syntax(True, inner.big)) + content
            + header(ITEM_END, b"", 0, Syntax(True, inner.big)) for content in contents
        )  # fmt: skip
        return header(tag, vr, UNDEFINED, syntax) + body + header(
            SEQUENCE_END, b"", 0, Syntax(True, inner.big))
    body = b"".join(
        header(ITEM, b"", len(content), Syntax(True, inner.big)) + content for content in contents
    )
    return header(tag, vr, len(body), syntax) + body
