"""examples/cstore_receiver.py, and what goes wrong: peers that fall silent, full media, peers that
mean harm."""

import contextlib
import os
import socket
import struct
import time

import pytest
from cstore import (
    MEMORY,
    command,
    pdu,
    pixels,
    put,
    raw,
    status_of_answer,
    store_one,
)

from tests.conftest import require_module

# The threads of pynetdicom's requestor, when both sides end an association at once.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def gateway():
    require_module("pynetdicom", "gateway")


@pytest.mark.parametrize("how", ["abort", "close", "release", "signal"])
def test_an_association_that_ends_within_a_data_set_leaves_nothing(how, receive):
    receiver = receive()
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)))
        put(assoc, *[pdu(0, os.urandom(60_000))] * 50)
        receiver.wait(receiver.parts)
        if how == "abort":
            assoc._reactor_checkpoint.set()
            assoc.abort()
        elif how == "close":
            assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        elif how == "release":
            put(assoc, struct.pack(">BBII", 5, 0, 4, 0))
        else:
            assert receiver.stop() == 0
        if how != "signal":
            receiver.wait(lambda: not receiver.parts())
    assert receiver.parts() == receiver.objects() == []
    if how != "signal":
        assert store_one(receiver.port)


@pytest.mark.parametrize("last", [[], [pdu(0, bytes(1000))[:500]], [b"\4"]])
def test_a_peer_that_falls_silent_is_cut_off_and_its_data_set_removed(last, receive):
    receiver = receive("--timeout", "0.5")
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)), pdu(0, bytes(60_000)), *last)
        receiver.wait(receiver.parts)
        receiver.wait(lambda: not receiver.parts())
    assert receiver.objects() == []
    assert store_one(receiver.port)


def test_a_full_disk_is_a_status_and_the_association_goes_on(receive):
    receiver = receive(limit=1 << 20)
    with raw(receiver.port) as assoc:
        for _ in range(2):
            put(assoc, pdu(3, command()), pdu(0, pixels(4 << 20)))
            put(assoc, *[pdu(0, os.urandom(1 << 16))] * 63, pdu(2, os.urandom(1 << 16)))
            assert status_of_answer(assoc) == (7, 0xA700)
            assert receiver.objects() == receiver.parts() == []
        put(assoc, pdu(3, command()), pdu(2, pixels(0)))
        assert status_of_answer(assoc) == (7, 0)
    assert len(receiver.objects()) == 1


def test_a_folder_that_cannot_be_written_is_a_status(receive):
    receiver = receive()
    receiver.safe.rmdir()
    receiver.safe.write_text("in the way")
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(2, pixels(0)))
        assert status_of_answer(assoc) == (7, 0xA700)
    receiver.safe.unlink()
    receiver.safe.mkdir()
    assert store_one(receiver.port)


LONG = struct.pack("<HHI", 0, 0x1030, 8 << 10) + bytes(8 << 10)
HOSTILE = {
    "data before the command": [pdu(2, b"data")],
    "a fragment without a byte": [struct.pack(">BBIIB", 4, 0, 5, 1, 1)],
    "a fragment longer than its PDU": [struct.pack(">BBIIBB", 4, 0, 6, 9999, 1, 3)],
    "an empty PDU": [struct.pack(">BBI", 4, 0, 0)],
    "a PDU of 4 GiB": [struct.pack(">BBI", 4, 0, 0xFFFFFFFF), bytes(1 << 21)],
    "an unknown PDU": [struct.pack(">BBI", 99, 0, 10) + bytes(10)],
    "a path as UID": [pdu(3, command(uid="../../../../tmp/x")), pdu(2, pixels(0))],
    "no UID": [pdu(3, command(uid="")), pdu(2, pixels(0))],
    "a UID of 70 digits": [pdu(3, command(uid="1" * 70)), pdu(2, pixels(0))],
    "two UIDs": [pdu(3, command(uid="1.2\\1.3")), pdu(2, pixels(0))],
    "no data set": [pdu(3, command(has_data=False))],
    "a C-FIND": [pdu(3, command(field=0x20)), pdu(2, pixels(0))],
    "an N-EVENT-REPORT": [pdu(3, command(field=0x100)), pdu(2, pixels(0))],
    "an unknown command": [pdu(3, command(field=0x7777))],
    "a command of noise": [pdu(3, bytes(range(256)))],
    "an empty command": [pdu(3, b"")],
    "a command without end": [pdu(1, LONG)] * 40,
    "a command within the data": [
        pdu(3, command()), pdu(0, pixels(100)), pdu(3, command(has_data=False))],
    "a context that was not accepted": [pdu(3, command(), 77), pdu(2, pixels(0), 77)],
}  # fmt: skip


@pytest.mark.parametrize("pdus", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_peer_is_cut_off_and_others_are_served(pdus, receive, tmp_path):
    receiver = receive()
    before = receiver.peak()
    with raw(receiver.port) as assoc:
        with contextlib.suppress(OSError):
            put(assoc, *pdus)
        for _ in range(1000):
            if assoc.dul.state_machine.current_state != "Sta6" or not assoc.dul.is_alive():
                break
            time.sleep(0.01)
        else:
            raise AssertionError("the association goes on")
        assert receiver.peak() - before < MEMORY
        assert receiver.objects() == receiver.parts() == []
    assert store_one(receiver.port)
    assert len(receiver.objects()) == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "log", "doctor.pub", receiver.objects()[0].name}  # fmt: skip
