"""The card as software: bytes of a command in, bytes of a response out."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import serialization

from ..errors import DamagedError, TokenError
from ..pki.names import now
from . import access, commands, filesystem, profile, security
from .apdu import CHAINED, MOST_DATA, SHORT_ANSWER, CommandApdu, ResponseApdu
from .profile import CardRole, File, Ins, Slot
from .state import CardData, FileStore, MemoryStore, Store
from .status import StatusWord
from .volatile import Refused, Volatile

Clock = Callable[[], datetime.datetime]
_HANDLERS: dict[int, Callable[[SoftwareCard, CommandApdu], bytes | ResponseApdu]] = {
    Ins.SELECT: commands.select,
    Ins.READ_BINARY: commands.read_binary,
    Ins.UPDATE_BINARY: commands.update_binary,
    Ins.ERASE_BINARY: commands.erase_binary,
    Ins.VERIFY: commands.verify,
    Ins.CHANGE_REFERENCE_DATA: commands.change_reference_data,
    Ins.RESET_RETRY_COUNTER: commands.reset_retry_counter,
    Ins.ACTIVATE: commands.activate,
    Ins.MSE: security.manage_environment,
    Ins.PSO: security.perform_operation,
    Ins.GET_CHALLENGE: security.get_challenge,
    Ins.INTERNAL_AUTHENTICATE: security.internal_authenticate,
    Ins.EXTERNAL_AUTHENTICATE: security.external_authenticate,
    Ins.GENERATE: security.generate,
}
#: What may come in parts.
_CHAINABLE = {Ins.UPDATE_BINARY, Ins.PSO, Ins.INTERNAL_AUTHENTICATE, Ins.EXTERNAL_AUTHENTICATE}


class SoftwareCard:
    """A card of the profile HPJC. Threads may share it: it does one command after the other.

    store: where it keeps its data. clock: when certificates are judged; a card has none of its own.
    """

    def __init__(self, store: Store, *, clock: Clock = now) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._powered, self._closed = True, False
        self._loaded: dict[bytes, security.PrivateKey] = {}
        self.clock = clock
        self.data = CardData.decode(store.load())
        self.tree = filesystem.Tree(self.data.role)
        self.volatile = Volatile()

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], passphrase: str, role: CardRole, *, clock: Clock = now
    ) -> SoftwareCard:
        """Make a new card with a state file; errors as of `state.FileStore`."""
        return cls(FileStore(path, passphrase, CardData(CardRole(role)).encode()), clock=clock)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], passphrase: str, *, clock: Clock = now
    ) -> SoftwareCard:
        """Open the card of a state file; errors as of `state.FileStore`."""
        store = FileStore(path, passphrase)
        try:
            return cls(store, clock=clock)
        except BaseException:
            store.close()
            raise

    @classmethod
    def in_memory(cls, role: CardRole, *, clock: Clock = now) -> SoftwareCard:
        """Make a new card that ends with the process."""
        return cls(MemoryStore(CardData(CardRole(role)).encode()), clock=clock)

    def __repr__(self) -> str:
        return f"SoftwareCard({self.role}, {'' if self.data.operational else 'not '}operational)"

    @property
    def role(self) -> CardRole:
        return self.data.role

    @property
    def atr(self) -> bytes:
        return profile.atr(self.role)

    # ---- power ---------------------------------------------------------------

    def reset(self) -> bytes:
        """Switch on, or reset: whatever was shown is forgotten. Returns the ATR."""
        with self._lock:
            self._powered, self.volatile = not self._closed, Volatile()
            return self.atr

    def power_off(self) -> None:
        with self._lock:
            self._powered, self.volatile = False, Volatile()

    def close(self) -> None:
        """Switch off for good, and let another process have the state."""
        with self._lock:
            self.power_off()
            self._closed = True
            self._loaded.clear()
            self._store.close()

    # ---- commands ------------------------------------------------------------

    def transmit(self, command: bytes) -> bytes:
        """Return the response to a command; TokenError if the card has no power.

        Whatever the command is, the answer is data and a status word."""
        with self._lock:
            if not self._powered:
                raise TokenError("the card has no power")
            try:
                return self._answer(command).encode()
            except Refused as refused:
                return ResponseApdu(b"", refused.status).encode()
            except Exception:  # a card says no more than that
                return ResponseApdu(b"", StatusWord.UNKNOWN_ERROR).encode()

    def _answer(self, raw: bytes) -> ResponseApdu:
        held = self.volatile
        pending, held.pending = held.pending, b""
        chain, held.chain = held.chain, None
        try:
            command = CommandApdu.parse(raw)
        except DamagedError:
            raise Refused(StatusWord.WRONG_LENGTH) from None
        _check_class(command.cla)
        if chain is not None:
            command = _joined(chain, command)
        if command.chained:
            if command.ins not in _CHAINABLE:
                raise Refused(StatusWord.CHAINING_NOT_SUPPORTED)
            held.chain = command
            return ResponseApdu(b"", StatusWord.OK)
        if command.ins == Ins.GET_RESPONSE:
            return self._more(command, pending)
        handler = _HANDLERS.get(command.ins)
        if handler is None:
            raise Refused(StatusWord.UNKNOWN_INSTRUCTION)
        answer = handler(self, command)
        if isinstance(answer, ResponseApdu):
            return answer
        return self._cut(answer, command.answer)

    def _more(self, command: CommandApdu, pending: bytes) -> ResponseApdu:
        if command.p1p2:
            raise Refused(StatusWord.WRONG_P1P2)
        if command.data or not command.answer:
            raise Refused(StatusWord.WRONG_LENGTH)
        if not pending:
            raise Refused(StatusWord.CONDITIONS)
        if len(pending) < command.answer != SHORT_ANSWER and not command.extended:
            self.volatile.pending = pending
            raise Refused(StatusWord.WRONG_LE | len(pending))
        return self._cut(pending, command.answer)

    def _cut(self, data: bytes, most: int) -> ResponseApdu:
        """Give as much of an answer as was asked for; the rest awaits GET RESPONSE."""
        part, later = data[:most], data[most:]
        self.volatile.pending = later
        more = StatusWord.MORE_DATA | (len(later) if len(later) < 0x100 else 0)
        return ResponseApdu(part, more if later else StatusWord.OK)

    # ---- for the commands ----------------------------------------------------

    def need(self, name: str, operation: access.Operation) -> None:
        """Refuse with 6982 unless the table of access rules allows it now."""
        condition = access.condition(name, operation, self.role, self.data.operational)
        if not self.volatile.status.meets(condition):
            raise Refused(StatusWord.SECURITY_STATUS)

    def content(self, file: File) -> bytes:
        """What a file holds."""
        fixed = filesystem.fixed_content(file.name, self.role)
        return self.data.files.get(file.name, b"") if fixed is None else fixed

    def private_key(self, slot: Slot) -> security.PrivateKey:
        """A key pair, parsed once; KeyError if there is none."""
        der = self.data.keys[slot].der
        if der not in self._loaded:
            loaded = serialization.load_der_private_key(der, None)
            if not isinstance(loaded, security.PrivateKey):
                raise DamagedError(f"the card's key {slot} is of a kind that it does not make")
            self._loaded[der] = loaded
        return self._loaded[der]

    def commit(self, **changes: Any) -> None:
        """Keep changed data; they count when they are on the medium. Refuses with 6581."""
        data = replace(self.data, **changes)
        try:
            self._store.save(data.encode())
        except OSError:
            raise Refused(StatusWord.MEMORY_FAILURE) from None
        self.data = data


def _check_class(cla: int) -> None:
    if cla & ~CHAINED == 0:
        return
    if cla & 0xE0 == 0 and cla & 0x0C:
        raise Refused(StatusWord.SECURE_MESSAGING_NOT_SUPPORTED)
    if cla & 0xE0 == 0:
        raise Refused(StatusWord.CHANNEL_NOT_SUPPORTED)
    raise Refused(StatusWord.UNKNOWN_CLASS)


def _joined(chain: CommandApdu, command: CommandApdu) -> CommandApdu:
    """A command with what its earlier parts brought."""
    if (chain.ins, chain.p1, chain.p2) != (command.ins, command.p1, command.p2):
        raise Refused(StatusWord.LAST_COMMAND_EXPECTED)
    if len(chain.data) + len(command.data) > MOST_DATA:
        raise Refused(StatusWord.WRONG_LENGTH)
    return replace(command, data=chain.data + command.data)
