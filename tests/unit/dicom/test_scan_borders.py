"""Lengths, ends and depths of made files; what is cut, deflated or not DICOM."""

import random
import struct

import pytest
import scan_corpus as make
from scan_results import scanned, through_windows

from dicomcrypt.native import _scan
from dicomcrypt.native._scan import Scan


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
    data = make.part10(make.explicit(0x00080016, b"UI", b"1.2\0") + make.icon())
    ends = {len(data), data.index(make.icon())}
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
