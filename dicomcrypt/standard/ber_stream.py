"""BER and DER read forward from a stream of any length (ITU-T X.690), within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import ber
from .ber import damaged

#: The most that is held of one element that is read whole: certificates, recipients, signers.
MAX_HELD = 1 << 20
CHUNK = 1 << 18


class Puller:
    """Reads elements one after the other. source: gives the next bytes, at most that many, b"" at
    the end. `enter` and `leave` go into constructed elements, of definite or undefined length.

    Everything raises DamagedError for what is cut short or not BER."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source, self._buffer, self._place = source, b"", 0
        #: How many bytes were taken.
        self.at = 0
        self._ends: list[int | None] = []

    def _have(self, count: int) -> bool:
        while len(self._buffer) - self._place < count:
            more = self._source(CHUNK)
            if not more:
                return False
            self._buffer, self._place = self._buffer[self._place :] + more, 0
        return True

    def _peek(self, count: int) -> bytes:
        return self._buffer[self._place : self._place + count]

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        if not self._have(count):
            raise damaged("it is cut short")
        return self._some(count)

    def _some(self, most: int) -> bytes:
        """At least one byte, at most so many, without waiting for more than there is."""
        if not self._have(1):
            raise damaged("it is cut short")
        found = self._peek(most)
        self._place += len(found)
        self.at += len(found)
        return found

    def tag(self) -> int | None:
        """The tag of the next element of where we are, None if there is none."""
        end = self._ends[-1] if self._ends else None
        if end is not None:
            if self.at == end:
                return None
            if self.at > end:
                raise damaged()
        if not self._have(2):
            if self._ends:
                raise damaged("it is cut short")
            return None
        if self._ends and end is None and self._peek(2) == b"\0\0":
            return None
        return self._peek(1)[0]

    def head(self) -> tuple[int, int | None]:
        """Take an element's head: its tag and its length, None if undefined."""
        if not self._have(2):
            raise damaged("it is cut short")
        second = self._peek(2)[1]
        data = self.take(min(2 + (second & 0x7F if second > 0x80 else 0), 16))
        tag, _, length = ber.head(data, 0, len(data))
        end = self._ends[-1] if self._ends else None
        if end is not None and length is not None and self.at + length > end:
            raise damaged()
        return tag, length

    def enter(self, tag: int) -> None:
        """Go into the next element, which must be of this tag."""
        found, length = self.head()
        if found != tag or len(self._ends) >= ber.MAX_DEPTH:
            raise damaged()
        self._ends.append(None if length is None else self.at + length)

    def leave(self) -> None:
        """Go out of an element that was read to its end."""
        end = self._ends.pop()
        if (end is None and self.take(2) != b"\0\0") or (end is not None and self.at != end):
            raise damaged()

    def whole(self, tag: int, most: int = MAX_HELD) -> ber.Element:
        """Take the next element whole, which must be of this tag."""
        if self.tag() != tag:
            raise damaged()
        return ber.read(self._raw(most, 0))

    def _raw(self, most: int, depth: int) -> bytes:
        begin, before = self._peek(16), self.at
        _, length = self.head()
        head = begin[: self.at - before]
        if length is not None:
            if length > most:
                raise damaged("a part of it is too long")
            return head + self.take(length)
        if depth >= ber.MAX_DEPTH:
            raise damaged("it is nested too deep")
        parts = [head]
        held = len(head)
        while True:
            if not self._have(2):
                raise damaged("it is cut short")
            if self._peek(2) == b"\0\0":
                parts.append(self.take(2))
                return b"".join(parts)
            parts.append(self._raw(most - held, depth + 1))
            held += len(parts[-1])
            if held > most:
                raise damaged("a part of it is too long")

    def rest(self) -> bytes:
        """The first bytes of what follows: b"" at the end."""
        self._have(2)
        return self._peek(2)

    def octets(self, tag: int) -> Iterator[bytes]:
        """Take an OCTET STRING, whole or divided; tag: of the whole one. Parts are of any size up
        to `CHUNK`."""
        found, length = self.head()
        if found & ~0x20 != tag & ~0x20:
            raise damaged()
        if not found & 0x20:
            yield from self._content(length)
            return
        if len(self._ends) >= ber.MAX_DEPTH:
            raise damaged("it is nested too deep")
        self._ends.append(None if length is None else self.at + length)
        while self.tag() is not None:
            yield from self.octets(ber.OCTETS)
        self.leave()

    def _content(self, length: int | None) -> Iterator[bytes]:
        if length is None:
            raise damaged()
        while length:
            part = self._some(min(length, CHUNK))
            length -= len(part)
            yield part


def puller(chunks: Iterator[bytes]) -> Puller:
    """Read what comes in chunks."""
    return Puller(lambda _: next(chunks, b""))
