"""What a file says of itself: the elements that its catalogue row has, and whose it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..dicom.attributes import values
from ..native import _scan
from .rows import fields_of

#: Of a file so many bytes are looked at for its elements, first a few and then more.
FIRST, MOST = 16 << 10, 4 << 20
#: Bytes that a deflated data set is inflated to.
_INFLATED = 1 << 20
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
    scan = _scan.Scan()
    while scan.feed(data, 0, len(data) >= size) == _scan.NEED and len(data) < min(size, MOST):
        before, data = len(data), more(min(8 * len(data) or FIRST, size, MOST))
        if len(data) <= before:
            break
    if scan.status == _scan.FOREIGN:
        return {}
    found = values(scan, data)
    if scan.status == _scan.DEFLATED:
        syntax = found.get("TransferSyntaxUID", "")
        found = _inflated(data, scan.dataset)
        found["TransferSyntaxUID"] = syntax
    return fields_of(found)


def _inflated(data: memoryview, start: int) -> dict[str, str]:
    """The elements of a deflated data set (PS3.5 annex A.5): the patient must be known of all."""
    try:
        plain = zlib.decompressobj(-15).decompress(data[start:], _INFLATED)
    except zlib.error:
        return {}
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(_EXPLICIT_LITTLE)) + _EXPLICIT_LITTLE
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax))
    whole = bytes(128) + b"DICM" + length + syntax + plain
    scan = _scan.Scan()
    scan.feed(whole, 0, True)
    return values(scan, whole)


def owner_of(facts: dict[str, Any]) -> Owner:
    """Return whose a file with these elements is."""
    patient = facts.get("PatientID")
    if patient:
        return Owner(facts.get("IssuerOfPatientID", ""), patient)
    return Owner(study=facts.get("StudyInstanceUID", ""))
