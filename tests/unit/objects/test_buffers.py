"""Objects in the caller's memory: what is taken, what is too small, what failure leaves."""

import mmap

import numpy as np
import object_files as make
import pytest
from pydicom.data import get_testdata_file

import dicomcrypt as dc

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
