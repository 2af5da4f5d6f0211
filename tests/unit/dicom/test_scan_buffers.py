"""The scanner's Python side: buffers, arguments, attributes."""

import mmap
import tracemalloc

import numpy
import pytest
import scan_corpus as make
from scan_results import FILES, results, scanned

from dicomcrypt.native import _scan
from dicomcrypt.native._scan import Scan, items


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
    assert items(wrap(make.ENCAPSULATED), 0, 0, True)[0] == _scan.ITEMS_DELIMITER


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
