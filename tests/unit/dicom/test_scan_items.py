"""Items of encapsulated pixel data are walked as pydicom walks them."""

import pydicom
import pytest
import scan_corpus as make
from scan_results import every_file, pydicom_reads, scanned

from dicomcrypt.native import _scan
from dicomcrypt.native._scan import items


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


@pytest.mark.parametrize("size", [8, 9, 15, 16, 31, 4096])
@pytest.mark.parametrize("capacity", [1, 2, 7, 256, 1000])
def test_items_are_walked_to_the_delimiter(size, capacity):
    status, end, found = all_items(make.ENCAPSULATED + b"behind", 0, size, capacity)
    assert status == _scan.ITEMS_DELIMITER
    assert end == len(make.ENCAPSULATED)
    starts = [0, *range(16, 76, 12), 76]
    assert found == list(zip(starts, [8, 4, 4, 4, 4, 4, 0], strict=True))


def test_big_endian_items_are_walked():
    data = make.item(b"abcd", ">") + make.delimiter(">")
    assert all_items(data, 0, 64, order=">") == (_scan.ITEMS_DELIMITER, 20, [(0, 4)])


def test_a_walk_without_room_is_full():
    assert items(make.ENCAPSULATED, 0, 0, True, capacity=0) == (_scan.ITEMS_FULL, 0, [])


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
