"""DICOM files for the scanner's tests: those installed with pydicom, and builders."""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import data_store
import pydicom

ROOTS = (
    Path(pydicom.__file__).parent / "data",
    Path(next(iter(data_store.__path__))) / "data",
)
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OW", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV"}
UNDEFINED = 0xFFFFFFFF
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def installed_files() -> list[Path]:
    """List every file of pydicom's data folder and of pydicom-data, DICOM or not."""
    return sorted(
        path
        for root in ROOTS
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    )


def short_name(path: Path) -> str:
    """Return the path as it reads in a test's name, the same on every machine."""
    root = next(root for root in ROOTS if path.is_relative_to(root))
    return path.relative_to(root).as_posix()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom, which comments on the broken ones among its test files."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def implicit(tag: int, value: bytes = b"", length: int | None = None, order: str = "<") -> bytes:
    """Build an element in implicit VR; `length` overrides that of the value."""
    size = len(value) if length is None else length
    return struct.pack(order + "HHI", tag >> 16, tag & 0xFFFF, size) + value


def explicit(
    tag: int, vr: bytes, value: bytes = b"", length: int | None = None, order: str = "<"
) -> bytes:
    """Build an element in explicit VR; `length` overrides that of the value."""
    size = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in LONG_VRS:
        return head + struct.pack(order + "HI", 0, size) + value
    return head + struct.pack(order + "H", size) + value


def item(value: bytes = b"", order: str = "<") -> bytes:
    """Build an item of defined length."""
    return implicit(0xFFFEE000, value, order=order)


def open_item(value: bytes = b"", order: str = "<") -> bytes:
    """Build an item of undefined length with its delimiter."""
    return implicit(0xFFFEE000, value, UNDEFINED, order) + implicit(0xFFFEE00D, order=order)


def delimiter(order: str = "<") -> bytes:
    """Build a sequence delimiter."""
    return implicit(0xFFFEE0DD, order=order)


def part10(dataset: bytes, syntax: str | None = EXPLICIT, meta: bytes = b"") -> bytes:
    """Build a file with preamble and file meta group around an encoded data set."""
    group = meta
    if syntax is not None:
        uid = syntax.encode()
        group += explicit(0x00020010, b"UI", uid + b"\0" * (len(uid) % 2))
    group = explicit(0x00020000, b"UL", struct.pack("<I", len(group))) + group
    return bytes(128) + b"DICM" + group + dataset


def image(rows: int, columns: int, pixels: bytes, order: str = "<") -> bytes:
    """Build the end of an explicit VR data set: a few image attributes and pixel data."""
    return (
        explicit(0x00280010, b"US", struct.pack(order + "H", rows), order=order)
        + explicit(0x00280011, b"US", struct.pack(order + "H", columns), order=order)
        + explicit(0x7FE00010, b"OW", pixels, order=order)
    )


def icon(order: str = "<") -> bytes:
    """An icon of encapsulated pixel data of its own."""
    inside = explicit(0x00280010, b"US", struct.pack(order + "H", 64), order=order)
    inside += explicit(0x7FE00010, b"OB", b"", UNDEFINED, order)
    inside += item(b"", order) + item(b"jpeg" * 9, order) + delimiter(order)
    return (
        explicit(0x00880200, b"SQ", b"", UNDEFINED, order)
        + open_item(inside, order)
        + delimiter(order)
    )


ENCAPSULATED = item(bytes(8)) + item(b"frag") * 5 + item() + delimiter()
