"""Where each data element of a file lies: a walk that keeps places and no values.

PS3.5 section 7 and annex A; PS3.10 section 7. Values stay in the file, so that pixel data of any
size costs nothing.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ..errors import DamagedError, NotMeantError
from .elements import (
    ITEM,
    ITEM_END,
    LITTLE,
    LONG,
    MAX_DEPTH,
    SEQUENCE_END,
    UNDEFINED,
    VRS,
    Syntax,
    inside,
)

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_ALSO_DEFLATED = "1.2.840.10008.1.2.4.95"  # JPIP referenced, deflated
#: What a file may make us hold.
MAX_ELEMENTS, MAX_META, MAX_INFLATED = 1 << 21, 1 << 20, 1 << 31


@dataclass(slots=True)
class Element:
    """One data element: where it and its value lie, from `start` to `end` all of it.

    length: None if undefined. items: of a sequence; fragments: of encapsulated pixel data."""

    tag: int
    vr: bytes
    start: int
    value: int
    length: int | None
    end: int = 0
    items: list[Item] | None = None
    fragments: list[tuple[int, int]] | None = None


@dataclass(slots=True)
class Item:
    """An item of a sequence; start, end: its elements without the item's own head and end."""

    elements: list[Element] = field(default_factory=list)
    start: int = 0
    end: int = 0


class DataSet(NamedTuple):
    """A file that was walked. data: what holds the data set, the file or what it inflated to;
    head: the file's bytes in front of the data set."""

    data: BinaryIO
    head: bytes
    syntax: str
    encoding: Syntax
    elements: list[Element]

    def read(self, element: Element, limit: int = 1 << 20) -> bytes:
        """Return an element's value; raises DamagedError for one that is longer than `limit`."""
        if element.length is None or element.length > limit:
            raise DamagedError(f"the value of {tag_text(element.tag)} is longer than it can be")
        self.data.seek(element.value)
        return self.data.read(element.length)


def tag_text(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def read_file(file: BinaryIO) -> DataSet:
    """Walk a DICOM file (PS3.10); raises NotMeantError for what is none, DamagedError for one that
    is cut short or not as PS3.5 has it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size < 132 or file.read(132)[128:] != b"DICM":
        raise NotMeantError("not a DICOM file: it has no preamble and prefix (PS3.10)")
    meta = _Walk(file, size, LITTLE)
    syntax, start = None, 132
    while start < size:
        tag = meta.peek_tag(start)
        if tag is None or tag >> 16 != 2:
            break
        element, start = meta.element(start, size, 0)
        if element.tag == 0x00020010:
            if (element.length or 0) > 64:
                raise DamagedError("the transfer syntax is no UID")
            file.seek(element.value)
            syntax = file.read(element.length or 0).rstrip(b"\0 ").decode("ascii", "replace")
        if start - 132 > MAX_META:
            raise DamagedError("the file meta information is longer than it can be")
    if not syntax:
        raise DamagedError("the file meta information names no transfer syntax (PS3.10)")
    file.seek(0)
    head, data, begin = file.read(start), file, start
    if syntax in (DEFLATED, _ALSO_DEFLATED):
        data, begin = _inflated(file, start), 0
        size = data.seek(0, io.SEEK_END)
    encoding = Syntax(syntax == IMPLICIT, syntax == BIG_ENDIAN)
    elements = _Walk(data, size, encoding).elements(begin, size, 0)
    return DataSet(data, head, syntax, encoding, elements)


def _inflated(file: BinaryIO, start: int) -> io.BytesIO:
    """What stands deflated behind the file meta information (PS3.5 A.5), in memory."""
    inflater, found = zlib.decompressobj(-zlib.MAX_WBITS), io.BytesIO()
    file.seek(start)
    try:
        while chunk := file.read(1 << 18):
            while chunk:
                found.write(inflater.decompress(chunk, 1 << 20))
                chunk = inflater.unconsumed_tail
                if found.tell() > MAX_INFLATED:
                    raise DamagedError("the deflated data set is too long")
        found.write(inflater.flush())
    except zlib.error:
        raise DamagedError("the deflated data set is damaged") from None
    if not inflater.eof:
        raise DamagedError("the deflated data set is cut short")
    return found


class _Walk:
    """One pass over a data set."""

    def __init__(self, file: BinaryIO, size: int, encoding: Syntax) -> None:
        self._file, self._size, self._encoding = file, size, encoding
        self._buffer, self._at, self._count = b"", 0, 0
        self._signed_pixels = False

    def _bytes(self, start: int, length: int) -> bytes:
        """Bytes of heads, from a window that moves forward."""
        if not self._at <= start or start + length > self._at + len(self._buffer):
            self._file.seek(start)
            self._buffer, self._at = self._file.read(4096), start
            if len(self._buffer) < length:
                raise DamagedError("the data set is cut short")
        return self._buffer[start - self._at : start - self._at + length]

    def _number(self, start: int, length: int) -> int:
        return int.from_bytes(self._bytes(start, length), self._encoding.order)

    def _tag(self, start: int) -> int:
        return self._number(start, 2) << 16 | self._number(start + 2, 2)

    def peek_tag(self, start: int) -> int | None:
        return self._tag(start) if start + 8 <= self._size else None

    def elements(self, start: int, end: int, depth: int, *, delimited: bool = False
    ) -> list[Element]:  # fmt: skip
        """The elements up to `end`, or to the end mark of an item."""
        found: list[Element] = []
        creators: dict[int, str] = {}
        while start < end:
            if delimited and self._tag(start) == ITEM_END:
                break
            element, start = self.element(start, end, depth, creators)
            if found and element.tag <= found[-1].tag:
                raise DamagedError(f"{tag_text(element.tag)} is not in the order of tags "
                                   "(PS3.5 section 7.1)")
            if element.tag == 0x00280103 and element.length == 2:
                self._signed_pixels = self._number(element.value, 2) == 1
            found.append(element)
        else:
            if delimited:
                raise DamagedError("an item is cut short")
        return found

    def element(
        self, start: int, end: int, depth: int, creators: dict[int, str] | None = None
    ) -> tuple[Element, int]:
        """Return the element at a place, and the place behind it."""
        self._one_more()
        tag = self._tag(start)
        if tag >> 16 == 0xFFFE:
            raise DamagedError("an item stands where an element should")
        if not self._encoding.implicit:
            vr = self._bytes(start + 4, 2)
            if vr in VRS and vr not in LONG:
                length, value = self._number(start + 6, 2), start + 8
            elif vr.isalpha() and vr.isupper():
                if self._number(start + 6, 2):  # nothing could sign them
                    raise DamagedError(f"the reserved bytes of {tag_text(tag)} are not zero "
                                       "(PS3.5 section 7.1.2)")
                length, value = self._number(start + 8, 4), start + 12
                vr = vr if vr in LONG else b"UN"
            else:
                raise DamagedError(f"the value representation of {tag_text(tag)} is none")
        else:
            length, value = self._number(start + 4, 4), start + 8
            vr = self._implicit_vr(tag, value, length, creators)
        element = Element(tag, vr, start, value, None if length == UNDEFINED else length)
        if element.length is not None:
            element.end = value + element.length
            if element.end > end:
                raise DamagedError(f"{tag_text(tag)} is cut short")
            if vr == b"SQ":
                self._items(element, value, element.end, depth)
            elif vr == b"LO" and creators is not None and tag >> 16 & 1 and tag & 0xFFFF < 0x100:
                creators[tag & 0xFFFF] = self._text(element)
        elif vr in (b"OB", b"OW") and tag == 0x7FE00010 and not self._encoding.implicit:
            self._fragments(element, end)
        elif vr in (b"SQ", b"UN"):
            kept = self._encoding
            self._encoding = inside(vr, kept)
            self._items(element, value, None, depth, end)
            self._encoding = kept
        else:
            raise DamagedError(f"{tag_text(tag)} has no length")
        return element, element.end

    def _one_more(self) -> None:
        """Count what takes memory: elements, items, fragments."""
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise DamagedError("the data set has too many elements, items or fragments")

    def _text(self, element: Element) -> str:
        if (element.length or 0) > 64:
            return ""
        return self._bytes(element.value, element.length or 0).decode("latin-1").strip(" \0")

    def _items(
        self, element: Element, start: int, end: int | None, depth: int, limit: int = 0
    ) -> None:
        """Walk a sequence's items; end: None if an end mark ends it, before `limit`."""
        if depth >= MAX_DEPTH:
            raise DamagedError("sequences are nested too deeply")
        element.items, bound = [], limit if end is None else end
        while end is None or start < end:
            if start + 8 > bound:
                raise DamagedError(f"the sequence {tag_text(element.tag)} is cut short")
            tag, length = self._tag(start), self._number(start + 4, 4)
            start += 8
            if tag == SEQUENCE_END and end is None:
                break
            if tag != ITEM:
                raise DamagedError(f"the sequence {tag_text(element.tag)} holds no items")
            self._one_more()
            item = Item(start=start)
            if length == UNDEFINED:
                item.elements = self.elements(start, bound, depth + 1, delimited=True)
                item.end = item.elements[-1].end if item.elements else start
                start = item.end + 8
            else:
                item.end = start = start + length
                if item.end > bound:
                    raise DamagedError(f"an item of {tag_text(element.tag)} is cut short")
                item.elements = self.elements(item.start, item.end, depth + 1)
            element.items.append(item)
        element.end = start

    def _fragments(self, element: Element, end: int) -> None:
        """Find the fragments of encapsulated pixel data (PS3.5 A.4)."""
        element.fragments, start = [], element.value
        while True:
            if start + 8 > end:
                raise DamagedError("the pixel data is cut short")
            tag, length = self._tag(start), self._number(start + 4, 4)
            start += 8
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length == UNDEFINED or start + length > end:
                raise DamagedError("the fragments of the pixel data are damaged")
            self._one_more()
            element.fragments.append((start, length))
            start += length
        element.end = start

    def _implicit_vr(
        self, tag: int, value: int, length: int, creators: dict[int, str] | None
    ) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if number == 0:
            return b"UL"
        if group & 1:
            if 0x10 <= number < 0x100:
                return b"LO"
            creator = (creators or {}).get(number >> 8, "")
            vr = _private_vr(creator, tag & 0xFFFF00FF)
        else:
            vr = _public_vr(tag)
        if vr == "UN" and length == UNDEFINED:
            return b"SQ"
        if vr == "US or SS":
            vr = "SS" if self._signed_pixels else "US"
        elif " or " in vr:
            vr = "OW"
        return vr.encode()


@functools.lru_cache(maxsize=8192)
def _public_vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


@functools.lru_cache(maxsize=8192)
def _private_vr(creator: str, tag: int) -> str:
    from pydicom.datadict import private_dictionary_VR
    from pydicom.tag import Tag

    try:
        return private_dictionary_VR(Tag(tag | 0x1000), creator)
    except KeyError:
        return "UN"


def keyword(tag: int) -> str:
    """Return an element's name in PS3.6, or its number."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or tag_text(tag)


def with_items(elements: list[Element], place: str = "") -> Iterator[tuple[str, list[Element]]]:
    """Yield every data set in a data set, itself first, each with the way that leads there."""
    yield place, elements
    for element in elements:
        for number, item in enumerate(element.items or ()):
            way = f"{place}{keyword(element.tag)}[{number}]."
            yield from with_items(item.elements, way)
