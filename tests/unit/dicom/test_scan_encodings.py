"""The scanner follows every encoding of data sets, declared, guessed or mixed."""

import struct

import pytest
import scan_corpus as make
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR
from scan_results import scanned

from dicomcrypt.native import _scan


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


@pytest.mark.parametrize("order", ["<", ">"])
def test_pixel_data_inside_an_icon_is_not_taken_for_the_image(order):
    syntax = make.EXPLICIT if order == "<" else make.BIG_ENDIAN
    data = make.part10(make.icon(order) + make.image(5, 6, b"real", order), syntax)
    scan = scanned(data)
    assert scan.status == _scan.PIXELS
    assert data[scan.pixel_value :] == b"real"
    assert (scan.rows, scan.columns) == (5, 6)


def test_an_icon_alone_is_not_an_image():
    scan = scanned(make.part10(make.icon()))
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
