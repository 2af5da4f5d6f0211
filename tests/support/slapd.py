"""Directories for tests: real `slapd` servers (of the example clinic), and servers that misbehave.

Every server has a free port of its own, runs as whoever runs the tests, and ends with its
`with` block.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from ldap_server import SCHEMA, Server, find_slapd, serve

__all__ = ["SCHEMA", "Server", "babbling", "find_slapd", "forging", "serve", "silent"]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


@contextlib.contextmanager
def babbling(answer: bytes) -> Iterator[int]:
    """A port that answers whatever it is asked with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(answer)
                        connection.recv(4096)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forging(values: list[bytes], attribute: str = "userCertificate;binary") -> Iterator[int]:
    """A port that answers every search with one entry that has these values: what a real
    directory's schema would not let in."""
    from pyasn1.codec.ber import decoder, encoder
    from pyasn1_modules import rfc2251

    def message(number: int, kind: str) -> rfc2251.LDAPMessage:
        made = rfc2251.LDAPMessage()
        made["messageID"] = number
        if kind == "searchResDone":
            done = made["protocolOp"][kind]
            done["resultCode"], done["matchedDN"], done["errorMessage"] = 0, b"", b""
        return made

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        asked, _ = decoder.decode(connection.recv(4096),
                                                  asn1Spec=rfc2251.LDAPMessage())
                        number = int(asked["messageID"])
                        entry = message(number, "searchResEntry")
                        body = entry["protocolOp"]["searchResEntry"]
                        body["objectName"] = b"cn=somebody"
                        body["attributes"][0]["type"] = attribute.encode()
                        for position, value in enumerate(values):
                            body["attributes"][0]["vals"][position] = value
                        connection.sendall(encoder.encode(entry))
                        connection.sendall(encoder.encode(message(number, "searchResDone")))
                        connection.recv(4096)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
