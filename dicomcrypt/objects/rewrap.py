"""Changing who may open an object (docs/spec/dcmx-v1.md section 4.1)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..container.header import (
    Unlocked,
    check_passphrase_rule,
    default_capacity,
    fits,
    pack_slot,
)
from ..container.layout import PREFIX_SIZE, TRAILER_SIZE, pack_capacity, pack_trailer
from ..container.reader import Container, OpenContainer
from ..container.stanza import (
    BATCH,
    BATCH_SCOPE,
    FULL,
    NO_HINT,
    PASSPHRASE_TYPES,
    Identity,
    Recipient,
    Stanza,
    check_strengths,
)
from ..container.streams import put
from ..errors import DamagedError, NoIdentityError, UsageError
from ..keys.batch import Envelope
from ..keys.permission import check_encryption
from .atomic import AtomicFile
from .buffers import FileSink, FileSource
from .decoder import decode, stream_runs
from .drivers import PushDriver
from .encoder import Encoder
from .files import Buffers
from .signing import unlock

if TYPE_CHECKING:
    from ..keys.signing import Signer

COPY = 1 << 20


def _hint(entry: Recipient | bytes) -> bytes:
    return bytes(entry) if isinstance(entry, bytes | bytearray) else entry.hint


def _same(stanza: Stanza, recipient: Recipient) -> bool:
    return stanza.type == recipient.stanza_type and stanza.hint == recipient.hint


def _recipient_of(identity: Identity | None) -> Recipient | None:
    """Who encrypts to an identity; None if it does not tell, as one of a plug-in may."""
    own: Any = getattr(identity, "recipient", identity)
    if not all(hasattr(own, name) for name in ("wrap", "stanza_type", "hint")):
        return None
    recipient: Recipient = own
    return recipient


def _names_of(stanzas: Sequence[Stanza]) -> str:
    return ", ".join(
        s.type_name if s.hint == NO_HINT else f"{s.type_name} {s.hint.hex()}" for s in stanzas
    )


def _removed(stanzas: Sequence[Stanza], remove: Sequence[Recipient | bytes]) -> list[Stanza]:
    """The stanzas that are to go; UsageError if one of `remove` names nobody."""
    gone: list[Stanza] = []
    for entry in remove:
        hint = _hint(entry)
        if hint == NO_HINT:
            found = [s for s in stanzas if s.type in PASSPHRASE_TYPES]
        else:
            found = [s for s in stanzas if s.hint == hint and s.type != BATCH]
        if not found:
            raise UsageError("a recipient that is to be removed is not in the object")
        gone += found
    return gone


def rewrap_path(
    path: str | os.PathLike[str],
    identities: Sequence[Identity],
    *,
    add: Sequence[Recipient] = (),
    remove: Sequence[Recipient | bytes] = (),
    keep_key: bool = False,
    allow_classical: bool = False,
    allow_mixed: bool = False,
    signer: Signer | None = None,
    drop_signature: bool = False,
) -> dict[str, Any]:
    """See `dicomcrypt.rewrap`."""
    if not add and not remove:
        raise UsageError("nothing to do: give a recipient to add or to remove")
    if (signer is not None or drop_signature) and (keep_key or not remove):
        raise UsageError("only an object that is encrypted anew, as --remove does without "
                         "--keep-key, can be signed anew or lose its signature")
    path = os.path.realpath(path)  # a link's target is the object, not the link
    with _locked(path) as descriptor:
        return _rewrap_locked(
            path, descriptor, identities, add, remove, keep_key, allow_classical, allow_mixed,
            signer, drop_signature,
        )  # fmt: skip


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """Hold the object for oneself: two changes at once could wipe both slots.

    Yields a descriptor of the file that bears the name now, for reading and writing."""
    try:
        import fcntl
    except ImportError:
        raise UsageError("this system has no file locks that hold a change of recipients together: "
                         "do it on Linux or macOS") from None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                yield descriptor
                return
        finally:
            os.close(descriptor)  # replaced while we waited: take the new one


def _rewrap_locked(
    path: str, descriptor: int, identities: Sequence[Identity], add: Sequence[Recipient],
    remove: Sequence[Recipient | bytes], keep_key: bool, allow_classical: bool,
    allow_mixed: bool, signer: Signer | None, drop_signature: bool,
) -> dict[str, Any]:
    source = FileSource(path)
    try:
        container = Container(source)
        opened = unlock(container, identities)
        unlocked = opened.unlocked
        if unlocked.object_key is None:
            raise NoIdentityError("only who may read the whole object can change its recipients")
        gone = _removed(unlocked.slot.stanzas, remove)
        if gone and not keep_key:
            if container.signatures is not None and signer is None and not drop_signature:
                raise UsageError(
                    "removing somebody encrypts the object anew, which its signature does not "
                    "survive: give --sign-with, --drop-signature or --keep-key"
                )
            _encrypt_anew(path, opened, add, gone, allow_classical, allow_mixed, signer)
            return {"rewritten": True, "recipients": None}
        stanzas = [s for s in unlocked.slot.stanzas if s not in gone]
        check_encryption(add)
        for recipient in add:
            stanzas = [s for s in stanzas
                       if not (_same(s, recipient) and s.scope == FULL and s.hint != NO_HINT)]
            stanzas.append(recipient.wrap(unlocked.object_key, FULL, container.prefix.core))
        _check(stanzas, container.prefix.flags, allow_classical, allow_mixed)
        rewritten = not fits(stanzas, container.prefix.capacity)
        if rewritten:
            _with_larger_slots(path, container, unlocked, stanzas)
        else:
            _write_slot(descriptor, container, unlocked, stanzas)
        return {
            "rewritten": rewritten,
            "recipients": [
                {"type": s.type_name, "hint": None if s.hint == NO_HINT else s.hint.hex()}
                for s in stanzas if s.type != BATCH
            ],
        }  # fmt: skip
    finally:
        source.close()


def _check(
    stanzas: Sequence[Stanza], flags: int, allow_classical: bool, allow_mixed: bool
) -> None:
    if not any(s.type != BATCH and s.scope in (FULL, BATCH_SCOPE) for s in stanzas):
        raise UsageError("nobody would be left who can read the object: give --add too")
    if not allow_classical:
        check_strengths(s.type for s in stanzas)
    try:
        check_passphrase_rule(stanzas, flags)
    except DamagedError:
        hint = "" if not allow_mixed else " (the object was not made with --allow-mixed)"
        raise UsageError(
            "a passphrase cannot stand beside other recipients in this object: encrypt it "
            f"anew with --allow-mixed{hint}"
        ) from None


def _write_slot(
    descriptor: int, container: Container, unlocked: Unlocked, stanzas: Sequence[Stanza]
) -> None:
    """Write the other slot, sync, then wipe the old one, sync."""
    capacity = container.prefix.capacity
    generation = unlocked.slot.generation + 1
    slot = pack_slot(container.prefix.core, capacity, generation, stanzas, unlocked.keys)
    new = PREFIX_SIZE + generation % 2 * capacity
    old = PREFIX_SIZE + unlocked.slot.generation % 2 * capacity
    for offset, data in ((new, slot), (old, bytes(capacity))):
        if os.pwrite(descriptor, data, offset) != len(data):
            raise OSError("the header could not be written whole")
        os.fsync(descriptor)


def _keep_owner(descriptor: int, status: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _one_name(path: str) -> os.stat_result:
    """Refuse to replace a file that has other names: they would keep the old object."""
    status = os.stat(path)
    if status.st_nlink > 1:
        raise UsageError(
            f"{path!r} has {status.st_nlink} hard links, which would keep the old object: "
            "remove the others first"
        )
    return status


def _with_larger_slots(
    path: str, container: Container, unlocked: Unlocked,
    stanzas: Sequence[Stanza],
) -> None:
    """Write the object beside itself with larger slots and the same streams."""
    core, source = container.prefix.core, container.source
    capacity = default_capacity(stanzas)
    generation = unlocked.slot.generation + 1
    slot = pack_slot(core, capacity, generation, stanzas, unlocked.keys)
    slots = (slot, bytes(capacity)) if generation % 2 == 0 else (bytes(capacity), slot)
    start = container.prefix.streams_offset
    shift = PREFIX_SIZE + 2 * capacity - start
    status = _one_name(path)
    with AtomicFile(path, force=True) as out:
        sink = FileSink(out.raw)
        for data in (core, pack_capacity(capacity), *slots):
            put(sink, data)
        at, end = start, container.size - TRAILER_SIZE
        while at < end:
            piece = source.read_range(at, min(COPY, end - at))
            put(sink, piece)
            at += len(piece)
        places = {sid: (o + shift, n) for sid, (o, n) in container.streams.items()}
        signatures = container.signatures
        if signatures is not None:
            signatures = (signatures[0] + shift, signatures[1])
        trailer = pack_trailer(places, container.size + shift, signatures)
        put(sink, trailer)
        sink.flush()
        _keep_owner(out.descriptor, status)
        out.commit(mode=stat.S_IMODE(status.st_mode))


def _encrypt_anew(
    path: str,
    opened: OpenContainer,
    add: Sequence[Recipient],
    gone: Sequence[Stanza],
    allow_classical: bool,
    allow_mixed: bool,
    signer: Signer | None,
) -> None:
    """Encrypt the object under a new key for those who stay."""
    unlocked = opened.unlocked
    staying = list(add)
    own = _recipient_of(unlocked.identity)
    if own is not None:
        own_stanzas = [s for s in unlocked.slot.stanzas if _same(s, own)]
        if not any(s in gone for s in own_stanzas) and not any(
            r.stanza_type == own.stanza_type and r.hint == own.hint for r in staying
        ):
            staying.append(own)
    lost = [
        s for s in unlocked.slot.stanzas
        if s.type != BATCH and s not in gone and not any(_same(s, r) for r in staying)
    ]  # fmt: skip
    if lost:
        raise UsageError(
            "removing somebody encrypts the object anew, which needs the public keys of all who "
            f"stay; give --add for {_names_of(lost)}, or --remove them too, or --keep-key"
        )
    partial = {s.scope for s in unlocked.slot.stanzas} & {2, 3}
    if partial:
        raise UsageError(
            "the object has recipients of its tags or pixels alone: decrypt it and encrypt it "
            "again for those who stay"
        )
    closing = opened.closing_index()
    if not staying:
        raise UsageError("nobody would be left who can read the object: give --add too")
    envelope = Envelope({FULL: staying}, allow_classical=allow_classical, allow_mixed=allow_mixed)
    status = _one_name(path)
    buffers = Buffers()
    with AtomicFile(path, force=True) as out:
        sink = FileSink(out.raw, buffers.sealed)
        encoder = Encoder(
            sink, envelope.material(), method_of(opened), meta=closing.meta,
            scratch=buffers.scratch, sign=None if signer is None else signer.sign,
        )  # fmt: skip
        pump = Pump(encoder)
        decode(opened, pump, buffers.window)
        pump.finish()
        sink.flush()
        _keep_owner(out.descriptor, status)
        out.commit(mode=stat.S_IMODE(status.st_mode))


def method_of(opened: OpenContainer) -> int | None:
    """The method that the object was made with, as far as its blocks tell: one for all of
    them, or -1; None if the block layer was left out."""
    every = b"".join(stream_runs(opened, sid)[1] for sid in opened.streams)
    if not every:
        return None if opened.closing_index().size else -1
    used = {pair >> shift & 3 for pair in set(every) for shift in (0, 2, 4, 6)}
    return used.pop() if len(used) == 1 else -1


class Pump:
    """A decoder's output that is an encoder's input."""

    def __init__(self, encoder: Encoder) -> None:
        self._driver = PushDriver(encoder)
        self._room = bytearray(256 * 1024)
        self.position = 0

    def room(self, size: int) -> memoryview:
        if len(self._room) < size:
            self._room.extend(bytes(size - len(self._room)))
        return memoryview(self._room)

    def take(self, size: int, rest: int) -> None:
        view = memoryview(self._room)
        self._driver.write(view[:size])
        if rest:
            view[:rest] = view[size : size + rest]
        self.position += size

    def finish(self) -> None:
        self._driver.finish()
