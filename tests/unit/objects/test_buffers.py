"""Objects in the caller's memory: what is taken, what is too small, what failure leaves."""

import errno
import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import object_files as make
import pytest
from pydicom.data import get_testdata_file

import dicomcrypt as dc
from dicomcrypt.container.reader import WHOLE
from dicomcrypt.container.streams import CHUNK
from dicomcrypt.objects.buffers import EDGE, FileSource

IDENTITY, STRANGER = dc.X25519Identity.generate(), dc.X25519Identity.generate()
TO = [IDENTITY.recipient]
FILES = {
    "dicom": make.dicom(64, 65, make.noise(64 * 65 * 40), frames=40),
    "opaque": make.noise(100_000),
    "empty": b"",
}
every_file = pytest.mark.parametrize("data", FILES.values(), ids=FILES)


def as_mmap(data):
    area = mmap.mmap(-1, max(len(data), 1))
    area[: len(data)] = data
    return area


def as_2d(data):
    return np.frombuffer(data, np.uint8).reshape(2, -1)


BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "mmap": as_mmap,
    "array of two dimensions": as_2d,
    "array of words": lambda data: np.frombuffer(data, "<u2"),
    "read-only view": lambda data: memoryview(bytearray(data)).toreadonly(),
}
every_buffer = pytest.mark.parametrize("kind", BUFFERS.values(), ids=BUFFERS)


@every_buffer
def test_any_contiguous_buffer_is_taken(kind):
    data = make.dicom(10, 12, make.noise(120))
    data += bytes(len(data) % 2)
    blob = dc.encrypt(kind(data), TO)
    assert dc.decrypt(blob, [IDENTITY]) == data
    padded = blob + bytes(-len(blob) % 2)
    if padded == blob or kind not in (as_2d, BUFFERS["array of words"]):
        assert dc.decrypt(kind(blob), [IDENTITY]) == data
    out = bytearray(dc.encrypted_size(len(data)))
    size = dc.encrypt_into(kind(data), out, TO)
    assert dc.decrypt(memoryview(out)[:size], [IDENTITY]) == data


@pytest.mark.parametrize(
    "out",
    [
        lambda size: bytearray(size),
        lambda size: memoryview(bytearray(size)),
        lambda size: np.zeros(size, np.uint8),
        lambda size: np.zeros((2, -(-size // 2)), np.uint8),
        lambda size: mmap.mmap(-1, size),
    ],
    ids=("bytearray", "memoryview", "array", "array of two dimensions", "mmap"),
)
def test_any_writable_buffer_is_filled(out):
    data = FILES["dicom"]
    target = out(dc.encrypted_size(len(data)))
    size = dc.encrypt_into(data, target, TO)
    blob = bytes(memoryview(target).cast("B")[:size])
    plain = out(len(data))
    assert dc.decrypt_into(blob, plain, [IDENTITY]) == len(data)
    assert bytes(memoryview(plain).cast("B")[: len(data)]) == data


NOT_BUFFERS = {
    "text": "text",
    "list": [1, 2],
    "strided array": np.zeros(100, np.uint8)[::2],
    "columns first": np.zeros((4, 6), np.uint8, order="F"),
    "strided view": memoryview(bytes(100))[::2],
    "none": None,
}


@pytest.mark.parametrize("data", NOT_BUFFERS.values(), ids=NOT_BUFFERS)
def test_what_is_not_a_contiguous_buffer_is_refused(data):
    blob = dc.encrypt(b"x", TO)
    with pytest.raises(dc.UsageError):
        dc.encrypt(data, TO)
    with pytest.raises(dc.UsageError):
        dc.encrypt_into(data, bytearray(100_000), TO)
    with pytest.raises(dc.UsageError):
        dc.decrypt(data, [IDENTITY])
    with pytest.raises(dc.UsageError):
        dc.decrypt_into(blob, data, [IDENTITY])


def test_an_output_buffer_that_is_read_only_is_refused():
    with pytest.raises(dc.UsageError):
        dc.encrypt_into(b"x", bytes(100_000), TO)


@every_file
def test_decrypting_into_a_read_only_buffer_is_refused(data):
    with pytest.raises(dc.UsageError):
        dc.decrypt_into(dc.encrypt(data, TO), bytes(len(data)), [IDENTITY])


@every_file
def test_encrypted_size_is_enough_and_one_byte_less_than_the_object_is_not(data):
    out = bytearray(dc.encrypted_size(len(data)))
    size = dc.encrypt_into(data, out, TO)
    exact = bytearray(size)
    assert dc.encrypt_into(data, exact, TO) == size
    assert dc.decrypt(exact, [IDENTITY]) == data
    for room in {0, 1, 71, 72, size // 2, size - 97, size - 96, size - 1}:
        small = bytearray(b"\xee" * room)
        with pytest.raises(dc.UsageError):
            dc.encrypt_into(data, small, TO)
        assert not small.strip(b"\0\xee"), f"{room} bytes of an object were left behind"


def test_encrypted_size_is_enough_for_every_file(corpus_file):
    data = corpus_file.read_bytes()
    batch = dc.Batch(TO)
    out = bytearray(batch.encrypted_size(len(data)))
    size = batch.encrypt_into(data, out)
    assert size <= dc.encrypted_size(len(data))
    assert dc.decrypt(memoryview(out)[:size], [IDENTITY]) == data


@every_file
def test_decrypting_into_a_buffer_that_is_too_small_writes_nothing(data):
    blob = dc.encrypt(data, TO)
    for room in {0, len(data) // 2, len(data) - 1} - {len(data), -1}:
        small = bytearray(b"\xee" * room)
        with pytest.raises(dc.UsageError):
            dc.decrypt_into(blob, small, [IDENTITY])
        assert small == b"\xee" * room


def test_decrypting_into_a_larger_buffer_leaves_the_rest_of_it_alone():
    data = FILES["dicom"]
    out = bytearray(b"\xee" * (len(data) + 50_000))
    assert dc.decrypt_into(dc.encrypt(data, TO), out, [IDENTITY]) == len(data)
    assert out == data + b"\xee" * 50_000


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_failed_decryption_leaves_no_plaintext_in_the_buffer(share):
    data = FILES["dicom"]
    blob = bytearray(dc.encrypt(data, TO))
    blob[int(len(blob) * share)] ^= 1
    out = bytearray(b"\xee" * len(data))
    with pytest.raises(dc.DamagedError):
        dc.decrypt_into(blob, out, [IDENTITY])
    assert not out.strip(b"\0")


def test_a_stranger_s_call_writes_nothing():
    out = bytearray(b"\xee" * 1000)
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt_into(dc.encrypt(b"x" * 1000, TO), out, [STRANGER])
    assert out == b"\xee" * 1000


@pytest.mark.parametrize("shift", [0, 1, 4096, 90_000])
def test_overlapping_buffers_never_give_a_wrong_object(shift):
    data = FILES["dicom"]
    area = bytearray(2 * dc.encrypted_size(len(data)))
    view = memoryview(area)
    view[shift : shift + len(data)] = data
    try:
        size = dc.encrypt_into(view[shift : shift + len(data)], view[: len(area) // 2], TO)
    except dc.UsageError:
        return
    assert dc.decrypt(bytes(view[:size]), [IDENTITY]) == data


def test_a_batch_gives_every_object_a_core_of_its_own():
    batch = dc.Batch(TO)
    blobs = [batch.encrypt(b"same") for _ in range(50)]
    assert len({blob[:64] for blob in blobs}) == 50
    assert all(dc.decrypt(blob, [IDENTITY]) == b"same" for blob in blobs)


def test_a_batch_goes_on_after_a_failure():
    data = open_ct()
    with dc.Batch(TO) as batch:
        with pytest.raises(dc.UsageError):
            batch.encrypt_into(data, bytearray(20_000))
        out = bytearray(batch.encrypted_size(len(data)))
        size = batch.encrypt_into(data, out)
    assert dc.decrypt(out[:size], [IDENTITY]) == data


def open_ct():
    with open(get_testdata_file("CT_small.dcm"), "rb") as file:
        return file.read()


# ---- streams that are opened in one piece, and longer ones ---------------


@pytest.mark.parametrize("method", ["randomized", "none"])
@pytest.mark.parametrize("around", [CHUNK, 8 * CHUNK, WHOLE])
def test_files_around_the_size_that_is_opened_in_one_piece(around, method):
    cache = dc.BatchKeyCache()  # one buffer for all of them, longer and shorter
    batch = dc.Batch(TO, method=method)
    for size in (around + 1, around - 90, around - 1100, around, 0, around - CHUNK):
        data = make.noise(size, around)
        blob = batch.encrypt(data)
        assert dc.decrypt(blob, [IDENTITY], cache=cache) == data
        assert dc.decrypt(blob, [IDENTITY]) == data
        dicom = make.dicom(1, 1, data, length=len(data))
        assert dc.decrypt(batch.encrypt(dicom), [IDENTITY], cache=cache) == dicom


def test_a_job_s_buffer_is_one_thread_s_at_a_time_and_survives_a_failure():
    cache, batch = dc.BatchKeyCache(), dc.Batch(TO)
    files = [make.dicom(40, 50, make.noise(2000 * n, n), frames=n) for n in (1, 30, 100)]
    blobs = [batch.encrypt(data) for data in files]
    broken = bytearray(blobs[2])
    broken[-3000] ^= 1

    def work(number):
        for n in range(number, number + 30):
            assert dc.decrypt(blobs[n % 3], [IDENTITY], cache=cache) == files[n % 3]
            try:
                dc.decrypt(broken, [IDENTITY], cache=cache)
            except dc.DamagedError:  # its traceback is alive while the next object is opened
                assert dc.decrypt(blobs[2], [IDENTITY], cache=cache) == files[2]
            else:
                pytest.fail("damage went unnoticed")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))


@pytest.mark.parametrize("size", [0, 100, 2 * EDGE - 7000, 2 * EDGE, 3 * EDGE, 300_000])
def test_a_file_s_ranges_are_the_file_s_bytes_and_its_ends_are_read_once(tmp_path, size):
    data, path = make.noise(size, 3), tmp_path / "file"
    path.write_bytes(data)
    source, choose = FileSource(path, whole=True), random.Random(size)
    assert source.size() == size
    for _ in range(200):
        low, high = sorted((choose.randint(0, size), choose.randint(0, size)))
        assert source.read_range(low, high - low) == data[low:high]
    before = source.bytes_read
    for length in (1, 72, 5000, EDGE):
        length = min(length, size)
        assert source.read_range(0, length) == data[:length]
        assert source.read_range(size - length, length) == data[size - length :]
    assert source.bytes_read == before
    for offset, length in ((0, size + 1), (size, 1), (-1, 1), (1, -1)):
        with pytest.raises(dc.DamagedError):
            source.read_range(offset, length)
    source.close()


def test_a_bad_sector_hides_only_what_it_holds(tmp_path, monkeypatch):
    data, path = make.noise(200_000, 4), tmp_path / "file"
    path.write_bytes(data)
    source, pread = FileSource(path, whole=True), os.pread

    def failing(descriptor, length, offset):
        if offset <= 9000 < offset + length:
            raise OSError(errno.EIO, "bad sector")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    assert source.read_range(0, 9000) == data[:9000]
    assert source.read_range(9001, 500) == data[9001:9501]
    with pytest.raises(OSError, match="bad sector"):
        source.read_range(8999, 2)
    source.close()
