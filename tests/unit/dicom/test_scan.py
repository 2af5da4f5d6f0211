"""The scanner agrees with pydicom, whatever the windows, and survives what is not DICOM."""

import io
import mmap
import random
import struct
import tracemalloc
from pathlib import Path

import numpy
import pydicom
import pytest
import scan_corpus as make
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filereader import read_partial
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR, PersonName

from dicomcrypt.dicom.attributes import KEYWORDS, values
from dicomcrypt.native import _scan
from dicomcrypt.native._scan import Scan, items

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

# Where the scanner and pydicom's full read part, and why. Nothing else may.
DISAGREEMENTS = {
    "test_files/image_dfl.dcm": "deflated: pydicom inflates, the scanner reports DEFLATED",
    "emri_small_jpeg_2k_lossless_too_short.dcm": (
        "cut inside encapsulated pixel data: pydicom's full read drops the element, "
        "though stopping before the pixels it finds the same place"
    ),
    "test_files/badVR.dcm": "Number of Frames is '1A': not a number, so one frame",
}
# Files without pixel data in which pydicom reads something, but END is not the answer.
NOT_THE_END = {
    "test_files/rtplan_truncated.dcm": (_scan.BROKEN, "cut inside a value"),
    "test_files/no_meta.dcm": (
        _scan.FOREIGN,
        "begins with a stray byte: pydicom, forced, reads nonsense elements",
    ),
}

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


def disagreements(path: Path) -> list[str]:
    scan = scanned(path.read_bytes())
    dataset = pydicom_reads(path)
    expected = place_in_pydicom(dataset)
    found = None
    if scan.status == _scan.PIXELS:
        found = (scan.pixel_tag, scan.pixel_value, scan.pixel_length)
    wrong = [] if found == expected else [f"pixel data {found}, pydicom {expected}"]
    if scan.status == _scan.PIXELS:
        element = dataset.get_item(scan.pixel_tag) if scan.pixel_tag in dataset else None
        if element is not None and (scan.implicit_vr, scan.big_endian) != (
            element.is_implicit_VR,
            not element.is_little_endian,
        ):
            wrong.append("encoding")
        for name, keyword in NUMBERS.items():
            with make.quiet_pydicom():
                expected = dataset.get(keyword) or (1 if name == "frames" else 0)
            if getattr(scan, name) != expected:
                wrong.append(f"{keyword} {getattr(scan, name)}, pydicom {expected}")
    return wrong


@every_file
def test_the_scanner_agrees_with_pydicom(path):
    if make.short_name(path) in DISAGREEMENTS:
        assert disagreements(path), "no longer a disagreement: take it off the list"
    else:
        assert disagreements(path) == []


@every_file
def test_a_file_without_pixel_data_is_walked_to_its_end_if_it_is_dicom(path):
    data = path.read_bytes()
    scan = scanned(data)
    name = make.short_name(path)
    if name in NOT_THE_END:
        assert scan.status == NOT_THE_END[name][0]
    elif data[128:132] == b"DICM":
        assert scan.status in (_scan.PIXELS, _scan.END, _scan.DEFLATED)
    elif path.suffix == ".dcm":
        assert scan.status in (_scan.PIXELS, _scan.END)
    else:
        assert scan.status == _scan.FOREIGN


def test_pixel_data_that_is_cut_off_is_found_where_pydicom_stops_before_it():
    path = next(p for p in FILES if p.name == "emri_small_jpeg_2k_lossless_too_short.dcm")
    with make.quiet_pydicom(), path.open("rb") as file:
        read_partial(file, lambda tag, vr, length: tag == 0x7FE00010)
        assert scanned(path.read_bytes()).pixel_element == file.tell()


@every_file
def test_the_dataset_begins_where_pydicom_ends_the_file_meta_group(path):
    data = path.read_bytes()
    scan = scanned(data)
    if scan.status not in (_scan.PIXELS, _scan.END, _scan.DEFLATED):
        return
    with make.quiet_pydicom(), path.open("rb") as file:
        pydicom.filereader.read_preamble(file, True)
        meta = pydicom.filereader._read_file_meta_info(file)
        pydicom.filereader._read_command_set_elements(file)
        assert scan.dataset == file.tell()
        assert scan.has_meta == (len(meta) > 0)


@every_file
@pytest.mark.parametrize("size", [1, 2, 13, 128, 997, 4096, 70_000])
def test_the_result_does_not_depend_on_the_windows(path, size):
    data = path.read_bytes()
    assert results(through_windows(data, size)) == results(scanned(data))
    assert results(through_windows(data, size, True)) == results(scanned(data))


SMALL = [path for path in FILES if path.stat().st_size < 12_000]


@pytest.mark.parametrize("path", SMALL, ids=make.short_name)
def test_every_prefix_gives_an_answer_and_pixel_data_only_if_it_is_in_it(path):
    data = path.read_bytes()
    whole = scanned(data)
    for length in range(len(data)):
        scan = scanned(data[:length])
        assert scan.status != _scan.NEED
        if scan.status == _scan.PIXELS:
            assert whole.status == _scan.PIXELS
            assert length >= whole.pixel_value
            assert results(scan) == results(whole)
        elif whole.status == _scan.PIXELS and whole.has_preamble:
            assert length < whole.pixel_value


# Synthetic files


def test_implicit_vr_little_endian():
    head = make.part10(
        make.implicit(0x00080016, b"1.2\0")
        + make.implicit(0x00280008, b" 12 ")
        + make.implicit(0x00280010, b"\x07\x00")
        + make.implicit(0x00280011, b"\x09\x00"),
        make.IMPLICIT,
    )
    scan = scanned(head + make.implicit(0x7FE00010, b"abcd"))
    assert scan.status == _scan.PIXELS
    assert scan.implicit_vr
    assert not scan.big_endian
    assert scan.pixel_vr == b""
    assert (scan.pixel_element, scan.pixel_value, scan.pixel_length) == (
        len(head),
        len(head) + 8,
        4,
    )
    assert (scan.rows, scan.columns, scan.frames) == (7, 9, 12)
    assert scan.attribute(0x00280010)[0] == b""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("with_meta", [True, False])
def test_explicit_vr_of_both_byte_orders_with_and_without_meta(order, with_meta):
    head = make.explicit(0x00080005, b"CS", b"ISO_IR 100", order=order)
    head += make.explicit(0x00080016, b"UI", b"1.2\0", order=order)
    body = head + make.image(3, 300, b"abcd", order)
    syntax = make.EXPLICIT if order == "<" else make.BIG_ENDIAN
    data = make.part10(body, syntax) if with_meta else body
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert scan.big_endian == (order == ">")
    assert scan.has_preamble == scan.has_meta == with_meta
    assert (scan.rows, scan.columns) == (3, 300)
    assert data[scan.pixel_value :] == b"abcd"
    assert scan.pixel_vr == b"OW"


def test_implicit_vr_without_preamble():
    data = make.implicit(0x00080005, b"ISO_IR 100") + make.implicit(0x00080016, b"1.2\0")
    scan = scanned(data + make.implicit(0x7FE00010, b"ab"))
    assert scan.status == _scan.PIXELS
    assert scan.implicit_vr
    assert not scan.has_preamble


def test_a_meta_group_without_preamble():
    data = make.part10(make.image(1, 1, b"ab"))[132:]
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert scan.has_meta
    assert not scan.has_preamble


@pytest.mark.parametrize("declared", [make.IMPLICIT, make.EXPLICIT])
def test_the_encoding_found_outweighs_the_one_declared(declared):
    explicit = make.part10(make.image(1, 1, b"ab"), declared)
    assert not scanned(explicit).implicit_vr
    assert scanned(explicit).status == _scan.PIXELS
    implicit = make.part10(make.implicit(0x7FE00010, b"ab"), declared)
    assert scanned(implicit).implicit_vr
    assert scanned(implicit).status == _scan.PIXELS


def test_a_wrong_meta_group_length_is_of_no_consequence():
    data = bytearray(make.part10(make.image(1, 1, b"ab")))
    data[140:144] = b"\xff\xff\xff\x7f"
    assert scanned(bytes(data)).status == _scan.PIXELS


def test_a_missing_transfer_syntax_is_guessed():
    for order in "<>":
        scan = scanned(make.part10(make.image(1, 1, b"ab", order), syntax=None))
        assert scan.status == _scan.PIXELS
        assert scan.big_endian == (order == ">")


def test_a_meta_group_in_implicit_vr_is_read():
    meta = make.implicit(0x00020010, make.BIG_ENDIAN.encode() + b"\0")
    scan = scanned(bytes(128) + b"DICM" + meta + make.image(1, 2, b"ab", ">"))
    assert scan.status == _scan.PIXELS
    assert scan.big_endian


def test_command_set_elements_before_the_data_set_are_passed_over():
    data = make.part10(make.implicit(0x00000100, b"\1\0") + make.image(1, 1, b"ab"))
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.dataset :] == make.image(1, 1, b"ab")


def icon(order: str = "<") -> bytes:
    inside = make.explicit(0x00280010, b"US", struct.pack(order + "H", 64), order=order)
    inside += make.explicit(0x7FE00010, b"OB", b"", make.UNDEFINED, order)
    inside += make.item(b"", order) + make.item(b"jpeg" * 9, order) + make.delimiter(order)
    return (
        make.explicit(0x00880200, b"SQ", b"", make.UNDEFINED, order)
        + make.open_item(inside, order)
        + make.delimiter(order)
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_pixel_data_inside_an_icon_is_not_taken_for_the_image(order):
    syntax = make.EXPLICIT if order == "<" else make.BIG_ENDIAN
    data = make.part10(icon(order) + make.image(5, 6, b"real", order), syntax)
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.pixel_value :] == b"real"
    assert (scan.rows, scan.columns) == (5, 6)


def test_an_icon_alone_is_not_an_image():
    scan = scanned(make.part10(icon()))
    assert scan.status == _scan.END
    assert scan.rows == 0
    assert scan.attribute(0x00280010) is None


def test_native_pixel_data_of_an_icon_of_defined_length_is_not_taken_for_the_image():
    inside = make.item(make.explicit(0x7FE00010, b"OW", b"icon"))
    data = make.part10(make.explicit(0x00880200, b"SQ", inside) + make.image(1, 1, b"real"))
    scan = scanned(data)
    assert data[scan.pixel_value :] == b"real"


@pytest.mark.parametrize("tag", [0x00081140, 0x00091001])
def test_undefined_lengths_in_implicit_vr_are_sequences(tag):
    inner = make.implicit(0x00081199, b"", make.UNDEFINED)
    inner += make.item(make.implicit(0x00081150, b"1.2\0"))
    inner += make.open_item(make.implicit(0x7FE00010, b"no")) + make.delimiter()
    data = make.part10(
        make.implicit(tag, b"", make.UNDEFINED)
        + make.open_item(inner)
        + make.item()
        + make.open_item()
        + make.delimiter()
        + make.implicit(0x7FE00010, b"real"),
        make.IMPLICIT,
    )
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.pixel_value :] == b"real"


@pytest.mark.parametrize("build", [make.implicit, lambda t, v: make.explicit(t, b"UI", v)])
def test_an_un_sequence_may_be_in_implicit_or_explicit_vr(build):
    inside = build(0x00081150, b"1.2\0") + build(0x00081155, b"1.2.3\0")
    data = make.part10(
        make.explicit(0x00091001, b"UN", b"", make.UNDEFINED)
        + make.open_item(inside)
        + make.open_item(inside)
        + make.delimiter()
        + make.image(1, 1, b"real")
    )
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.pixel_value :] == b"real"


def test_an_un_sequence_in_a_big_endian_data_set_may_be_little_endian():
    data = make.part10(
        make.explicit(0x00091001, b"UN", b"", make.UNDEFINED, ">")
        + make.open_item(make.implicit(0x00081150, b"1.2\0"))
        + make.delimiter()
        + make.image(1, 1, b"real", ">"),
        make.BIG_ENDIAN,
    )
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.pixel_value :] == b"real"


def test_an_invalid_vr_makes_the_element_implicit():
    data = make.part10(
        make.explicit(0x00080016, b"UI", b"1.2\0")
        + make.implicit(0x00091001, b"abc")
        + make.image(1, 1, b"real")
    )
    assert data[scanned(data).pixel_value :] == b"real"


def test_an_unknown_vr_has_a_length_of_16_bits():
    data = make.part10(make.explicit(0x00091001, b"ZY", b"abc") + make.image(1, 1, b"real"))
    assert data[scanned(data).pixel_value :] == b"real"


@pytest.mark.parametrize(
    ("tag", "vr"), [(0x7FE00008, b"OF"), (0x7FE00009, b"OD"), (0x7FE00010, b"OW")]
)
def test_float_and_double_float_pixel_data_are_pixel_data(tag, vr):
    scan = scanned(make.part10(make.explicit(tag, vr, bytes(8))))
    assert scan.status == _scan.PIXELS
    assert (scan.pixel_tag, scan.pixel_vr, scan.pixel_length) == (tag, vr, 8)


@pytest.mark.parametrize("vr", sorted(STANDARD_VR))
def test_every_vr_has_the_length_field_of_the_standard(vr):
    # Each width of length field would read the other's bytes as nonsense.
    element = make.explicit(0x00091001, b"ZY", b"ab")[:4] + vr.encode()
    element += struct.pack("<HI", 0, 2) if vr in EXPLICIT_VR_LENGTH_32 else struct.pack("<H", 2)
    data = make.part10(element + b"ab" + make.image(1, 1, b"real"))
    assert data[scanned(data).pixel_value :] == b"real"


def test_the_extended_offset_table_is_among_the_attributes():
    table = make.explicit(0x7FE00001, b"OV", bytes(16)) + make.explicit(
        0x7FE00002, b"OV", bytes(16)
    )
    pixels = make.explicit(0x7FE00010, b"OB", b"", make.UNDEFINED)
    data = make.part10(table + pixels + make.item() + make.delimiter())
    scan = scanned(data)
    start = data.index(table)
    assert scan.pixel_length is None
    assert scan.attribute(0x7FE00001) == (b"OV", start + 12, 16)
    assert scan.attribute(0x7FE00002) == (b"OV", start + 40, 16)


def test_odd_lengths_are_accepted():
    data = make.part10(make.explicit(0x00100010, b"PN", b"A^B") + make.image(1, 1, b"abc"))
    scan = scanned(data)
    assert scan.pixel_length == 3
    assert scan.attribute(0x00100010)[2] == 3


def test_pixel_data_of_length_zero_is_pixel_data():
    scan = scanned(make.part10(make.explicit(0x7FE00010, b"OW")))
    assert (scan.status, scan.pixel_length) == (_scan.PIXELS, 0)


@pytest.mark.parametrize("length", [5, 0x7FFFFFFF, 0xFFFFFFFE])
def test_pixel_data_past_the_end_of_the_file_has_the_length_declared(length):
    scan = scanned(make.part10(make.explicit(0x7FE00010, b"OW", b"abcd", length)))
    assert (scan.status, scan.pixel_length) == (_scan.PIXELS, length)


@pytest.mark.parametrize("length", [5, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE])
def test_another_value_past_the_end_of_the_file_breaks_it(length):
    data = make.part10(make.explicit(0x00091001, b"OB", b"abcd", length))
    assert scanned(data).status == _scan.BROKEN
    assert through_windows(data, 1).status == _scan.BROKEN
    assert through_windows(data, 1, True).status == _scan.BROKEN


def test_a_value_of_nearly_4_gib_is_skipped_not_asked_for():
    data = make.part10(make.explicit(0x00091001, b"OB", b"", 0xFFFFFFFE))
    scan = Scan()
    assert scan.feed(data, 0, False) == _scan.NEED
    assert scan.pos == len(data) + 0xFFFFFFFE
    assert scan.feed(make.image(4, 4, b"ab"), scan.pos, True) == _scan.PIXELS
    assert scan.pixel_value > 1 << 32


@pytest.mark.parametrize(("depth", "status"), [(63, "PIXELS"), (64, "PIXELS"), (65, "BROKEN")])
@pytest.mark.parametrize("build", [make.implicit, lambda t, v, n: make.explicit(t, b"SQ", v, n)])
def test_sequences_are_followed_64_deep(depth, status, build):
    nested = b""
    for _ in range(depth):
        nested = build(0x00081140, make.open_item(nested) + make.delimiter(), make.UNDEFINED)
    last = make.implicit(0x7FE00010, b"ab") if build is make.implicit else make.image(1, 1, b"ab")
    assert scanned(make.part10(nested + last, None)).status == getattr(_scan, status)


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"],
)
def test_deflated_transfer_syntaxes_are_reported(syntax):
    data = make.part10(b"\xed\xc1\x01\x0d\x00\x00\x00\xc2", syntax)
    scan = scanned(data)
    assert scan.status == _scan.DEFLATED
    assert data[scan.dataset :] == b"\xed\xc1\x01\x0d\x00\x00\x00\xc2"


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        (b" 1 ", 1),
        (b"60\0", 60),
        (b"", 1),
        (b"0", 1),
        (b"-3", 1),
        (b"+3", 3),
        (b"007", 7),
        (b"2.0 ", 2),
        (b"2.5 ", 1),
        (b"1A", 1),
        (b"12\\13", 1),
        (b"  ", 1),
        (b"18446744073709551615", (1 << 64) - 1),
        (b"18446744073709551616", 1),
        (b"3" + b" " * 63, 3),
        (b"3" + b" " * 64, 1),
    ],
)
def test_number_of_frames_is_read_from_its_text(text, frames):
    data = make.part10(make.explicit(0x00280008, b"IS", text) + make.image(1, 1, b"ab"))
    assert scanned(data).frames == frames
    assert through_windows(data, 1).frames == frames


def test_numbers_of_other_vrs_than_the_standards_are_understood():
    data = make.part10(
        make.explicit(0x00280008, b"US", b"\5\0")
        + make.explicit(0x00280010, b"UL", b"\0\0\1\0")
        + make.explicit(0x00280011, b"IS", b"77")
        + make.explicit(0x00280100, b"US")
        + make.explicit(0x7FE00010, b"OW")
    )
    scan = scanned(data)
    assert (scan.frames, scan.rows, scan.columns, scan.bits_allocated) == (5, 65536, 77, 0)


def test_elements_out_of_order_are_found_and_the_last_of_two_counts():
    data = make.part10(
        make.explicit(0x00280011, b"US", b"\2\0")
        + make.explicit(0x00280010, b"US", b"\1\0")
        + make.explicit(0x00080016, b"UI", b"1.2\0")
        + make.explicit(0x00280010, b"US", b"\3\0")
        + make.explicit(0x7FE00010, b"OW")
    )
    scan = scanned(data)
    assert (scan.rows, scan.columns) == (3, 2)
    assert set(scan.attributes) == {0x00020010, 0x00080016, 0x00280010, 0x00280011}


def test_zeros_behind_the_data_set_are_padding():
    data = make.part10(make.explicit(0x00080016, b"UI", b"1.2\0"))
    for count in range(40):
        assert scanned(data + bytes(count)).status == _scan.END


def test_a_file_cut_inside_a_header_or_a_value_is_broken():
    data = make.part10(make.explicit(0x00080016, b"UI", b"1.2\0") + icon())
    ends = {len(data), data.index(icon())}
    start = len(make.part10(b""))
    for length in range(start + 1, len(data) + 1):
        expected = _scan.END if length in ends else _scan.BROKEN
        assert scanned(data[:length]).status == expected


@pytest.mark.parametrize("stray", [make.delimiter(), make.item(b"ab")])
def test_a_stray_item_at_the_top_level_is_passed_over_as_in_pydicom(stray):
    data = make.part10(make.explicit(0x00080016, b"UI", b"1.2\0") + stray + make.image(1, 1, b""))
    assert scanned(data).status == _scan.PIXELS


def test_an_item_delimiter_at_the_top_level_breaks_the_file():
    stray = make.implicit(0xFFFEE00D)
    data = make.part10(make.explicit(0x00080016, b"UI", b"1.2\0") + stray + make.image(1, 1, b""))
    assert scanned(data).status == _scan.BROKEN


def test_something_else_where_an_item_belongs_breaks_the_file():
    sequence = make.explicit(0x00081140, b"SQ", b"", make.UNDEFINED)
    data = make.part10(sequence + make.image(1, 1, b"ab") + make.delimiter())
    assert scanned(data).status == _scan.BROKEN


def test_an_item_of_defined_length_may_be_followed_by_a_delimiter():
    sequence = make.explicit(0x00081140, b"SQ", b"", make.UNDEFINED)
    sequence += make.item(b"") + make.implicit(0xFFFEE00D) + make.delimiter()
    assert scanned(make.part10(sequence + make.image(1, 1, b"ab"))).status == _scan.PIXELS


FOREIGN = {
    "empty": b"",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "text": b"The quick brown fox jumps over the lazy dog. " * 200,
    "UTF-16 text": ("The quick brown fox. " * 200).encode("utf-16-le"),
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(range(256)) * 20,
    "gzip": b"\x1f\x8b\x08\x08" + bytes(range(256)) * 20,
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)) * 20,
    "bitmap": b"BM" + struct.pack("<IHHI", 5000, 0, 0, 54) + bytes(5000),
    "icon": b"\0\0\1\0\1\0\x20\x20" + bytes(5000),
    "small numbers": struct.pack("<1000I", *range(8, 1008)),
    "group lengths": struct.pack("<9I", 8, 4, 0, 9, 4, 0, 7, 4, 0) * 50,
    "smaller numbers": struct.pack("<1000I", *range(2, 1002)),
    "16-bit ramp": struct.pack("<2000H", *range(8, 2008)),
    "a preamble without DICM": bytes(128) + b"MCID" + bytes(500),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_dicom_is_foreign(name):
    assert scanned(FOREIGN[name]).status == _scan.FOREIGN
    assert through_windows(FOREIGN[name], 1).status == _scan.FOREIGN


def test_random_bytes_are_foreign():
    source = random.Random(5)
    for _ in range(3000):
        assert scanned(source.randbytes(source.randrange(600))).status == _scan.FOREIGN


def test_a_file_that_ends_after_the_prefix_or_the_meta_group_is_dicom():
    assert scanned(bytes(128) + b"DICM").status == _scan.END
    scan = scanned(make.part10(b""))
    assert scan.status == _scan.END
    assert scan.dataset == len(make.part10(b""))


# Windows, on files made at random

tags = st.sampled_from([0x00080016, 0x00080060, 0x00091001, 0x00100010, 0x00280008, 0x00280010])
contents = st.binary(max_size=70)
vrs = st.sampled_from([b"UI", b"CS", b"OB", b"UN", b"US", b"IS", b"SQ", b"XX"])


def sequences(inner, order: str, sequence_vrs) -> st.SearchStrategy[bytes]:
    """Draw sequences of undefined length with items of both kinds around `inner`."""
    content = st.lists(inner, max_size=3).map(b"".join)
    one = st.builds(lambda build, c: build(c, order), st.sampled_from(ITEM_KINDS), content)
    return st.builds(
        lambda tag, vr, inside: (
            make.explicit(tag, vr, b"", make.UNDEFINED, order) + inside + make.delimiter(order)
        ),
        tags,
        sequence_vrs,
        st.lists(one, max_size=3).map(b"".join),
    )


ITEM_KINDS = [make.item, make.open_item]


def explicit_elements(order: str) -> st.SearchStrategy[bytes]:
    plain = st.builds(lambda t, vr, v: make.explicit(t, vr, v, order=order), tags, vrs, contents)
    nested = st.sampled_from([b"SQ", b"UN"])
    return st.recursive(plain, lambda inner: sequences(inner, order, nested), max_leaves=12)


def muddled_elements(order: str) -> st.SearchStrategy[bytes]:
    """Draw elements of both encodings, with VRs that do not fit and that are none."""
    any_vr = st.sampled_from([b"UI", b"OB", b"UN", b"IS", b"SQ", b"XX", b"O\0", b"\0\0"])
    plain = st.builds(lambda t, vr, v: make.explicit(t, vr, v, order=order), tags, any_vr, contents)
    bare = st.builds(lambda t, v: make.implicit(t, v, order=order), tags, contents)
    nested = st.sampled_from([b"SQ", b"UN", b"OB"])
    return st.recursive(
        st.one_of(plain, bare), lambda inner: sequences(inner, order, nested), max_leaves=12
    )


@st.composite
def made_up_files(draw, elements, muddled: bool):
    order = draw(st.sampled_from("<>"))
    body = b"".join(draw(st.lists(elements(order), max_size=6)))
    if draw(st.integers(0, 3)):
        body += make.image(3, 4, draw(contents), order)
    if not muddled:
        return make.part10(body, make.EXPLICIT if order == "<" else make.BIG_ENDIAN)
    syntax = draw(st.sampled_from([make.EXPLICIT, make.IMPLICIT, make.BIG_ENDIAN, None]))
    data = body if draw(st.integers(0, 4)) == 0 else make.part10(body, syntax)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=400, deadline=None)
@given(made_up_files(muddled_elements, True), st.integers(1, 300), st.booleans())
def test_made_up_files_give_the_same_through_all_windows(data, size, late_last):
    assert results(through_windows(data, size, late_last)) == results(scanned(data))


@settings(max_examples=400, deadline=None)
@given(made_up_files(explicit_elements, False))
def test_the_scanner_agrees_with_pydicom_on_made_up_files(data):
    places = []

    def at_pixel_data(tag, vr, length):
        if tag in PIXEL_TAGS:
            places.append((int(tag), file.tell(), length))
        return tag in PIXEL_TAGS

    with make.quiet_pydicom(), io.BytesIO(data) as file:
        read_partial(file, at_pixel_data)
    scan = scanned(data)
    if places:
        assert scan.status == _scan.PIXELS
        assert [(scan.pixel_tag, scan.pixel_value, scan.pixel_length)] == places
    else:
        assert scan.status == _scan.END


# Items of encapsulated pixel data


def all_items(data: bytes, start: int, size: int, capacity: int = 3, order: str = "<"):
    found, next_header, status = [], start, _scan.ITEMS_NEED
    while status in (_scan.ITEMS_NEED, _scan.ITEMS_FULL):
        begin = min(next_header, len(data))
        window = data[begin : begin + max(size, 8)]
        status, next_header, some = items(
            window, begin, next_header, begin + len(window) == len(data), order == ">", capacity
        )
        assert len(some) <= capacity
        found += some
    return status, next_header, found


ENCAPSULATED = make.item(bytes(8)) + make.item(b"frag") * 5 + make.item() + make.delimiter()


@pytest.mark.parametrize("size", [8, 9, 15, 16, 31, 4096])
@pytest.mark.parametrize("capacity", [1, 2, 7, 256, 1000])
def test_items_are_walked_to_the_delimiter(size, capacity):
    status, end, found = all_items(ENCAPSULATED + b"behind", 0, size, capacity)
    assert status == _scan.ITEMS_DELIMITER
    assert end == len(ENCAPSULATED)
    starts = [0, *range(16, 76, 12), 76]
    assert found == list(zip(starts, [8, 4, 4, 4, 4, 4, 0], strict=True))


def test_big_endian_items_are_walked():
    data = make.item(b"abcd", ">") + make.delimiter(">")
    assert all_items(data, 0, 64, order=">") == (_scan.ITEMS_DELIMITER, 20, [(0, 4)])


def test_a_walk_without_room_is_full():
    assert items(ENCAPSULATED, 0, 0, True, capacity=0) == (_scan.ITEMS_FULL, 0, [])


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"\xfe\xff\x00",
        make.implicit(0x00080016, b"1.2\0"),
        make.implicit(0xFFFEE000, b"ab", make.UNDEFINED) + make.delimiter(),
        make.implicit(0xFFFEE000, b"short", 6),
        make.implicit(0xFFFEE000, b"short", 0xFFFFFFFE),
        make.implicit(0xFFFEE0DD, b"", 2),
        make.implicit(0xFFFEE00D),
    ],
    ids=["end", "cut", "element", "undefined", "past the end", "4 GiB", "long delimiter", "E00D"],
)
def test_irregular_items_end_the_walk_where_they_stand(odd):
    data = make.item(b"frag") + odd
    assert items(data, 0, 0, True) == (_scan.ITEMS_IRREGULAR, 12, [(0, 4)])


def test_an_item_let_pass_by_an_earlier_window_ends_the_walk_behind_the_file():
    data = make.implicit(0xFFFEE000, b"short", 6)
    assert items(data, 0, 0, False) == (_scan.ITEMS_NEED, 14, [(0, 6)])
    assert items(b"", len(data), 14, True) == (_scan.ITEMS_IRREGULAR, 14, [])


@every_file
def test_the_fragments_are_those_that_pydicom_finds(path):
    data = path.read_bytes()
    scan = scanned(data)
    if scan.status != _scan.PIXELS or scan.pixel_length is not None:
        return
    status, end, found = items(data, 0, scan.pixel_value, True, scan.big_endian)
    whole = all_items(data, scan.pixel_value, 8)
    if status != _scan.ITEMS_DELIMITER:
        assert path.name == "emri_small_jpeg_2k_lossless_too_short.dcm"
        return
    assert whole == (status, end, found)
    fragments = [data[at + 8 : at + 8 + length] for at, length in found]
    value = pydicom_reads(path).PixelData
    assert fragments[1:] == list(pydicom.encaps.generate_fragments(value[found[0][1] + 8 :]))


# The Python side


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        bytearray,
        memoryview,
        lambda b: memoryview(b).cast("H"),
        lambda b: numpy.frombuffer(b, "<u2"),
        lambda b: numpy.frombuffer(b, "u1").reshape(-1, 2),
    ],
)
@pytest.mark.parametrize("pixels", [b"ab", bytes(200_000)])
def test_any_contiguous_buffer_is_scanned(wrap, pixels):
    data = make.part10(make.image(1, 1, pixels))
    scan = Scan()
    assert scan.feed(wrap(data), 0, True) == _scan.PIXELS
    assert items(wrap(ENCAPSULATED), 0, 0, True)[0] == _scan.ITEMS_DELIMITER


def test_a_mapped_file_is_scanned(tmp_path):
    path = tmp_path / "image.dcm"
    path.write_bytes(make.part10(make.image(1, 1, bytes(100_000))))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        scan = Scan()
        assert scan.feed(mapped, 0, True) == _scan.PIXELS
        # Closing fails while somebody holds the buffer: nobody may.


def test_a_large_buffer_is_not_copied():
    data = make.part10(make.image(1, 1, bytes(50_000_000)))
    tracemalloc.start()
    try:
        Scan().feed(data, 0, True)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "buffer",
    [
        memoryview(b"abcdef")[::2],
        numpy.zeros((64, 4), "u1")[:, ::2],
        numpy.zeros((64, 4), "u1", order="F"),
    ],
)
def test_a_buffer_with_gaps_is_refused(buffer):
    with pytest.raises(ValueError, match="contiguous"):
        Scan().feed(buffer, 0, True)
    with pytest.raises(ValueError, match="contiguous"):
        items(buffer, 0, 0, True)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Scan().feed(b"", -1, True)
    for wrong in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
        base, start, capacity = wrong
        with pytest.raises(ValueError, match="negative"):
            items(b"", base, start, True, False, capacity)


def test_no_buffer_at_all_is_a_type_error():
    with pytest.raises(TypeError):
        Scan().feed("text", 0, True)


def test_an_ended_scan_stays_as_it_is():
    data = make.part10(make.image(1, 1, b"ab"))
    scan = scanned(data)
    before = results(scan)
    assert scan.feed(b"", 0, True) == _scan.PIXELS
    assert results(scan) == before


def test_attribute_and_attributes_say_the_same():
    path = next(p for p in FILES if p.name == "CT_small.dcm")
    scan = scanned(path.read_bytes())
    assert len(scan.attributes) > 30
    for tag, place in scan.attributes.items():
        assert scan.attribute(tag) == place
    assert scan.attribute(0x00091001) is None
    assert scan.attribute(0) is None
    assert scan.attribute(0xFFFFFFFF) is None


# Text of the attributes


def text_in_pydicom(dataset, tag):
    element = dataset.file_meta[tag] if tag >> 16 == 2 else dataset[tag]
    value = element.value
    if value is None:
        return ""
    parts = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    text = [
        str(part if isinstance(part, PersonName) else getattr(part, "original_string", part))
        for part in parts
        if part is not None
    ]
    return "\\".join(part.strip(" \0") for part in text)


@every_file
def test_the_text_of_the_attributes_is_that_of_pydicom(path):
    data = path.read_bytes()
    scan = scanned(data)
    if scan.status == _scan.FOREIGN:
        return
    found = values(scan, data)
    different = {}
    dataset = pydicom_reads(path, stop_before_pixels=True)
    with make.quiet_pydicom():
        for tag in scan.attributes:
            if tag in KEYWORDS:
                expected = text_in_pydicom(dataset, tag)
                if found[KEYWORDS[tag]] != expected:
                    different[KEYWORDS[tag]] = (found[KEYWORDS[tag]], expected)
    assert different == {}


def test_the_keywords_are_those_of_the_standard():
    for tag, keyword in KEYWORDS.items():
        assert pydicom.datadict.keyword_for_tag(tag) == keyword


def test_values_outside_the_data_at_hand_are_left_out():
    data = make.part10(
        make.explicit(0x00080060, b"CS", b"CT")
        + make.explicit(0x00100010, b"PN", b"A^B ")
        + make.image(1, 1, b"ab")
    )
    scan = scanned(data)
    place = scan.attribute(0x00100010)
    assert values(scan, data)["PatientName"] == "A^B"
    short = values(scan, data[: place[1] + 3])
    assert "PatientName" not in short
    assert short["Modality"] == "CT"


def test_big_endian_numbers_become_decimal_text():
    data = make.part10(make.image(258, 3, b"ab", ">"), make.BIG_ENDIAN)
    assert values(scanned(data), data)["Rows"] == "258"


def test_text_that_the_character_set_cannot_decode_is_latin_1():
    data = make.part10(
        make.explicit(0x00080005, b"CS", b"ISO_IR 192")
        + make.explicit(0x00100010, b"PN", b"M\xfcller")
        + make.image(1, 1, b"ab")
    )
    assert values(scanned(data), data)["PatientName"] == "Müller"
