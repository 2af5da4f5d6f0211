"""The scanner agrees with pydicom, whatever the windows, and survives what is not DICOM."""

import io
from pathlib import Path

import pydicom
import pytest
import scan_corpus as make
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filereader import read_partial
from scan_results import (
    FILES,
    NUMBERS,
    PIXEL_TAGS,
    every_file,
    place_in_pydicom,
    pydicom_reads,
    results,
    scanned,
    through_windows,
)

from dicomcrypt.native import _scan

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


# Files made at random

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


@settings(max_examples=150, deadline=None)
@given(made_up_files(muddled_elements, True), st.integers(1, 300), st.booleans())
def test_made_up_files_give_the_same_through_all_windows(data, size, late_last):
    assert results(through_windows(data, size, late_last)) == results(scanned(data))


@settings(max_examples=150, deadline=None)
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
