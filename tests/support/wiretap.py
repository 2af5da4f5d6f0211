"""Somebody on the wire: passes on what two sides say to each other, and keeps it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Tap:
    def __init__(self, port: int) -> None:
        self.port = port
        self._parts: list[bytes] = []

    @property
    def heard(self) -> bytes:
        return b"".join(self._parts)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                self._parts.append(part)
                target.sendall(part)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _meet(self, near: socket.socket, target: int) -> None:
        with contextlib.suppress(OSError), near, \
                socket.create_connection(("127.0.0.1", target)) as far:
            back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
            back.start()
            self._pass_on(near, far)
            back.join()


@contextlib.contextmanager
def tap(target: int) -> Iterator[Tap]:
    """A port in front of another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Tap(listener.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near = listener.accept()[0]
                    threading.Thread(target=found._meet, args=(near, target), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
