"""Data objects of cards: BER-TLV with tags of one or two bytes (ISO/IEC 7816-4:2013, 5.2.2)."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import DamagedError

#: The most objects in one template.
MOST_OBJECTS = 64


def damaged(what: str) -> DamagedError:
    """The error for what has not the form that it must have."""
    return DamagedError(f"{what} is damaged, or has a form that is not known here")


def encode(tag: int, value: bytes) -> bytes:
    """Return one object: tag, length in its shortest form, value."""
    size = len(value)
    if size < 0x80:
        length = bytes((size,))
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes((0x80 | len(digits),)) + digits
    return tag.to_bytes(2 if tag > 0xFF else 1, "big") + length + value


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, value) of each object; DamagedError if one is cut short or badly formed."""
    at, end = 0, len(data)
    for _ in range(MOST_OBJECTS):
        if at == end:
            return
        tag, at = data[at], at + 1
        if tag & 0x1F == 0x1F:
            if at >= end or data[at] & 0x80:
                raise damaged("a data object")
            tag, at = tag << 8 | data[at], at + 1
        if at >= end:
            raise damaged("a data object")
        size, at = data[at], at + 1
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 3 or at + count > end:
                raise damaged("a data object")
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > end:
            raise damaged("a data object")
        yield tag, bytes(data[at : at + size])
        at += size
    if at != end:
        raise damaged("a data object")


def first(data: bytes) -> bytes:
    """Return the first object, tag and length with it, of a file that may hold the rest of an
    older one behind it; the data as they are if they begin with none."""
    if len(data) < 2 or not data[1] & 0x80:
        return data[: 2 + data[1]] if len(data) > 1 else data
    head = 2 + (data[1] & 0x7F)
    return data[: head + int.from_bytes(data[2:head], "big")]


def fields(data: bytes) -> dict[int, bytes]:
    """Return {tag: value}; DamagedError if a tag comes twice, and as of `parse`."""
    found: dict[int, bytes] = {}
    for tag, value in parse(data):
        if tag in found:
            raise damaged("a data object")
        found[tag] = value
    return found
