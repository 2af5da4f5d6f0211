"""Questions and answers between processes: one JSON each way, over TLS with certificates on both
sides (HOST:PORT), or over a Unix socket (unix:PATH)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509

from .. import errors
from ..errors import DamagedError, DicomcryptError, UsageError
from ..pki import files
from ..pki.checking import Trust

TIMEOUT = 20.0  # seconds
_MOST_CONNECTIONS = 32

#: Answers a question; gets the peer's certificate, None over a Unix socket.
Handler = Callable[[dict[str, Any], x509.Certificate | None], dict[str, Any]]
#: Raises CertificateRefusedError unless a peer's certificate is good for a purpose, now.
Judge = Callable[[x509.Certificate, str], None]


def tls_context(
    identity: str | os.PathLike[str], trust: Trust, *, server: bool,
    passphrase: Callable[[], str | None] | None = None,
) -> ssl.SSLContext:
    """Return what speaks TLS 1.3 with both sides' certificates.

    identity: a PEM file of a private key, its certificate and what leads to a root. Raises
    UsageError if it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    known = files.pem([*trust.roots, *trust.intermediates])
    context.load_verify_locations(cadata=known.decode())
    try:
        context.load_cert_chain(
            identity, password=lambda: (passphrase() if passphrase else None) or ""
        )
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot take key and certificate for TLS from {os.fspath(identity)!r}: "
                         f"{(error.strerror or str(error)).lower()[:120]}") from None
    return context


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raises UsageError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) < 65536:
        raise UsageError(f"{address!r} is no address such as 127.0.0.1:8443")
    return host.strip("[]"), int(port)


# ---- messages ------------------------------------------------------------------


def _send(connection: socket.socket, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def _receive(connection: socket.socket, limit: int) -> dict[str, Any]:
    size = int.from_bytes(_exactly(connection, 4), "big")
    if size > limit:
        raise DamagedError("the message is too large")
    try:
        value = json.loads(_exactly(connection, size))
    except (ValueError, RecursionError):
        raise DamagedError("the message is not JSON") from None
    if not isinstance(value, dict):
        raise DamagedError("the message is not as it must be")
    return value


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise ConnectionResetError("the connection ended")
        parts += part
    return bytes(parts)


# ---- asking --------------------------------------------------------------------


def ask(
    address: str, question: dict[str, Any], *, what: str, context: ssl.SSLContext | None = None,
    judge: Judge | None = None, limit: int, timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """Ask a process, and return its answer. what: how a message calls it. judge: of its
    certificate, by more than TLS asks for.

    Raises what it answers with, UsageError for an address that cannot be meant, DicomcryptError
    if it cannot be reached."""
    try:
        with _connect(address, context, timeout) as connection:
            if judge is not None and isinstance(connection, ssl.SSLSocket):
                judge(_peer(connection), "tls-server")
            _send(connection, question)
            answer = _receive(connection, limit)
    except ssl.SSLCertVerificationError as error:
        raise DicomcryptError(f"the TLS certificate of {what} is refused: "
                              f"{error.verify_message.lower()}") from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DicomcryptError(f"{what} at {address!r} does not answer: {reason.lower()}; is it "
                              "running, and is our TLS certificate one that it takes?") from None
    if "error" in answer:
        kind = getattr(errors, str(answer.get("class", "")), None)
        if not isinstance(kind, type) or not issubclass(kind, DicomcryptError):
            kind = DicomcryptError
        raise kind(f"{what}: {str(answer['error'])[:500]}")
    return answer


@contextlib.contextmanager
def _connect(
    address: str, context: ssl.SSLContext | None, timeout: float
) -> Iterator[socket.socket]:
    if address.startswith("unix:"):
        with _unix_socket() as plain:
            plain.settimeout(timeout)
            plain.connect(address.removeprefix("unix:"))
            yield plain
        return
    host, port = split_address(address)
    if context is None:
        raise UsageError(f"{address!r} is asked over TLS: give --tls-identity FILE")
    with socket.create_connection((host, port), timeout) as plain, \
            context.wrap_socket(plain, server_hostname=host) as connection:
        yield connection


def _peer(connection: ssl.SSLSocket) -> x509.Certificate:
    return files.examine(x509.load_der_x509_certificate(connection.getpeercert(True) or b""))


# ---- answering -----------------------------------------------------------------


class Server:
    """Answers questions until it is closed. address: HOST:PORT (port 0: any), or unix:PATH."""

    def __init__(
        self, address: str, handler: Handler, *, limit: int,
        context: ssl.SSLContext | None = None, judge: Judge | None = None,
    ) -> None:
        self._handler, self._limit = handler, limit
        self._context, self._judge = context, judge
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        if address.startswith("unix:"):
            self._listener = _unix_listener(address.removeprefix("unix:"))
            self.address = address
        else:
            if context is None or judge is None:
                raise UsageError("answering at HOST:PORT needs TLS: give --tls-identity FILE")
            self._listener = socket.create_server(split_address(address))
            host, port = self._listener.getsockname()[:2]
            self.address = f"{host}:{port}"

    def close(self) -> None:
        self._listener.close()
        if self.address.startswith("unix:"):
            with contextlib.suppress(OSError):
                os.unlink(self.address.removeprefix("unix:"))

    def serve(self) -> None:
        """Answer until the process ends, each connection in a thread of its own."""
        while True:
            self._room.acquire()
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer_and_leave, args=(connection,),
                             daemon=True).start()

    def serve_one(self) -> None:
        """Answer one connection in this thread, which may ask on the terminal."""
        connection, _ = self._listener.accept()
        self._answer(connection)

    def _answer_and_leave(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        finally:
            self._room.release()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, DicomcryptError), connection:
            connection.settimeout(TIMEOUT)
            if self._context is None or self._judge is None:
                _send(connection, self._outcome(_receive(connection, self._limit), None))
                return
            with self._context.wrap_socket(connection, server_side=True) as secure:
                try:
                    peer = _peer(secure)
                    self._judge(peer, "tls-client")
                    answer = self._outcome(_receive(secure, self._limit), peer)
                except DicomcryptError as error:
                    answer = _failure(error)
                _send(secure, answer)

    def _outcome(
        self, question: dict[str, Any], peer: x509.Certificate | None
    ) -> dict[str, Any]:
        try:
            return self._handler(question, peer)
        except DicomcryptError as error:
            return _failure(error)


def _failure(error: DicomcryptError) -> dict[str, Any]:
    return {"error": str(error), "class": type(error).__name__}


def _unix_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("this system has no Unix sockets: give HOST:PORT and --tls-identity FILE")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _unix_listener(path: str) -> socket.socket:
    """A socket that only its owner may connect to."""
    listener = _unix_socket()
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen at {path!r}: {(error.strerror or '').lower()}") from None
    finally:
        os.umask(mask)
    listener.listen(8)
    return listener
