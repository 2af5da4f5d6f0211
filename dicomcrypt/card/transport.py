"""Ways to a card: a reader by PC/SC (the extra `card`), or a card in this process.

A transport moves bytes: a command in, the response out, and raises TokenError, which names the
reader and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from ..errors import MissingExtraError, TokenError, UsageError

#: PC/SC part 10: what to ask a reader for its features with, and the one that reads a PIN.
_GET_FEATURES, _VERIFY_PIN_DIRECT = 3400, 0x06


class Transport(Protocol):
    """Moves commands to one card. name: of the reader, for messages; atr: the answer to reset;
    has_pad: whether the reader has keys of its own for a PIN."""

    name: str

    @property
    def atr(self) -> bytes: ...

    @property
    def has_pad(self) -> bool: ...

    def transmit(self, command: bytes) -> bytes: ...

    def reset(self) -> None:
        """Reset the card: a PIN that was verified counts no more."""

    def close(self) -> None:
        """Let go of the card; it is reset."""

    def verify_on_pad(self, request: bytes) -> bytes:
        """Let the reader ask for the PIN (PC/SC part 10, PIN_VERIFY_STRUCTURE); its answer."""


class Chip(Protocol):
    """What a card in this process does (`card.software.SoftwareCard`)."""

    @property
    def atr(self) -> bytes: ...

    def transmit(self, command: bytes) -> bytes: ...

    def reset(self) -> object: ...

    def power_off(self) -> object: ...


class InProcess:
    """A card in this process."""

    has_pad = False

    def __init__(self, card: Chip, name: str = "in this process") -> None:
        self._card, self.name = card, name
        card.reset()

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def transmit(self, command: bytes) -> bytes:
        return self._card.transmit(command)

    def reset(self) -> None:
        self._card.reset()

    def close(self) -> None:
        self._card.power_off()

    def verify_on_pad(self, request: bytes) -> bytes:
        raise TokenError("there is no reader with keys of its own")


class Reader(NamedTuple):
    """A reader, and the answer to reset of the card in it, None if there is none."""

    name: str
    atr: bytes | None


def library() -> Any:
    """Return the calls of PC/SC; raises MissingExtraError."""
    try:
        from smartcard import scard
    except ImportError:
        raise MissingExtraError(
            "card readers need pyscard (and on Debian libpcsclite-dev to build it): "
            "pip install 'dicomcrypt[card]'"
        ) from None
    return scard


def _sentence(code: int) -> str:
    s = library()
    gone = "the card was removed: put it in again and give the command again"
    said = {
        s.SCARD_E_NO_SERVICE: "no card service answers: start pcscd",
        s.SCARD_E_SERVICE_STOPPED: "the card service was stopped: start pcscd, and give the "
                                   "command again",
        s.SCARD_W_REMOVED_CARD: gone, s.SCARD_E_NOT_TRANSACTED: gone, s.SCARD_F_COMM_ERROR: gone,
        s.SCARD_E_NO_SMARTCARD: "no card is in it: put one in",
        s.SCARD_E_UNKNOWN_READER: "there is no such reader (any more): plug it in, and look with "
                                  "dicomcrypt card list",
        s.SCARD_E_SHARING_VIOLATION: "another program is using the card: close it first",
        s.SCARD_W_UNRESPONSIVE_CARD: "the card does not answer: is it the right way round?",
        s.SCARD_W_UNPOWERED_CARD: "the card has no power: put it in again",
        s.SCARD_E_PROTO_MISMATCH: "the card speaks neither T=0 nor T=1",
        s.SCARD_W_RESET_CARD: "another program reset the card: give the command again",
    }  # fmt: skip
    said[s.SCARD_E_READER_UNAVAILABLE] = "the reader was removed: plug it in again, and give the " \
                                         "command again"
    return said.get(code) or f"the card service reports {s.SCardGetErrorMessage(code)!r}"


def _check(code: int, reader: str | None = None) -> None:
    if code != library().SCARD_S_SUCCESS:
        where = f"reader {reader!r}: " if reader is not None else ""
        raise TokenError(where + _sentence(code))


@contextmanager
def pcsc_context() -> Iterator[Any]:
    """A context of PC/SC for a few calls."""
    s = library()
    code, context = s.SCardEstablishContext(s.SCARD_SCOPE_USER)
    _check(code)
    try:
        yield context
    finally:
        s.SCardReleaseContext(context)


def reader_names(context: Any) -> list[str]:
    s = library()
    code, names = s.SCardListReaders(context, [])
    if code == s.SCARD_E_NO_READERS_AVAILABLE:
        return []
    _check(code)
    return list(names)


def reader_states(
    context: Any, known: dict[str, int], milliseconds: int
) -> dict[str, tuple[int, list[int]]]:
    """Return {reader: (state, ATR)} once it is other than `known`, or the time is over: {}."""
    s = library()
    code, found = s.SCardGetStatusChange(context, milliseconds, list(known.items()))
    if code == s.SCARD_E_TIMEOUT:
        return {}
    if code in (s.SCARD_E_UNKNOWN_READER, s.SCARD_E_READER_UNAVAILABLE):
        return {name: (s.SCARD_STATE_UNAVAILABLE, []) for name in known}
    _check(code)
    return {name: (state, atr) for name, state, atr in found}


def readers() -> list[Reader]:
    """Return all readers, and what is in them. Raises TokenError, MissingExtraError."""
    s = library()
    with pcsc_context() as context:
        names = reader_names(context)
        states = reader_states(context, dict.fromkeys(names, s.SCARD_STATE_UNAWARE), 0)
    present = s.SCARD_STATE_PRESENT
    return [Reader(name, bytes(atr) if state & present else None)
            for name, (state, atr) in sorted(states.items())]


def choose_reader(wanted: str | None) -> str:
    """Return the reader whose name is, or alone holds, `wanted`; without it, the one with a card.

    Raises UsageError if several fit, TokenError if none does."""
    found = readers()
    fits = [r for r in found if wanted is None or wanted.lower() in r.name.lower()]
    exact = [r for r in found if r.name == wanted]
    fits = exact or fits
    there = ", ".join(repr(r.name) for r in found) or "no reader at all"
    if not fits:
        raise TokenError(f"no reader {wanted!r}: there is {there}" if wanted is not None
                         else "no card reader is there: plug one in")
    full = [r for r in fits if r.atr is not None]
    if len(full) > 1 or (not full and len(fits) > 1 and wanted is not None):
        names = ", ".join(repr(r.name) for r in full or fits)
        raise UsageError(f"several readers fit: say which by --reader: {names}")
    if not full:
        names = ", ".join(repr(r.name) for r in fits)
        raise TokenError(f"reader {names}: no card is in it: put one in")
    return full[0].name


class PcscTransport:
    """A card in a reader, held for this process alone: nobody else uses the PIN that it verified.

    Raises TokenError, MissingExtraError.
    """

    def __init__(self, reader: str) -> None:
        s = self._s = library()
        self.name = reader
        code, self._context = s.SCardEstablishContext(s.SCARD_SCOPE_USER)
        _check(code)
        self._card: Any = None
        try:
            code, self._card, self._protocol = s.SCardConnect(
                self._context, reader, s.SCARD_SHARE_EXCLUSIVE,
                s.SCARD_PROTOCOL_T0 | s.SCARD_PROTOCOL_T1,
            )
            if code != s.SCARD_S_SUCCESS:
                self._card = None
            _check(code, reader)
            code, _, _, _, atr = s.SCardStatus(self._card)
            _check(code, reader)
        except BaseException:
            self.close()
            raise
        self.atr = bytes(atr)
        self._pad: int | None = None
        self._features_known = False

    def transmit(self, command: bytes) -> bytes:
        s = self._s
        pci = s.SCARD_PCI_T1 if self._protocol == s.SCARD_PROTOCOL_T1 else s.SCARD_PCI_T0
        code, answer = s.SCardTransmit(self._card, pci, list(command))
        _check(code, self.name)
        if len(answer) < 2:  # what some drivers give for a card that is pulled meanwhile
            _check(s.SCARD_W_REMOVED_CARD, self.name)
        return bytes(value & 0xFF for value in answer)

    def reset(self) -> None:
        s = self._s
        code, self._protocol = s.SCardReconnect(
            self._card, s.SCARD_SHARE_EXCLUSIVE, s.SCARD_PROTOCOL_T0 | s.SCARD_PROTOCOL_T1,
            s.SCARD_RESET_CARD,
        )
        _check(code, self.name)

    def close(self) -> None:
        if self._card is not None:
            self._s.SCardDisconnect(self._card, self._s.SCARD_RESET_CARD)
            self._card = None
        if self._context is not None:
            self._s.SCardReleaseContext(self._context)
            self._context = None

    @property
    def has_pad(self) -> bool:
        if not self._features_known:
            self._features_known = True
            s = self._s
            code, answer = s.SCardControl(self._card, s.SCARD_CTL_CODE(_GET_FEATURES), [])
            if code == s.SCARD_S_SUCCESS:  # a reader that does not know the question has none
                self._pad = features(bytes(value & 0xFF for value in answer)).get(
                    _VERIFY_PIN_DIRECT)
        return self._pad is not None

    def verify_on_pad(self, request: bytes) -> bytes:
        if not self.has_pad:
            raise TokenError(f"reader {self.name!r} has no keys of its own")
        code, answer = self._s.SCardControl(self._card, self._pad, list(request))
        _check(code, self.name)
        return bytes(value & 0xFF for value in answer)


def features(answer: bytes) -> dict[int, int]:
    """Return {feature: control code} of a reader (PC/SC part 10, section 2.2)."""
    found = {}
    for at in range(0, len(answer) - 5, 6):
        if answer[at + 1] == 4:
            found[answer[at]] = int.from_bytes(answer[at + 2 : at + 6], "big")
    return found


def pin_verify_structure(command: bytes, least: int, most: int) -> bytes:
    """Return PIN_VERIFY_STRUCTURE (PC/SC part 10, section 2.5.2) for a VERIFY whose data is a block
    that the reader fills: digits in ASCII from its left. least, most: digits."""
    block = len(command) - 5
    return bytes((
        60, 60,  # seconds to begin, and between digits
        0x82,  # bytes, from the first, left justified, ASCII
        block, 0x00,  # no length of the PIN in the block
        most, least,  # wPINMaxExtraDigit, little endian
        0x02, 0x01, 0x09, 0x04, 0x00,  # the Enter key ends it; one message, in English, the first
        0, 0, 0, *len(command).to_bytes(4, "little"),
    )) + command  # fmt: skip
