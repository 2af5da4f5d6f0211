"""The bytes that a DICOM digital signature is of (PS3.3 section C.12.1.1.3.1)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import BinaryIO

from .elements import LITTLE, LONG, tag_bytes
from .layout import DataSet, Element

CHUNK = 1 << 20
MAC_PARAMETERS, SIGNATURES, TRAILING_PADDING = 0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC
#: Elements of a signature's own item that it cannot be of.
CERTIFICATE, SIGNATURE, STAMP_TYPE, STAMP = 0x04000115, 0x04000120, 0x04000305, 0x04000310
_NOT_OF_ITSELF = frozenset({CERTIFICATE, SIGNATURE, STAMP_TYPE, STAMP})
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
#: Bytes of one number of a value; of other VRs the order of bytes says nothing.
_SIZES = {
    b"US": "H", b"SS": "H", b"OW": "H", b"AT": "H", b"UL": "I", b"SL": "I", b"FL": "I",
    b"OF": "I", b"OL": "I", b"FD": "Q", b"OD": "Q", b"OV": "Q", b"SV": "Q", b"UV": "Q",
}  # fmt: skip
Sink = Callable[[bytes], object]


def can_be_signed(element: Element) -> bool:
    """Whether an element may be part of a signature at all (C.12.1.1.3.1.1)."""
    return not (
        _is_left_out(element)
        or element.vr == b"UN"
        or (element.vr not in LONG and (element.length or 0) > 0xFFFF)  # UN, PS3.5 6.2.2
        or any(not _is_left_out(e) and not can_be_signed(e)
               for item in element.items or () for e in item.elements)
    )


def _is_left_out(element: Element) -> bool:
    """Whether a sequence that is signed leaves this element out."""
    group, number = element.tag >> 16, element.tag & 0xFFFF
    return (
        number == 0 or group < 8 or group == 0xFFFA
        or element.tag in (0x00080001, MAC_PARAMETERS, TRAILING_PADDING)
    )


def left_out(element: Element) -> Iterable[int]:
    """Yield the tags in a signed sequence that nevertheless no signature covers, but for
    lengths: signatures of its items, and what is beside them."""
    for item in element.items or ():
        for inner in item.elements:
            if _is_left_out(inner) and inner.tag & 0xFFFF:
                yield inner.tag
            else:
                yield from left_out(inner)


def feed(data: DataSet, element: Element, sink: Sink) -> None:
    """Give the bytes of an element that can be signed, in explicit VR little endian."""
    sink(tag_bytes(element.tag, LITTLE))
    sink(b"OB" if element.fragments is not None else element.vr)  # PS3.5 section A.4
    if element.vr in LONG:
        sink(b"\0\0")
    if element.items is not None:
        for item in element.items:
            sink(_ITEM)
            for inner in item.elements:
                if not _is_left_out(inner):
                    feed(data, inner, sink)
        sink(_SEQUENCE_END)
    elif element.fragments is not None:
        for start, length in element.fragments:
            sink(_ITEM)
            copy(data.data, start, length, sink)
        sink(_SEQUENCE_END)
    else:
        length = element.length or 0
        sink(length.to_bytes(4 if element.vr in LONG else 2, "little"))
        swapped = _SIZES.get(element.vr) if data.encoding.big else None
        copy(data.data, element.value, length, _swapping(sink, swapped) if swapped else sink)


def feed_signature_item(data: DataSet, elements: list[Element], sink: Sink) -> None:
    """Give the bytes of a signature's own item: all but certificate, signature and time stamp."""
    for element in elements:
        if element.tag not in _NOT_OF_ITSELF and can_be_signed(element):
            feed(data, element, sink)


def copy(file: BinaryIO, start: int, length: int, sink: Sink) -> None:
    file.seek(start)
    while length:
        chunk = file.read(min(CHUNK, length))
        if not chunk:
            raise OSError("the file became shorter while it was read")
        sink(chunk)
        length -= len(chunk)


def _swapping(sink: Sink, kind: str) -> Sink:
    def swap(chunk: bytes) -> None:
        numbers = array(kind)
        whole = len(chunk) - len(chunk) % numbers.itemsize
        numbers.frombytes(chunk[:whole])
        numbers.byteswap()
        sink(numbers.tobytes() + chunk[whole:])

    return swap
