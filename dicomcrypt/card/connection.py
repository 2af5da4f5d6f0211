"""Commands to a card, over layers that hide how they are sent.

From above: `Repeating` (6Cxx: asked again with the right length), `Fetching` (61xx: the rest is
fetched), `Chaining` (what does not fit into a short command goes in parts), `Formatting` (bytes).
With `extended` lengths, Chaining and Fetching have little to do.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import CardStatusError, DamagedError, TokenError, WrongPinError
from . import apdu
from .apdu import CommandApdu, ResponseApdu
from .status import StatusWord, meaning, more_data, right_length, tries_left
from .transport import Transport

_GET_RESPONSE = 0xC0
_MOST_PARTS = 1024


class Layer(Protocol):
    def send(self, command: CommandApdu) -> ResponseApdu: ...


class Formatting:
    """Commands to bytes, and back. count: of what was sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self.count = transport, 0

    def send(self, command: CommandApdu) -> ResponseApdu:
        self.count += 1
        try:
            return ResponseApdu.parse(self._transport.transmit(command.encode()))
        except DamagedError as error:
            raise TokenError(f"reader {self._transport.name!r}: {error}") from None


class Chaining:
    """Sends long data in parts of 255 bytes (ISO/IEC 7816-4:2013, clause 5.4.1)."""

    def __init__(self, below: Layer) -> None:
        self._below = below

    def send(self, command: CommandApdu) -> ResponseApdu:
        data, answer = command.data, min(command.answer, apdu.SHORT_ANSWER)
        cla, rest = command.cla, (command.ins, command.p1, command.p2)
        while len(data) > apdu.SHORT_DATA:
            part, data = data[: apdu.SHORT_DATA], data[apdu.SHORT_DATA :]
            got = self._below.send(CommandApdu(cla | apdu.CHAINED, *rest, part))
            if got.status != StatusWord.OK:
                return got
        return self._below.send(CommandApdu(cla, *rest, data, answer))


class Fetching:
    """Fetches what 61xx says is left (clause 5.6)."""

    def __init__(self, below: Layer) -> None:
        self._below = below

    def send(self, command: CommandApdu) -> ResponseApdu:
        got = self._below.send(command)
        data = bytearray(got.data)
        for _ in range(_MOST_PARTS):
            left = more_data(got.status)
            if left is None:
                return ResponseApdu(bytes(data), got.status)
            got = self._below.send(CommandApdu(command.cla & ~apdu.CHAINED, _GET_RESPONSE, 0, 0,
                                               answer=left))
            data += got.data
            if len(data) > apdu.MOST_ANSWER:
                break
        raise TokenError("the card's answer does not end")


class Repeating:
    """Asks again with the length that 6Cxx tells, where an answer was asked for: nothing else is
    sent twice, a PIN least of all."""

    def __init__(self, below: Layer) -> None:
        self._below = below

    def send(self, command: CommandApdu) -> ResponseApdu:
        got = self._below.send(command)
        length = right_length(got.status)
        if length is None or not command.answer:
            return got
        return self._below.send(CommandApdu(command.cla, command.ins, command.p1, command.p2,
                                            command.data, length))


class Connection:
    """A connection to a card. extended: whether the card takes extended lengths."""

    def __init__(self, transport: Transport, *, extended: bool = True) -> None:
        self.transport, self.extended = transport, extended
        self._format = Formatting(transport)
        below: Layer = self._format if extended else Chaining(self._format)
        self._top: Layer = Repeating(Fetching(below))

    @property
    def commands(self) -> int:
        """How many commands were sent to the card."""
        return self._format.count

    @property
    def most_answer(self) -> int:
        """What to give as `answer` for whatever there is."""
        return apdu.MOST_ANSWER if self.extended else apdu.SHORT_ANSWER

    def send(self, command: CommandApdu) -> ResponseApdu:
        """Send a command; return what the card says, good or bad. Raises TokenError."""
        return self._top.send(command)

    def expect(self, command: CommandApdu, what: str) -> bytes:
        """Send a command, return its answer. what: what is being done, for the message.

        Raises CardStatusError, and WrongPinError for 63Cx and 6983."""
        return self.accept(self.send(command), what)

    def accept(self, got: ResponseApdu, what: str) -> bytes:
        """Return a response's data; raises as `expect`."""
        if got.status == StatusWord.OK:
            return got.data
        message = f"reader {self.transport.name!r}: cannot {what}: {meaning(got.status)}"
        left = tries_left(got.status)
        if left is not None:
            raise WrongPinError(message, got.status, left)
        raise CardStatusError(message, got.status)

    def close(self) -> None:
        self.transport.close()
