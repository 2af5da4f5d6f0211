"""Software cards in the slots of vpcd, a reader driver of pcscd (package vsmartcard-vpcd).

The driver listens, the card dials. Each message either way is a length in 16 bits, big-endian, and
that many bytes; one byte is power off (0), power on (1), reset (2) or a request for the ATR (4),
which alone is answered; anything longer is a command. A closed connection is a pulled card.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ..errors import TokenError
from .software import SoftwareCard

#: The port of the first slot; the next ones follow.
FIRST_PORT = 35963
#: Seconds to wait for the driver, at first and after it has closed the connection.
PATIENCE = 10.0
_PAUSE = 0.2
#: And seconds before dialling again when the driver has hung up, as it does after a command of over
#: 65,535 bytes: the service looks every 0.4 s, and takes a card that it did not see go for lost.
_SEEN = 1.0
_OFF, _ON, _RESET, _ATR = 0, 1, 2, 4
#: The kernel holds acknowledgements back, and the driver sends length and body apart and waits for
#: that of the length: 49 ms a command, 0.1 ms with this option, which lasts for one receive.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Slot:
    """A card and the slot that it is put into.

    told: called with "inserted" and "removed" as it happens. patience: seconds to wait for the
    driver before `run` gives up. dial: returns a connection to it by another way than `host` and
    `port`, or raises OSError."""

    def __init__(
        self, card: SoftwareCard, port: int = FIRST_PORT, *, host: str = "127.0.0.1",
        patience: float = PATIENCE, told: Callable[[str], None] = lambda event: None,
        dial: Callable[[], socket.socket] | None = None,
    ) -> None:
        self.card, self.port, self.host = card, port, host
        self._patience, self._told = patience, told
        self._reach = dial or (lambda: socket.create_connection((host, port), patience))
        self._lock = threading.Lock()
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._wanted.set()
        self._connection: socket.socket | None = None

    def run(self) -> None:
        """Serve until `close`, or until the driver is gone for longer than its patience; may run
        in a thread. Raises TokenError if it was never there."""
        met = False
        while not self._ended.is_set():
            self._wanted.wait()
            connection = self._dial()
            if connection is None:
                if not self._wanted.is_set() or self._ended.is_set():
                    continue  # pulled, or closed
                if met:
                    return
                raise TokenError(
                    f"no reader at {self.host} port {self.port}: is pcscd running, with vpcd?"
                )
            met = True
            self._told("inserted")
            with connection, contextlib.suppress(OSError):
                self._serve(connection)
            with self._lock:
                self._connection = None
            self.card.power_off()
            self._told("removed")
            if self._wanted.is_set():
                self._ended.wait(_SEEN)

    def remove(self) -> None:
        """Pull the card, in the middle of whatever it does."""
        with self._lock:
            if not self._ended.is_set():
                self._wanted.clear()
        self._hang_up()

    def insert(self) -> None:
        """Put the card in again."""
        self._wanted.set()

    def toggle(self) -> None:
        """Pull the card, or put it in again."""
        self.remove() if self._wanted.is_set() else self.insert()

    def close(self) -> None:
        """Let `run` end."""
        with self._lock:
            self._ended.set()
            self._wanted.set()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def _dial(self) -> socket.socket | None:
        """Return a connection, None if there is none in time or no more wanted."""
        end = time.monotonic() + self._patience
        while self._wanted.is_set() and not self._ended.is_set():
            try:
                connection = self._reach()
            except OSError:
                if time.monotonic() > end:
                    return None
                self._ended.wait(_PAUSE)
                continue
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._wanted.is_set() and not self._ended.is_set():
                    self._connection = connection
                    return connection
            connection.close()
        return None

    def _serve(self, connection: socket.socket) -> None:
        while True:
            message = _receive(connection, int.from_bytes(_receive(connection, 2), "big"))
            if len(message) > 1:
                _send(connection, self._answer(message))
            elif message == bytes((_ATR,)):
                _send(connection, self.card.atr)
            elif message == bytes((_OFF,)):
                self.card.power_off()
            elif message in (bytes((_ON,)), bytes((_RESET,))):
                self.card.reset()

    def _answer(self, command: bytes) -> bytes:
        try:
            return self.card.transmit(command)
        except TokenError:  # a card without power
            return b"\x6f\x00"


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(len(data).to_bytes(2, "big") + data)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly so many bytes; ConnectionError at the end of the connection."""
    data = bytearray()
    while len(data) < length:
        if _QUICKACK is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError
        data += part
    return bytes(data)


#: What pulls the first and the second card; Windows has no such signals.
_PULLING = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


@contextlib.contextmanager
def _on_signals(slots: list[Slot]) -> Iterator[None]:
    """SIGUSR1 and SIGUSR2 pull the first and the second card, and put it in again; SIGTERM ends."""
    def toggle(slot: Slot) -> Callable[..., None]:
        return lambda *_: threading.Thread(target=slot.toggle).start()

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    actions = dict(zip(_PULLING, map(toggle, slots), strict=False))
    before = {number: signal.signal(number, act)
              for number, act in {**actions, signal.SIGTERM: end}.items()}
    try:
        yield
    finally:
        for number, act in before.items():
            signal.signal(number, act)


def emulate(slots: Iterable[Slot]) -> None:
    """Serve all slots from the main thread, until the driver is gone or an interrupt comes.

    SIGUSR1 pulls the card of the first slot and puts it in again, SIGUSR2 that of the second.
    Raises TokenError if there is no driver for one of them."""
    slots = list(slots)
    errors: list[TokenError] = []

    def run(slot: Slot) -> None:
        try:
            slot.run()
        except TokenError as error:
            errors.append(error)
            for other in slots:
                other.close()

    threads = [threading.Thread(target=run, args=(slot,)) for slot in slots]
    with _on_signals(slots):
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            pass
        finally:
            for slot in slots:
                slot.close()
            for thread in threads:
                thread.join()
    if errors:
        raise errors[0]
