"""An opened object gives the data set, frames and ranges that the file has, as pydicom sees
them, and reads no more than it must."""

import logging
import random
import warnings

import numpy as np
import object_files as make
import pydicom
import pytest
from pydicom.encaps import get_frame

import dicomcrypt as dc
from dicomcrypt.ciphers.transform import LINEAR_UNIT
from dicomcrypt.container.layout import PIXELS, STREAM_ORDER, TAGS, TAIL
from dicomcrypt.container.reader import Container
from dicomcrypt.container.streams import CHUNK
from dicomcrypt.objects.opened import OpenedObject

IDENTITY = dc.Identity.generate()
KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
SMALL = make.small_files()
EVERY = SMALL | make.large_files()


@pytest.fixture(autouse=True)
def quiet():
    """pydicom comments on the broken ones among its files."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def with_pixels(path):
    """The data set of a file that has pixel data, None otherwise."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        return dataset if any(k in dataset for k in KEYWORDS) else None
    except Exception:  # whatever pydicom raises at what is no DICOM
        return None


def pixel_value(dataset):
    return next(dataset[k].value for k in KEYWORDS if k in dataset)


def opened(data):
    """An object as `dc.open` opens a path, with a source that counts."""
    source = make.CountingSource(dc.encrypt(data, [IDENTITY.recipient]))
    return OpenedObject(Container(source).unlock([IDENTITY])), source


def frame_count(dataset):
    try:
        return int(dataset.get("NumberOfFrames") or 1)
    except ValueError:  # badVR.dcm has "1A"
        return 1


def wanted_frames(dataset):
    """The frames' bytes as pydicom finds them, None for those that were cut off."""
    count, value = frame_count(dataset), pixel_value(dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return [get_frame(value, n, number_of_frames=count) for n in range(count)]
    bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits * 2 // 3
    frames = [value[n * bits // 8 : -(-(n + 1) * bits // 8)] for n in range(count)]
    return [frame if len(frame) == -(-bits // 8) else None for frame in frames]


def test_elements_and_frames_are_those_that_pydicom_finds(corpus_file):
    dataset = with_pixels(corpus_file)
    if dataset is None:
        return
    obj, _ = opened(corpus_file.read_bytes())
    if PIXELS not in obj.container.streams:  # deflated, or broken before its pixel data
        assert dataset.file_meta.TransferSyntaxUID.is_deflated
        return
    expected = pydicom.dcmread(corpus_file, force=True)
    for keyword in KEYWORDS:
        if keyword in expected:
            del expected[keyword]
    if corpus_file.name != "badVR.dcm":  # a Number of Frames of "1A" has no JSON
        assert obj.dataset.to_json_dict() == expected.to_json_dict()
    assert obj.dataset.file_meta == expected.file_meta
    if dataset.file_meta.get("TransferSyntaxUID") is None or "Rows" not in dataset:
        return
    frames = wanted_frames(dataset)
    assert len(obj.frames) == len([frame for frame in frames if frame is not None])
    for number, frame in enumerate(frames):
        if frame is None:
            with pytest.raises(dc.FrameError):
                obj.frame_bytes(number)
        else:
            assert obj.frames[number] == frame


def test_every_element_behind_the_pixel_data_is_in_the_data_set():
    behind = make.element(0x7FE10010, b"LO", b"private ") + make.BEHIND
    obj, _ = opened(make.dicom(4, 4, bytes(16), behind=behind))
    assert obj.dataset[0x7FE10010].value == "private"
    assert obj.dataset[0xFFFCFFFC].value == bytes(10)
    assert "PixelData" not in obj.dataset


def same_frame(obj, dataset, number, count):
    """Whether a decoded frame is pydicom's, or neither can be decoded."""
    try:
        array = dataset.pixel_array
        expected = array[number] if count > 1 else array
    except Exception:  # pydicom cannot; then we say so in our way, or can
        try:
            obj.frame_array(number)
        except dc.FrameError:
            pass
        return True
    found = obj.frame_array(number)
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=False)


def test_decoded_frames_are_those_that_pydicom_decodes(corpus_file):
    dataset = with_pixels(corpus_file)
    if dataset is None or corpus_file.stat().st_size > 5_000_000:
        return
    obj, _ = opened(corpus_file.read_bytes())
    if PIXELS not in obj.container.streams:
        return
    count = obj.frame_count
    for number in sorted({0, 1, count // 2, count - 1} & set(range(count))):
        assert same_frame(obj, dataset, number, count), number


@pytest.mark.parametrize(
    "name", ["one bit", "colour by plane", "colour by pixel", "many frames", "pad byte"]
)
def test_decoded_frames_of_what_the_corpus_lacks_are_pydicom_s(name):
    data = SMALL[name]
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    obj, _ = opened(data)
    for number in range(obj.frame_count):
        assert same_frame(obj, dataset, number, obj.frame_count)
    assert obj.frame_count == dataset.NumberOfFrames


@pytest.mark.parametrize("number", [-7, -1, 3, 4, 100])
def test_there_is_no_frame_outside_the_frames(number):
    obj, _ = opened(SMALL["pad byte"])
    with pytest.raises(dc.FrameError):
        obj.frame_bytes(number)
    if not -3 <= number < 3:
        with pytest.raises(IndexError):
            obj.frames[number]
    assert obj.frames[-1] == obj.frames[2]
    assert obj.frames[1:] == [obj.frames[1], obj.frames[2]]


@pytest.mark.parametrize("name", ["text", "empty", "no pixel data", "two bytes too many"])
def test_a_file_without_frames_says_so(name):
    obj, _ = opened(SMALL[name])
    if PIXELS in obj.container.streams:
        assert list(obj.frames) == [obj.frame_bytes(n) for n in range(obj.frame_count)]
    else:
        assert obj.frame_count == 0
        with pytest.raises(dc.FrameError):
            obj.frames  # noqa: B018


@pytest.mark.parametrize("data", EVERY.values(), ids=EVERY)
def test_ranges_are_slices_of_the_file(data):
    obj, _ = opened(data)
    choose, at = random.Random(len(data)), 0
    for sid in STREAM_ORDER:
        if sid not in obj.container.streams:
            continue
        size = obj.container.payload_size(sid)
        payload = data[at : at + size]
        at += size
        ends = [0, size, *(n for n in (1, 16384, 4 << 20, size - 1) if 0 <= n <= size)]
        for _ in range(12 if size < 1 << 20 else 6):
            places = [choose.choice([choose.choice(ends), choose.randint(0, size)]) for _ in "ab"]
            start, end = sorted(places)
            assert obj.read(sid, start, end) == payload[start:end], (sid, start, end)
        for start, end in ((0, size + 1), (-1, 0), (size + 1, size + 1), (1, 0)):
            with pytest.raises(dc.DamagedError):
                obj.read(sid, start, end)
    assert at == len(data)


def touched(obj, number):
    """Bytes of the units of the block layer that a frame touches, or of the frame itself."""
    offset, length = obj.frame_place(number)
    low, high = offset, offset + length
    for run in obj.container.index(PIXELS).runs:
        size = run[2] * run[3] if len(run) == 5 else LINEAR_UNIT
        end = run[0] + run[1]
        for start in range(run[0], end, size):
            stop = min(start + size, end)
            if start < offset + length and stop > offset:
                low, high = min(low, start), max(high, stop)
    return high - low


def index_size(obj):
    return obj.container.reader(PIXELS).size - 4 - obj.container.payload_size(PIXELS)


def test_reading_one_frame_reads_little_more_than_the_frame(corpus_file):
    dataset = with_pixels(corpus_file)
    if dataset is None:
        return
    obj, _ = opened(corpus_file.read_bytes())
    if corpus_file.name == "MR_truncated.dcm":
        return  # its frame is cut off
    for number in {0, obj.frame_count // 2, obj.frame_count - 1} & set(range(obj.frame_count)):
        again, source = opened(corpus_file.read_bytes())
        again.frame_bytes(number)
        bound = touched(again, number) * 1.001 + 48 * 1024 + index_size(again)
        assert source.bytes_read <= bound, source.bytes_read - bound


@pytest.mark.parametrize("short", [1, 10, 60, 90, 93, 120, 300, 8000, CHUNK - 1, CHUNK])
def test_reading_one_frame_reads_little_more_wherever_the_chunks_end(short):
    rest = CHUNK - short
    columns = CHUNK + rest * pow(3, -1, CHUNK) % CHUNK  # so the payload ends `rest` into a chunk
    data = make.dicom(1, columns, make.noise(columns * 3), frames=3)
    for number in range(3):
        obj, source = opened(data)
        obj.frame_bytes(number)
        bound = touched(obj, number) * 1.001 + 48 * 1024 + index_size(obj)
        assert source.bytes_read <= bound, source.bytes_read - bound


def test_a_path_is_read_as_the_bounds_above_suppose(tmp_path):
    blob = dc.encrypt(SMALL["many frames"], [IDENTITY.recipient])
    (tmp_path / "o.dcmx").write_bytes(blob)
    counting = make.CountingSource(blob)
    OpenedObject(Container(counting).unlock([IDENTITY])).frame_bytes(3)
    with dc.open(tmp_path / "o.dcmx", [IDENTITY]) as obj:
        obj.frame_bytes(3)
        assert obj.container.container.source.bytes_read == counting.bytes_read


def test_a_second_frame_does_not_read_the_header_and_the_index_again():
    obj, source = opened(SMALL["many frames"])
    obj.frame_bytes(3)
    before = source.bytes_read
    obj.frame_bytes(4)
    assert source.bytes_read - before <= 64 * 65 * 1.001 + 2 * CHUNK


def test_tags_and_tail_are_read_without_the_pixel_data():
    data = make.dicom(1000, 1000, make.noise(1_000_000))
    obj, source = opened(data)
    assert obj.dataset.PatientName == "Nobody^Really"
    assert source.bytes_read < 48 * 1024
    assert {TAGS, TAIL} <= set(obj.container.streams)


def test_an_object_opens_from_a_path_a_file_memory_and_a_source(tmp_path):
    blob = dc.encrypt(SMALL["many frames"], [IDENTITY.recipient])
    path = tmp_path / "object.dcmx"
    path.write_bytes(blob)
    frame = dc.open(blob, [IDENTITY]).frame_bytes(7)
    with path.open("rb") as file, dc.open(file, [IDENTITY]) as obj:
        assert obj.frame_bytes(7) == frame
        obj.close()
        assert not file.closed
    for source in (path, str(path), bytearray(blob), memoryview(blob), make.CountingSource(blob)):
        with dc.open(source, [IDENTITY]) as obj:
            assert obj.frame_bytes(7) == frame
