"""Elements from one encoding to another (PS3.5 section 7.1), such that they can be had back: what
is encrypted is Explicit VR Little Endian, whatever the file is in (PS3.15 E.1)."""

from __future__ import annotations

from .elements import (
    LONG,
    Element,
    Syntax,
    damaged,
    dictionary_vr,
    elements,
    header,
    items,
)

_WIDTHS = {
    b"US": 2, b"SS": 2, b"OW": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OF": 4, b"OL": 4, b"FD": 8,
    b"OD": 8, b"OV": 8, b"SV": 8, b"UV": 8, b"AT": 2,
}  # fmt: skip


def _swapped(value: bytes, vr: bytes) -> bytes:
    width = _WIDTHS.get(vr, 1)
    if width == 1 or len(value) % width:
        return value
    out = bytearray(len(value))
    for place in range(width):
        out[place::width] = value[width - 1 - place :: width]
    return bytes(out)


def convert(data: bytes, e: Element, source: Syntax, target: Syntax, depth: int = 0) -> bytes:
    """An element of `data` in another encoding. Lengths stay defined or undefined.

    To Explicit VR from Implicit VR the dictionary gives VRs; what it does not have, or what is too
    long for its VR's length, becomes UN (PS3.5 section 6.2.2), whose value is as it was.
    Raises DamagedError."""
    if source == target:
        return data[e.begin : e.end]
    vr = e.vr
    if source.implicit:
        vr = dictionary_vr(e.tag) or b"UN"
        if e.undefined and vr != b"SQ":
            vr = b"UN"
    if vr == b"SQ" and not (source.implicit and target.implicit):
        end = e.end if e.undefined else e.stop
        contents, ends = [], []
        for begin, start, stop in items(data, e.start, end, source, delimited=e.undefined,
                                        depth=depth):
            if begin == start:
                break
            found = elements(data, start, stop, source, depth + 1)
            contents.append(b"".join(convert(data, one, source, target, depth + 1)
                                     for one in found))
            ends.append(_undefined_item(data, begin, source))
        return _sequence(e.tag, contents, ends, target, e.undefined)
    value = data[e.start : e.end]
    if not target.implicit and vr not in LONG and len(value) > 0xFFFF:
        vr = b"UN"
    if e.undefined:
        if target.big:
            raise damaged("an element of undefined length cannot be had in Big Endian")
        return header(e.tag, vr, 0xFFFFFFFF, target) + value
    if source.big != target.big:
        value = _swapped(value, vr)
    return header(e.tag, vr, len(value), target) + value


def _undefined_item(data: bytes, begin: int, syntax: Syntax) -> bool:
    return data[begin + 4 : begin + 8] == b"\xff\xff\xff\xff"


def _sequence(
    tag: int, contents: list[bytes], ends: list[bool], target: Syntax, undefined: bool
) -> bytes:
    """A sequence each of whose items has a defined or an undefined length."""
    plain = Syntax(True, target.big)
    body = b"".join(
        header(0xFFFEE000, b"", 0xFFFFFFFF, plain) + content + header(0xFFFEE00D, b"", 0, plain)
        if end else header(0xFFFEE000, b"", len(content), plain) + content
        for content, end in zip(contents, ends, strict=True)
    )  # fmt: skip
    if undefined:
        return header(tag, b"SQ", 0xFFFFFFFF, target) + body + header(0xFFFEE0DD, b"", 0, plain)
    return header(tag, b"SQ", len(body), target) + body
