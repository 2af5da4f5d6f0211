"""The block protocol T=1 of cards with contacts: both ends (ISO/IEC 7816-3:2006, clause 11).

A block is NAD (always 00 here), PCB, LEN, up to 254 bytes, and an error detection code: LRC, one
byte, or CRC, two. Numbers of one bit tell a repeated block from a new one, so a message arrives
once or not at all: `Terminal.transceive` gives the exact answer or raises TokenError. Nothing is
sent anew after a resynchronisation, since the card may have carried it out: a wrong PIN must not
count twice.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from ..errors import DamagedError, TokenError

MOST_INFORMATION = 254
FIRST_IFS = 32  # both ends, until an S(IFS) or the ATR says more
TRIES = 3
MOST_WAITS = 4096
MOST_MESSAGE = 65_544  # the longest command: 4 + 3 + 65,535 + 2


class Supervision(IntEnum):
    """What S-blocks ask for; their answers have bit 6 set as well."""

    RESYNCH, IFS, ABORT, WTX = range(4)


class Fault(IntEnum):
    """What an R-block says was wrong with the block before it."""

    NONE, CODE, OTHER = range(3)


def lrc(data: bytes) -> bytes:
    """The exclusive or of all bytes: finds any error within one byte."""
    code = 0
    for byte in data:
        code ^= byte
    return bytes((code,))


def crc(data: bytes) -> bytes:
    """The 16-bit code of ISO/IEC 13239, low byte first: finds any burst of up to 16 bits."""
    code = 0xFFFF
    for byte in data:
        code ^= byte
        for _ in range(8):
            code = code >> 1 ^ (0x8408 if code & 1 else 0)
    return (code ^ 0xFFFF).to_bytes(2, "little")


Code = Callable[[bytes], bytes]


class Block(NamedTuple):
    """A block without its code. kind: "I", "R" or "S"."""

    pcb: int
    information: bytes = b""

    @property
    def kind(self) -> str:
        return "I" if not self.pcb & 0x80 else "S" if self.pcb & 0x40 else "R"

    @property
    def number(self) -> int:
        """N(S) of an I-block, N(R) of an R-block."""
        return self.pcb >> 6 & 1 if self.kind == "I" else self.pcb >> 4 & 1

    @property
    def more(self) -> bool:
        return self.kind == "I" and bool(self.pcb & 0x20)

    @property
    def request(self) -> Supervision | None:
        """What an S-block asks for, None for its answers and all others."""
        return Supervision(self.pcb & 0x1F) if self.kind == "S" and not self.pcb & 0x20 else None

    @property
    def answers(self) -> Supervision | None:
        return Supervision(self.pcb & 0x1F) if self.kind == "S" and self.pcb & 0x20 else None

    def encode(self, code: Code) -> bytes:
        body = bytes((0, self.pcb, len(self.information))) + self.information
        return body + code(body)

    @classmethod
    def parse(cls, raw: bytes, code: Code) -> Block:
        """Raises DamagedError; its `code` is True if only the error detection code is wrong."""
        size = len(code(b""))
        if len(raw) < 3 + size or len(raw) != 3 + raw[2] + size or raw[2] > MOST_INFORMATION:
            raise _bad("a block of a wrong length")
        if code(raw[:-size]) != raw[-size:]:
            raise _bad("a block whose error detection code is wrong", code=True)
        block = cls(raw[1], bytes(raw[3:-size]))
        if raw[0] or not block._is_known():
            raise _bad("a block of an unknown kind")
        return block

    def _is_known(self) -> bool:
        size = len(self.information)
        if self.kind == "I":
            return not self.pcb & 0x1F
        if self.kind == "R":
            return not self.pcb & 0x2C and self.pcb & 3 < 3 and not size
        what = self.pcb & 0x1F
        if what not in tuple(Supervision):
            return False
        if what == Supervision.IFS:
            return size == 1 and 1 <= self.information[0] <= MOST_INFORMATION
        return size == (what == Supervision.WTX)


def _bad(message: str, *, code: bool = False) -> DamagedError:
    error = DamagedError(message)
    error.code = code  # type: ignore[attr-defined]
    return error


def i_block(number: int, information: bytes, more: bool = False) -> Block:
    return Block(number << 6 | more << 5, information)


def r_block(number: int, fault: Fault = Fault.NONE) -> Block:
    return Block(0x80 | number << 4 | fault)


def s_block(what: Supervision, information: bytes = b"", *, answer: bool = False) -> Block:
    return Block(0xC0 | answer << 5 | what, information)


def _pieces(message: bytes, size: int) -> list[bytes]:
    return [message[at : at + size] for at in range(0, len(message), size)] or [b""]


#: Sends a block to the card and returns what came back, None if nothing did in time.
Exchange = Callable[[bytes], bytes | None]


class Terminal:
    """The reader's end.

    exchange: the line; whatever comes late must not be given as an answer to the next block, so it
    empties its buffer before it sends. ifsd: the longest information field that is taken.
    """

    def __init__(self, exchange: Exchange, *, code: Code = lrc, ifsd: int = MOST_INFORMATION,
                 ifsc: int = FIRST_IFS) -> None:
        self._exchange, self._code, self._first_ifsc = exchange, code, ifsc
        self._ifsd = ifsd
        self.reset()

    def reset(self) -> None:
        """After a reset of the card: both ends begin anew."""
        self._ifsc, self._ours, self._theirs = self._first_ifsc, 0, 0
        self._dead = False
        self._agreed = False

    def transceive(self, message: bytes) -> bytes:
        """Send a message, return the card's.

        Raises TokenError: the line is too bad, and the card may or may not have carried it out."""
        if self._dead:
            raise TokenError("the line to the card is out of step: reset the card")
        if len(message) > MOST_MESSAGE:
            raise TokenError("the message to the card is too long")
        if not self._agreed:  # what the card may send us
            self._supervise(Supervision.IFS, bytes((self._ifsd,)))
            self._agreed = True
        return self._converse(message)

    def _converse(self, message: bytes) -> bytes:
        pieces = _pieces(message, self._ifsc)
        at, answer, receiving = 0, bytearray(), False
        ours = block = i_block(self._ours, pieces[0], len(pieces) > 1)
        failures = waits = 0
        while True:
            try:
                got = self._receive(block)
            except DamagedError as error:
                failures = self._count(failures)
                fault = Fault.CODE if getattr(error, "code", False) else Fault.OTHER
                block = r_block(self._theirs, fault)
                continue
            if got.request is not None:
                waits += 1
                if waits > MOST_WAITS:
                    self._resynchronise("the card asks for more time without end")
                block = self._grant(got.request, got.information)
                if got.request == Supervision.ABORT:
                    self._abandon(block)
                if got.request == Supervision.IFS and not receiving:
                    rest = b"".join(pieces[at + 1 :])
                    pieces[at + 1 :] = _pieces(rest, self._ifsc) if rest else []
            elif got.kind == "R" and not receiving:
                if got.number != ours.number and at + 1 < len(pieces):
                    at, failures = at + 1, 0
                    self._ours ^= 1
                    ours = i_block(self._ours, pieces[at], at + 1 < len(pieces))
                    block = ours
                else:
                    failures = self._count(failures)
                    block = ours if got.number == ours.number else r_block(self._theirs)
            elif got.kind == "I" and got.number == self._theirs and at + 1 == len(pieces):
                if not receiving:
                    receiving = True
                    self._ours ^= 1
                self._theirs ^= 1
                failures = 0
                answer += got.information
                if len(answer) > MOST_MESSAGE:
                    self._resynchronise("the card's answer is too long")
                if not got.more:
                    return bytes(answer)
                block = r_block(self._theirs)
            else:  # a repeated I-block, an R-block while we receive, an answer nobody asked for
                failures = self._count(failures)
                block = r_block(self._theirs, Fault.OTHER)

    def _receive(self, block: Block) -> Block:
        raw = self._exchange(block.encode(self._code))
        if raw is None:
            raise _bad("no answer in time")
        got = Block.parse(raw, self._code)
        if len(got.information) > self._ifsd:
            raise _bad("a block that is longer than was agreed")
        return got

    def _grant(self, request: Supervision, information: bytes) -> Block:
        """Answer an S-request of the card's."""
        if request == Supervision.IFS:
            self._ifsc = information[0]
        return s_block(request, information, answer=True)

    def _abandon(self, answer: Block) -> None:
        """The card breaks our chain off; it has the word once more, and says where we stand."""
        for _ in range(TRIES):
            try:
                got = self._receive(answer)
            except DamagedError:
                continue
            if got.kind == "R":
                self._ours = got.number
                raise TokenError("the card broke the message off: it is too long for it")
        self._resynchronise("the card broke the message off")

    def _count(self, failures: int) -> int:
        if failures + 1 >= TRIES:
            self._resynchronise("the line to the card is bad")
        return failures + 1

    def _supervise(self, what: Supervision, information: bytes = b"") -> None:
        for _ in range(TRIES):
            try:
                got = self._receive(s_block(what, information))
            except DamagedError:
                continue
            if got.answers == what and got.information == information:
                return
        if what == Supervision.RESYNCH:
            self._dead = True
            raise TokenError("the card does not answer any more: reset it")
        self._resynchronise("the line to the card is bad")

    def _resynchronise(self, why: str) -> None:
        """Begin anew with the card, and raise TokenError: nothing is sent twice."""
        self._supervise(Supervision.RESYNCH)
        self.reset()
        raise TokenError(f"{why}: the card may or may not have done what it was told; it is in "
                         "step again")


class Card:
    """The card's end: `receive` takes the bytes of a block and gives those of the answer.

    respond: message to message. wait: tells before each answer how much more time is wanted, in
    units of the block waiting time (1 to 255), 0 for none.
    """

    def __init__(self, respond: Callable[[bytes], bytes], *, code: Code = lrc,
                 ifsc: int = MOST_INFORMATION, most: int = MOST_MESSAGE,
                 wait: Callable[[], int] = lambda: 0) -> None:
        self._respond, self._code, self._most, self._wait = respond, code, most, wait
        self._ifsc = ifsc
        self.reset()

    def reset(self) -> None:
        self._ifsd, self._ours, self._theirs = FIRST_IFS, 0, 0
        self._message = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0
        self._last: Block | None = None  # the I-block that was sent last
        self._asked: Block | None = None  # an S-request of ours without an answer
        self._waiting: bytes | None = None  # the message that is being carried out

    def receive(self, raw: bytes) -> bytes:
        try:
            block = Block.parse(raw, self._code)
            if len(block.information) > self._ifsc:
                raise _bad("a block that is longer than was agreed")
        except DamagedError as error:
            if self._asked is not None:
                return self._asked.encode(self._code)
            fault = Fault.CODE if getattr(error, "code", False) else Fault.OTHER
            return r_block(self._theirs, fault).encode(self._code)
        return self._answer(block).encode(self._code)

    def _answer(self, block: Block) -> Block:
        if block.request is not None:
            return self._grant(block.request, block.information)
        if self._asked is not None:
            if block.answers != self._asked.request:
                return self._asked
            done, self._asked = self._asked.request, None
            if done == Supervision.ABORT:
                return r_block(self._theirs)
            return self._carry_out()
        if block.kind == "R":
            return self._on_r(block)
        if block.kind == "S" or block.number != self._theirs:
            return r_block(self._theirs, Fault.OTHER)
        return self._on_i(block)

    def _grant(self, request: Supervision, information: bytes) -> Block:
        if request == Supervision.RESYNCH:
            self.reset()
        elif request == Supervision.IFS:
            self._ifsd = information[0]
        elif request == Supervision.ABORT:
            self._message.clear()
            self._begin()
        return s_block(request, information, answer=True)

    def _on_r(self, block: Block) -> Block:
        last = self._last
        if last is None:
            return r_block(self._theirs)
        if block.number == last.number:
            return last
        if self._at + 1 < len(self._pieces):
            self._at += 1
            return self._piece()
        return r_block(self._theirs)  # what we sent has arrived: the next block of theirs was lost

    def _on_i(self, block: Block) -> Block:
        self._theirs ^= 1
        self._last = None
        self._message += block.information
        if len(self._message) > self._most:
            self._message.clear()
            self._asked = s_block(Supervision.ABORT)
            return self._asked
        if block.more:
            return r_block(self._theirs)
        self._waiting = bytes(self._message)
        self._message.clear()
        return self._carry_out()

    def _carry_out(self) -> Block:
        if (units := self._wait()) > 0:
            self._asked = s_block(Supervision.WTX, bytes((min(units, 255),)))
            return self._asked
        message, self._waiting = self._waiting, None
        self._pieces, self._at = _pieces(self._respond(message or b""), self._ifsd), 0
        return self._piece()

    def _piece(self) -> Block:
        """The next I-block of the answer."""
        more = self._at + 1 < len(self._pieces)
        self._last = i_block(self._ours, self._pieces[self._at], more)
        self._ours ^= 1
        return self._last
