"""examples/cstore_receiver.py against dcmtk's storescu and pynetdicom."""

import contextlib
import io
import os
import pathlib
import socket
import struct
import subprocess
import time

import pydicom
import pytest
from cstore import (
    IDENTITY,
    MEMORY,
    association,
    command,
    pdu,
    pixels,
    put,
    raw,
    send,
    status_of_answer,
    store_one,
)
from dcmtk import dcmtk
from ports import free_port
from pydicom.uid import generate_uid

import dicomcrypt as dc
from tests.conftest import require_module

# The threads of pynetdicom's requestor, when both sides end an association at once.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
#: storescu's option for each kind of file: propose its transfer syntax and no other.
SYNTAXES = {
    "CT_small.dcm": "-xe", "MR_small_bigendian.dcm": "-xb", "MR_small_implicit.dcm": "-xi",
    "JPEG-lossy.dcm": "-xx", "SC_rgb_jpeg_dcmtk.dcm": "-xy", "JPEG-LL.dcm": "-xs",
    "JPEG2000.dcm": "-xw", "MR_small_jpeg_ls_lossless.dcm": "-xt", "MR_small_RLE.dcm": "-xr",
    "examples_ybr_color.dcm": "-xy", "emri_small_jpeg_2k_lossless.dcm": "-xv",
}  # fmt: skip


@pytest.fixture(autouse=True)
def gateway():
    require_module("pynetdicom", "gateway")


def data_set(file):
    """The bytes behind the file meta information."""
    (length,) = struct.unpack_from("<I", file, 140)
    return bytes(file[144 + length :])


@pytest.fixture
def storescp(tmp_path):
    """dcmtk's receiver, which writes down what came bit by bit: (port, folder)."""
    folder, port = tmp_path / "storescp", free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [dcmtk("storescp"), "+B", "+xa", "-od", folder, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
            break
        time.sleep(0.01)
    yield port, folder
    process.terminate()
    process.wait()


# ---- dcmtk ------------------------------------------------------------------


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_data_set_is_what_dcmtk_receives_of_storescu(name, file_of, receive, storescp):
    receiver, path = receive(), file_of(name)
    port, folder = storescp
    option = ["-R", SYNTAXES[name], path]
    assert send(port, *option).returncode == 0
    done = send(receiver.port, *option)
    assert done.returncode == 0, done.stderr
    (received,), (plain,) = receiver.files(), [p.read_bytes() for p in folder.iterdir()]
    assert data_set(received) == data_set(plain)
    found, told = pydicom.dcmread(io.BytesIO(received)), pydicom.dcmread(path)
    meta = found.file_meta
    assert meta.TransferSyntaxUID == told.file_meta.TransferSyntaxUID
    assert meta.MediaStorageSOPClassUID == told.SOPClassUID
    assert meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == told.SOPInstanceUID
    with dc.open(receiver.objects()[0], [IDENTITY]) as obj:
        assert obj.frame_bytes(0) == dc.open(
            dc.encrypt(plain, [IDENTITY.recipient]), [IDENTITY]
        ).frame_bytes(0)


def variants(path, folder, count):
    """Files of as many instances."""
    folder.mkdir()
    dataset = pydicom.dcmread(path)
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def test_several_associations_at_once_and_the_log_names_nobody(tmp_path, file_of, receive):
    receiver = receive()
    folders = [variants(file_of("CT_small.dcm"), tmp_path / str(n), 12) for n in range(5)]
    words = [dcmtk("storescu"), "localhost", str(receiver.port), "+sd"]
    running = [subprocess.Popen([*words, folder]) for folder in folders]
    assert [process.wait(100) for process in running] == [0] * 5
    sent = {pydicom.dcmread(p).SOPInstanceUID for f in folders for p in f.iterdir()}
    received = [pydicom.dcmread(io.BytesIO(file)) for file in receiver.files()]
    assert {dataset.SOPInstanceUID for dataset in received} == sent
    assert len(received) == 60
    told = receiver.log + " ".join(path.name for path in receiver.objects())
    one = received[0]
    for secret in (*sent, one.PatientName, one.PatientID, one.StudyInstanceUID):
        assert str(secret) not in told


def test_what_is_sent_twice_is_stored_twice(file_of, receive):
    receiver = receive()
    for _ in range(2):
        assert send(receiver.port, file_of("CT_small.dcm")).returncode == 0
    first, second = receiver.files()
    assert first == second


def test_objects_are_for_their_owner_alone(file_of, receive):
    receiver = receive()
    assert send(receiver.port, file_of("CT_small.dcm")).returncode == 0
    assert {path.stat().st_mode & 0o777 for path in receiver.objects()} == {0o600}


# ---- pynetdicom -------------------------------------------------------------


def test_a_data_set_of_half_a_gigabyte_in_bounded_memory(receive):
    receiver, frames, block = receive(), 500, os.urandom(1 << 20)
    assert store_one(receiver.port)
    before = receiver.peak()
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(frames << 20)))
        for number in range(frames):
            frame = struct.pack("<Q", number) + block[8:]
            for at in range(0, 1 << 20, 1 << 16):
                last = number == frames - 1 and at == (1 << 20) - (1 << 16)
                put(assoc, pdu(2 if last else 0, frame[at : at + (1 << 16)]))
        assert status_of_answer(assoc) == (7, 0)
    assert receiver.peak() - before < MEMORY
    largest = max(receiver.objects(), key=lambda path: path.stat().st_size)
    with dc.open(largest, [IDENTITY]) as obj:
        assert obj.frame_count == frames
        for number in (0, 123, frames - 1):
            assert obj.frame_bytes(number) == struct.pack("<Q", number) + block[8:]
    largest.unlink()


def test_no_file_holds_plaintext_while_a_data_set_arrives(receive):
    receiver, mark = receive(), os.urandom(64)
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)), *[pdu(0, mark * 900)] * 60)
        receiver.wait(lambda: any(path.stat().st_size > 1 << 20 for path in receiver.parts()))
        held = [p for p in pathlib.Path(f"/proc/{receiver.process.pid}/fd").iterdir()
                if p.is_file()]  # those without a name too
        assert any(path.samefile(receiver.parts()[0]) for path in held)
        assert not any(mark in path.read_bytes() for path in held)
        assert list(receiver.temporary.iterdir()) == []


def test_pynetdicom_sends_what_it_encodes(file_of, receive):
    from pynetdicom.dsutils import encode

    receiver, dataset = receive(), pydicom.dcmread(file_of("CT_small.dcm"))
    expected = encode(dataset, False, True)
    with association(receiver.port) as assoc:
        for _ in range(3):
            assert assoc.send_c_store(dataset).Status == 0
            assert assoc.send_c_echo().Status == 0
    assert [data_set(file) for file in receiver.files()] == [expected] * 3


def test_fragments_in_one_pdu_and_in_many_are_one_data_set(receive):
    receiver, value = receive(), pixels(0)
    with raw(receiver.port) as assoc:
        items = [pdu(1, command()[:20]), pdu(3, command()[20:]),
                 *(pdu(0, value[n : n + 1]) for n in range(len(value) - 1)), pdu(2, value[-1:])]
        whole = b"".join(item[6:] for item in items)
        put(assoc, struct.pack(">BBI", 4, 0, len(whole)) + whole)
        assert status_of_answer(assoc) == (7, 0)
        put(assoc, *items)
        assert status_of_answer(assoc) == (7, 0)
        put(assoc, pdu(3, command()), pdu(0, value), pdu(2, b""))
        assert status_of_answer(assoc) == (7, 0)
    assert [data_set(file) for file in receiver.files()] == [value] * 3


def test_requests_that_do_not_wait_for_answers_are_all_answered(receive):
    receiver = receive()
    with raw(receiver.port) as assoc:
        for number in range(40):
            put(assoc, pdu(3, command(number=number)), pdu(2, pixels(0)))
        assert [status_of_answer(assoc) for _ in range(40)] == [(n, 0) for n in range(40)]
    assert len(receiver.objects()) == 40
