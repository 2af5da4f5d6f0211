"""What a scan of the native scanner gave, beside what pydicom reads."""

from pathlib import Path

import pydicom
import pytest
import scan_corpus as make

from dicomcrypt.native import _scan
from dicomcrypt.native._scan import Scan

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
NUMBERS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "high_bit": "HighBit",
    "pixel_representation": "PixelRepresentation",
    "planar": "PlanarConfiguration",
    "frames": "NumberOfFrames",
}
RESULTS = (
    *NUMBERS,
    *("status", "pos", "has_preamble", "has_meta", "implicit_vr", "big_endian", "dataset"),
    *("pixel_tag", "pixel_vr", "pixel_element", "pixel_value", "pixel_length", "attributes"),
)

FILES = make.installed_files()
every_file = pytest.mark.parametrize("path", FILES, ids=make.short_name)


def scanned(data: bytes) -> Scan:
    scan = Scan()
    scan.feed(data, 0, True)
    return scan


def results(scan: Scan) -> dict:
    return {name: getattr(scan, name) for name in RESULTS}


def through_windows(data: bytes, size: int, late_last: bool = False) -> Scan:
    """Scan through windows of `size` bytes, or as many more as the scanner asks for."""
    scan = Scan()
    status = _scan.NEED
    while status == _scan.NEED:
        start = min(scan.pos, len(data))
        assert 0 < scan.need - scan.pos <= 4096
        stop = min(max(scan.need, start + size), len(data))
        # The end may be announced with the last bytes or found out afterwards.
        last = stop == len(data) and (not late_last or scan.need > stop)
        status = scan.feed(data[start:stop], start, last)
        assert status == scan.status
        assert not (last and status == _scan.NEED)
    return scan


def pydicom_reads(path: Path, stop_before_pixels: bool = False):
    with make.quiet_pydicom():
        return pydicom.dcmread(path, force=True, stop_before_pixels=stop_before_pixels)


def place_in_pydicom(dataset):
    for tag in PIXEL_TAGS:
        if tag in dataset:
            element = dataset.get_item(tag)
            undefined = element.length == make.UNDEFINED
            return tag, element.value_tell, None if undefined else element.length
    return None
