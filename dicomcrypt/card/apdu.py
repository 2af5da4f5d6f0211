"""Commands and responses of cards (ISO/IEC 7816-4:2013, clause 5.1 and 12.1).

A command is CLA INS P1 P2, then data and the number of bytes expected, either in the short form
(data to 255 bytes, answers to 256) or in the extended one (65,535 and 65,536).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DamagedError, UsageError

SHORT_DATA, SHORT_ANSWER = 255, 256
MOST_DATA, MOST_ANSWER = 65_535, 65_536
#: The bit of CLA that says that more of this command follows (clause 5.4.1).
CHAINED = 0x10


@dataclass(frozen=True, slots=True)
class CommandApdu:
    """A command.

    data: up to 65,535 bytes. answer: how many bytes are expected at most (Ne), 0 for none, 256 or
    65,536 for whatever there is. extended: the form it had, where it was parsed.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    answer: int = 0
    extended: bool = False

    def __post_init__(self) -> None:
        if not all(0 <= value <= 0xFF for value in (self.cla, self.ins, self.p1, self.p2)):
            raise UsageError("CLA, INS, P1 and P2 of a command are one byte each")
        if len(self.data) > MOST_DATA or not 0 <= self.answer <= MOST_ANSWER:
            raise UsageError("a command carries 65,535 bytes, and expects 65,536, at most")

    def __repr__(self) -> str:  # its data may be a PIN
        return (f"CommandApdu({self.cla:02X} {self.ins:02X} {self.p1:02X} {self.p2:02X}, "
                f"{len(self.data)} bytes, answer={self.answer})")  # fmt: skip

    @property
    def p1p2(self) -> int:
        return self.p1 << 8 | self.p2

    @property
    def chained(self) -> bool:
        """Whether more of this command follows."""
        return bool(self.cla & CHAINED) and self.cla != 0xFF

    @property
    def fits_short(self) -> bool:
        return len(self.data) <= SHORT_DATA and self.answer <= SHORT_ANSWER

    def encode(self) -> bytes:
        """Return the bytes: in the short form if it is enough and `extended` is not set."""
        head = bytes((self.cla, self.ins, self.p1, self.p2))
        if self.fits_short and not self.extended:
            body = bytes((len(self.data),)) + self.data if self.data else b""
            return head + body + (bytes((self.answer & 0xFF,)) if self.answer else b"")
        if not self.data and not self.answer:
            return head  # case 1 has one form only
        body = b"\0" + len(self.data).to_bytes(2, "big") + self.data if self.data else b""
        if self.answer:
            body += (b"" if self.data else b"\0") + (self.answer & 0xFFFF).to_bytes(2, "big")
        return head + body

    @classmethod
    def parse(cls, raw: bytes) -> CommandApdu:
        """Return the command of these bytes; raises DamagedError if their lengths do not fit
        together (a card answers that with 6700)."""
        if len(raw) < 4:
            raise DamagedError("a command has at least four bytes")
        cla, ins, p1, p2 = raw[:4]
        return cls(cla, ins, p1, p2, *_body(bytes(raw[4:])))


def _body(body: bytes) -> tuple[bytes, int, bool]:
    """What stands behind the head of a command: its data, how many bytes are expected, and whether
    it has the extended form."""
    if not body:
        return b"", 0, False
    if len(body) == 1:
        return b"", body[0] or SHORT_ANSWER, False
    if body[0]:
        length, extra = body[0], len(body) - 1 - body[0]
        if extra not in (0, 1):
            raise DamagedError("the length of a command's data is not what it says")
        return body[1 : 1 + length], (body[-1] or SHORT_ANSWER) if extra else 0, False
    if len(body) < 3:
        raise DamagedError("an extended length is cut short")
    length = int.from_bytes(body[1:3], "big")
    if len(body) == 3:
        return b"", length or MOST_ANSWER, True
    extra = len(body) - 3 - length
    if not length or extra not in (0, 2):
        raise DamagedError("the length of a command's data is not what it says")
    answer = (int.from_bytes(body[-2:], "big") or MOST_ANSWER) if extra else 0
    return body[3 : 3 + length], answer, True


@dataclass(frozen=True, slots=True)
class ResponseApdu:
    """What a card answers: up to 65,536 bytes of data and a status word (`card.status`)."""

    data: bytes
    status: int

    def __post_init__(self) -> None:
        if not 0 <= self.status <= 0xFFFF or len(self.data) > MOST_ANSWER:
            raise UsageError("a response has 65,536 bytes of data at most, and two of status")

    def __repr__(self) -> str:
        return f"ResponseApdu({len(self.data)} bytes, {self.status:04X})"

    def encode(self) -> bytes:
        return self.data + self.status.to_bytes(2, "big")

    @classmethod
    def parse(cls, raw: bytes) -> ResponseApdu:
        """Raises DamagedError for less than a status word, or more than a response can have."""
        if not 2 <= len(raw) <= MOST_ANSWER + 2:
            raise DamagedError(f"the card answered with {len(raw)} bytes, which is no response")
        return cls(bytes(raw[:-2]), int.from_bytes(raw[-2:], "big"))
