"""What a file says of itself: the elements that its catalogue row has, and whose it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..dicom.attributes import KEYWORDS, trimmed, values
from ..native import _scan
from .rows import COUNTED, TEXT, clean, fields_of

#: Of a file so many bytes are looked at for its elements, first a few and then more; at most
#: where it is not known before whose it is.
FIRST, MOST, FAR = 16 << 10, 4 << 20, 256 << 20
#: Of a deflated data set: so many bytes of the file are looked at, and inflated to so many.
_INFLATED = (FIRST, 1 << 20), (FAR, FAR)
#: Patient ID and Study Instance UID, which say whose a file is; elements stand in ascending order.
_OWNERS = {0x00100020, 0x0020000D}
#: Elements of which each file of a series has its own; the first stands in for the second.
_OWN = {0x00020003: "SOPInstanceUID", 0x00080018: "SOPInstanceUID", 0x00200013: "InstanceNumber"}
_USED = {*TEXT.values(), *COUNTED, "SpecificCharacterSet"}
_COMMON = {tag for tag, keyword in KEYWORDS.items() if keyword in _USED and tag not in _OWN}
#: So many series are kept, of not more than so many bytes each.
_SERIES, _LONGEST = 256, 8192
_EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1\0"


class Owner(NamedTuple):
    """Whose a file is: a patient's, of a study without one, or of the job that adds it (none)."""

    issuer: str = ""
    patient_id: str = ""
    study: str = ""


def read_facts(data: memoryview, size: int, more: Callable[[int], memoryview]) -> dict[str, Any]:
    """Return a row's fields of a file that begins with `data` and has `size` bytes.

    more: reads the file's beginning, so many bytes. Empty for what is not DICOM; of a file that
    cannot be followed what was found before."""
    scan, most = _scan.Scan(), MOST
    while scan.feed(data, 0, len(data) >= size) == _scan.NEED and len(data) < size:
        if len(data) >= most:
            if len(data) >= FAR or _OWNERS & scan.attributes.keys():
                break
            most = FAR
        before, data = len(data), more(min(8 * len(data) or FIRST, size, most))
        if len(data) <= before:
            break
    if scan.status == _scan.FOREIGN:
        return {}
    if scan.status != _scan.DEFLATED:
        return _fields(scan, data)
    syntax = values(scan, data).get("TransferSyntaxUID", "")
    found: dict[str, str] = {}
    for most, plain in _INFLATED:
        if len(data) < min(size, most):
            data = more(min(size, most))
        found = _inflated(data, scan.dataset, plain)
        if has_owner(found):
            break
    return fields_of({**found, "TransferSyntaxUID": syntax})


#: What the files of a series have in common, by the bytes of it.
_series: dict[tuple[bytes, ...], dict[str, Any]] = {}


def _fields(scan: _scan.Scan, data: memoryview) -> dict[str, Any]:
    """`fields_of` all elements; most of a series' text is decoded once."""
    common, own, size = [b"%d" % scan.big_endian], {}, len(data)
    for tag, (vr, offset, length) in scan.attributes.items():
        if tag in _OWN:
            if length is not None and offset + length <= size:
                own[tag] = data[offset : offset + length]
        elif tag in _COMMON:
            end = size + 1 if length is None else offset + length
            common.append(b"%d" % tag + vr + data[offset:end] if end <= size else b"")
    key = tuple(common)
    found = _series.get(key)
    if found is None:
        found = fields_of(values(scan, data))
        for keyword in _OWN.values():
            found.pop(keyword, None)
        if len(_series) >= _SERIES:
            _series.clear()
        if sum(map(len, key)) <= _LONGEST:
            _series[key] = found
    facts = found.copy()
    for tag, raw in own.items():
        text = clean(trimmed(str(raw, "iso8859_1")))
        if text:
            facts[_OWN[tag]] = text
    return facts


def _inflated(data: memoryview, start: int, most: int) -> dict[str, str]:
    """The elements of a deflated data set (PS3.5 annex A.5): the patient must be known of all."""
    try:
        plain = zlib.decompressobj(-15).decompress(data[start:], most)
    except zlib.error:
        return {}
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(_EXPLICIT_LITTLE)) + _EXPLICIT_LITTLE
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax))
    whole = bytes(128) + b"DICM" + length + syntax + plain
    scan = _scan.Scan()
    scan.feed(whole, 0, True)
    return values(scan, whole)


def has_owner(facts: dict[str, Any]) -> bool:
    """Whether a file with these elements says whose it is."""
    return "PatientID" in facts or "StudyInstanceUID" in facts


def owner_of(facts: dict[str, Any]) -> Owner:
    """Return whose a file with these elements is."""
    patient = facts.get("PatientID")
    if patient:
        return Owner(facts.get("IssuerOfPatientID", ""), patient)
    return Owner(study=facts.get("StudyInstanceUID", ""))
