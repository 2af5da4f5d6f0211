"""BER and DER (ITU-T X.690) as far as CMS needs them: elements are read within bounds, BER's
undefined lengths and divided strings included, and written as DER."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DamagedError

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31
MAX_DEPTH, MAX_PARTS = 24, 1 << 16


class Element(NamedTuple):
    """An element of `data`: its tag (one byte), its content from `start` to `stop`, and its `end`,
    which lies behind the mark of an undefined length."""

    data: bytes
    tag: int
    begin: int
    start: int
    stop: int
    end: int

    @property
    def content(self) -> bytes:
        return self.data[self.start : self.stop]

    @property
    def whole(self) -> bytes:
        return self.data[self.begin : self.end]

    def children(self) -> list[Element]:
        """The elements inside; raises DamagedError."""
        found, at = [], self.start
        while at < self.stop:
            found.append(read(self.data, at, self.stop))
            at = found[-1].end
            if len(found) > MAX_PARTS:
                raise damaged()
        return found

    def octets(self) -> bytes:
        """The bytes of an OCTET STRING, divided or whole; raises DamagedError."""
        return b"".join(self._parts(0))

    def _parts(self, depth: int) -> Iterator[bytes]:
        if not self.tag & 0x20:
            yield self.content
            return
        if depth >= MAX_DEPTH:
            raise damaged()
        for child in self.children():
            if child.tag & ~0x20 != OCTETS:
                raise damaged()
            yield from child._parts(depth + 1)

    def integer(self, most: int = 1 << 64) -> int:
        """A small number, not negative; raises DamagedError."""
        if self.tag != INTEGER or not 1 <= self.stop - self.start <= 9:
            raise damaged()
        value = int.from_bytes(self.content, "big", signed=True)
        if not 0 <= value <= most:
            raise damaged()
        return value


def damaged(what: str = "it is not as RFC 5652 says") -> DamagedError:
    return DamagedError(f"the CMS message is damaged or forged: {what}")


def head(data: bytes, at: int, end: int) -> tuple[int, int, int | None]:
    """Return (tag, where the content starts, its length or None) of the element at `at`.

    Raises DamagedError."""
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        raise damaged()
    tag, first = data[at], data[at + 1]
    if first < 0x80:
        return tag, at + 2, first
    if first == 0x80:
        if not tag & 0x20:
            raise damaged()
        return tag, at + 2, None
    count = first & 0x7F
    if count > 8 or at + 2 + count > end:
        raise damaged()
    return tag, at + 2 + count, int.from_bytes(data[at + 2 : at + 2 + count], "big")


def read(data: bytes, at: int = 0, end: int | None = None, depth: int = 0) -> Element:
    """Return the element at `at`, which must end by `end`; raises DamagedError."""
    end = len(data) if end is None else end
    tag, start, length = head(data, at, end)
    if length is not None:
        if length > end - start:
            raise damaged("it is cut short")
        return Element(data, tag, at, start, start + length, start + length)
    if depth >= MAX_DEPTH:
        raise damaged("it is nested too deep")
    place = start
    for _ in range(MAX_PARTS):
        if data[place : place + 2] == b"\0\0" and place + 2 <= end:
            return Element(data, tag, at, start, place, place + 2)
        place = read(data, place, end, depth + 1).end
    raise damaged()


# ---- writing ------------------------------------------------------------------


def length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    found = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(found),)) + found


def begin(tag: int, size: int) -> bytes:
    """The head of an element in DER whose content of so many bytes comes behind it."""
    return bytes((tag,)) + length(size)


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element in DER of these parts."""
    return b"".join((begin(tag, sum(map(len, parts))), *parts))


def sequence(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    return tlv(SET, *sorted(parts))


def octets(value: bytes) -> bytes:
    return tlv(OCTETS, value)


def integer(value: int) -> bytes:
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


@functools.cache
def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER with tag and length."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return tlv(OID, bytes(out))


NULL_DER = b"\x05\x00"
