"""Questions and answers over a Unix socket: what comes back, and what is refused."""

import contextlib
import os
import socket
import stat
import threading

import pytest

from dicomcrypt.errors import DamagedError, DicomcryptError, PolicyError, UsageError
from dicomcrypt.prescription import wire

LIMIT = 1000


@contextlib.contextmanager
def answering(place, handler):
    """A server for one question."""
    server = wire.Server(f"unix:{place}", handler, limit=LIMIT)
    thread = threading.Thread(target=server.serve_one)
    thread.start()
    try:
        yield server.address
    finally:
        thread.join(100)
        server.close()
    assert not place.exists()


def ask(address, question=None, **how):
    return wire.ask(address, question or {"ask": "status"}, what="the register", timeout=5,
                    **{"limit": LIMIT, **how})


def raising(error):
    def handler(question, peer):
        raise error

    return handler


def test_a_question_is_answered_and_the_socket_is_its_owner_s_alone(tmp_path):
    def handler(question, peer):
        return {"asked": question["ask"], "peer": peer}

    with answering(tmp_path / "s", handler) as address:
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
        assert ask(address) == {"asked": "status", "peer": None}


@pytest.mark.parametrize(("raised", "kind"), [
    (PolicyError("not now"), PolicyError), (DamagedError("not now"), DamagedError),
    (type("StrangeError", (DicomcryptError,), {})("not now"), DicomcryptError),
])  # fmt: skip
def test_an_error_comes_back_as_what_it_is(tmp_path, raised, kind):
    with answering(tmp_path / "s", raising(raised)) as address, \
            pytest.raises(DicomcryptError, match=r"^the register: not now$") as told:
        ask(address)
    assert type(told.value) is kind


def test_the_class_of_an_error_is_never_another_thing_of_that_module(tmp_path):
    def handler(question, peer):
        return {"error": "odd", "class": "annotations"}

    with answering(tmp_path / "s", handler) as address, pytest.raises(DicomcryptError, match="odd"):
        ask(address)


def test_messages_are_bounded_on_both_sides(tmp_path):
    with answering(tmp_path / "s", lambda question, peer: {"x": "y" * LIMIT}) as address, \
            pytest.raises(DamagedError, match="too large"):
        ask(address)
    with answering(tmp_path / "t", lambda question, peer: {}) as address, \
            pytest.raises(DicomcryptError, match="does not answer"):
        ask(address, {"ask": "x" * LIMIT})


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 900])
def test_what_is_no_json_object_is_damaged(tmp_path, body):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(tmp_path / "s"))
    listener.listen(1)

    def answer():
        with listener, listener.accept()[0] as connection:
            connection.recv(LIMIT)
            connection.sendall(len(body).to_bytes(4, "big") + body)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(DamagedError, match="the message is not"):
        ask(f"unix:{tmp_path / 's'}")
    thread.join(100)


def test_nobody_there_and_addresses_that_cannot_be_are_told(tmp_path, monkeypatch):
    with pytest.raises(DicomcryptError, match="does not answer: no such file or directory"):
        ask(f"unix:{tmp_path / 'none'}")
    for address in ("here", ":1", "here:", "here:99999", "here:٣"):
        with pytest.raises(UsageError, match="no address such as"):
            ask(address)
    with pytest.raises(UsageError, match="--tls-identity"):
        ask("127.0.0.1:1")
    with pytest.raises(UsageError, match="--tls-identity"):
        wire.Server("127.0.0.1:0", raising(PolicyError("x")), limit=LIMIT)
    with pytest.raises(UsageError, match="cannot listen at"):
        wire.Server(f"unix:{tmp_path / 'no' / 's'}", raising(PolicyError("x")), limit=LIMIT)
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(UsageError, match="no Unix sockets"):
        ask(f"unix:{tmp_path / 's'}")
