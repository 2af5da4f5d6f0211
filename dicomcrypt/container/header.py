"""Slots: who may open an object (docs/spec/dcmx-v1.md sections 4 and 5)."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from ..errors import DamagedError, NoIdentityError, PolicyError, UsageError
from .layout import FLAG_MIXED_PASSPHRASE, MAX_CAPACITY, Prefix, pack_capacity
from .schedule import KeySchedule, expand
from .stanza import (
    BATCH,
    BATCH_SCOPE,
    FULL,
    NO_HINT,
    PASSPHRASE_TYPES,
    SCOPE_NAMES,
    Identity,
    Stanza,
    parse_stanzas,
)

MAC_SIZE = 32
MACS_SIZE = 3 * MAC_SIZE
FIRST_GENERATION = 2
#: Room that a slot keeps for one more stanza of the largest public-key type.
SPARE = 12 + 1120 + 48
MAX_STANZAS = 1024
MAX_COSTLY = 8  # passphrase stanzas, and batch stanzas: opening is bounded work
_SLOT = struct.Struct("<IIHH")
_SCOPES = (1, 2, 3)
_WRAPPING = (1, 2, 3, BATCH_SCOPE)


class Slot(NamedTuple):
    """A well-formed slot as it stands in an object."""

    generation: int
    stanzas: list[Stanza]
    signed: bytes  # CORE | CAPACITY | the slot's used part
    macs: bytes


def slot_mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha512_256")


def default_capacity(stanzas: Iterable[Stanza]) -> int:
    """Bytes of a slot that holds these stanzas, with room for one more public key."""
    stanzas = list(stanzas)
    need = _SLOT.size + sum(12 + len(s.body) for s in stanzas) + MACS_SIZE
    if any(s.type not in PASSPHRASE_TYPES and s.type != BATCH for s in stanzas):
        need += SPARE
    capacity = -(-need // 512) * 512
    if capacity > MAX_CAPACITY or len(stanzas) > MAX_STANZAS:
        raise UsageError("too many recipients for one object: give them a key in common")
    return capacity


def fits(stanzas: Iterable[Stanza], capacity: int) -> bool:
    """Whether these stanzas fit into a slot."""
    stanzas = list(stanzas)
    need = _SLOT.size + sum(12 + len(s.body) for s in stanzas) + MACS_SIZE
    return need <= capacity and len(stanzas) <= MAX_STANZAS


def pack_slot(
    core: bytes, capacity: int, generation: int, stanzas: Sequence[Stanza], keys: KeySchedule
) -> bytes:
    """Return a slot of `capacity` bytes with its three MACs."""
    body = b"".join([s.pack() for s in stanzas])
    used = _SLOT.pack(generation, _SLOT.size + len(body), len(stanzas), 0) + body
    signed = core + pack_capacity(capacity) + used
    macs = [slot_mac(keys.mac_key(scope), signed) for scope in _SCOPES]
    return b"".join([used, bytes(capacity - MACS_SIZE - len(used)), *macs])


def pack_header(core: bytes, capacity: int, stanzas: Sequence[Stanza], keys: KeySchedule) -> bytes:
    """Return everything before the streams: CORE, CAPACITY, slot A filled, slot B empty."""
    slot = pack_slot(core, capacity, FIRST_GENERATION, stanzas, keys)
    return b"".join([core, pack_capacity(capacity), slot, bytes(capacity)])


def parse_slot(data: bytes, number: int, prefix: Prefix) -> Slot | None:
    """Parse slot 0 (A) or 1 (B); None if it is empty or not well-formed."""
    generation, used, count, zero = _SLOT.unpack_from(data)
    end = len(data) - MACS_SIZE
    if (
        generation < FIRST_GENERATION
        or generation % 2 != number
        or zero
        or not _SLOT.size <= used <= end
        or count > MAX_STANZAS
        or data[used:end] != bytes(end - used)
    ):
        return None
    try:
        stanzas = parse_stanzas(data[_SLOT.size : used], count)
    except DamagedError:
        return None
    kinds = [s.type for s in stanzas]
    if sum(map(kinds.count, PASSPHRASE_TYPES)) > MAX_COSTLY or kinds.count(BATCH) > MAX_COSTLY:
        return None
    signed = prefix.core + pack_capacity(prefix.capacity) + data[:used]
    return Slot(generation, stanzas, signed, data[end:])


def parse_slots(data: bytes, prefix: Prefix) -> list[Slot]:
    """Return the well-formed slots of both slots' bytes, higher generation first.

    Raises DamagedError if there is none.
    """
    capacity = prefix.capacity
    slots = [parse_slot(data[:capacity], 0, prefix), parse_slot(data[capacity:], 1, prefix)]
    found = [slot for slot in slots if slot is not None]
    if len(found) > 1 and found[1].generation > found[0].generation:
        found.reverse()
    if not found:
        raise DamagedError("the header is damaged: neither of its slots can be read")
    return found


def check_passphrase_rule(stanzas: Iterable[Stanza], flags: int) -> None:
    """Refuse a passphrase beside other recipients unless the header's flag allows it."""
    if flags & FLAG_MIXED_PASSPHRASE:
        return
    real = [s.type for s in stanzas if s.type != BATCH]
    if len(real) > 1 and not PASSPHRASE_TYPES.isdisjoint(real):
        raise DamagedError("the header has a passphrase beside other recipients")


# ---- batch keys ---------------------------------------------------------


def _batch_wrapping_key(batch_key: bytes, scope: int, batch_id: bytes, core: bytes) -> bytes:
    info = b"dcmx/1 kek\0" + bytes((scope,)) + batch_id + core
    return expand(batch_key, info, 32)


def batch_stanza(key: bytes, scope: int, batch_key: bytes, batch_id: bytes, core: bytes) -> Stanza:
    """Wrap an object or scope key with a batch key."""
    kek = _batch_wrapping_key(batch_key, scope, batch_id, core)
    return Stanza(BATCH, scope, NO_HINT, batch_id + aes_key_wrap(kek, key))


# ---- opening ------------------------------------------------------------


#: Asked when an identity has opened a stanza, before anything is done with the key; raises
#: PolicyError. `keys` puts the policy's answer here: this part knows of no policy.
permit: Callable[[Identity, Stanza], None] | None = None


class BatchKeyCache:
    """What a job keeps between objects: batch keys that identities gave, so that it asks each of
    them once, and buffers for what was sealed.

    Holds keys in memory; lives as long as the job. Several threads may share one."""

    def __init__(self) -> None:
        # The identity is kept with its keys: a freed object's id may be given to another.
        self._keys: dict[tuple[int, bytes, bytes], tuple[Identity, bytes | None]] = {}
        self._buffers: list[bytearray] = []

    def __repr__(self) -> str:
        return f"BatchKeyCache({len(self._keys)} entries)"

    def borrow(self) -> bytearray:
        """Return a buffer that nobody else has, of any size; `give_back` keeps it for the next."""
        try:
            return self._buffers.pop()
        except IndexError:
            return bytearray()

    def give_back(self, buffer: bytearray) -> None:
        self._buffers.append(buffer)

    def unwrap(self, identity: Identity, stanza: Stanza, batch_id: bytes) -> bytes | None:
        place = (id(identity), stanza.body, batch_id)
        found = self._keys.get(place)  # once: another thread may clear meanwhile
        if found is None:
            if len(self._keys) > 4096:
                self._keys.clear()
            key = identity.unwrap(stanza, batch_id)
            if key is not None and permit is not None:
                permit(identity, stanza)
            found = self._keys[place] = (identity, key)
        return found[1]


@dataclass(slots=True)
class Unlocked:
    """An opened header: its keys, the slot that gave them, and who opened it."""

    keys: KeySchedule
    slot: Slot
    object_key: bytes | None  # None for holders of a scope's key only
    identity: Identity | None  # None where the keys were known


def candidates(
    slot: Slot, core: bytes, identity: Identity, cache: BatchKeyCache
) -> Iterator[tuple[int, bytes]]:
    """Yield (scope, key) for everything in a slot that an identity opens."""
    batches = [
        s for s in slot.stanzas if s.type == BATCH and s.scope in _SCOPES and len(s.body) == 56
    ]
    for stanza in slot.stanzas:
        if stanza.type == BATCH:
            continue
        if stanza.scope in _SCOPES:
            key = identity.unwrap(stanza, core)
            if key is not None:
                if permit is not None:
                    permit(identity, stanza)
                yield stanza.scope, key
        elif stanza.scope == BATCH_SCOPE:
            for inner in batches:
                batch_id = inner.body[:16]
                batch_key = cache.unwrap(identity, stanza, batch_id)
                if batch_key is None:
                    continue
                kek = _batch_wrapping_key(batch_key, inner.scope, batch_id, core)
                try:
                    yield inner.scope, aes_key_unwrap(kek, inner.body[16:])
                except (InvalidUnwrap, ValueError):
                    raise DamagedError("the batch stanza of the header is damaged") from None


def _open_slot(
    slot: Slot, prefix: Prefix, identity: Identity, cache: BatchKeyCache
) -> tuple[KeySchedule | None, bytes | None]:
    keys: KeySchedule | None = None
    object_key: bytes | None = None
    for scope, key in candidates(slot, prefix.core, identity, cache):
        if len(key) != 32:
            raise DamagedError("a stanza of the header wraps a key of the wrong length")
        if scope == FULL:
            schedule, object_key = KeySchedule.from_object_key(key, prefix.core), key
        else:
            schedule = KeySchedule.from_scope_key(key, scope, prefix.core)
        for known in schedule.scopes:
            at = MAC_SIZE * (known - 1)
            mac = slot_mac(schedule.mac_key(known), slot.signed)
            if not hmac.compare_digest(mac, slot.macs[at : at + MAC_SIZE]):
                raise DamagedError("the header was changed: its authentication code is wrong")
        if keys is None:
            keys = schedule
        else:
            keys.merge(schedule)
        if object_key is not None:
            break
    return keys, object_key


def unlock(
    prefix: Prefix,
    slots: Sequence[Slot],
    identities: Iterable[Identity],
    cache: BatchKeyCache | None = None,
) -> Unlocked:
    """Open the active slot with the identity that reaches furthest.

    Raises NoIdentityError if no stanza fits, DamagedError if a stanza is for one of
    the identities but does not open, or if an authentication code is wrong, PolicyError if only
    identities open it whose kind is refused.
    """
    cache = cache or BatchKeyCache()
    # Those that cost a key derivation come last.
    identities = list(identities)
    if len(identities) > 1:
        identities.sort(key=lambda identity: getattr(identity, "costly", False))
    damage: DamagedError | None = None
    refusal: PolicyError | None = None
    for slot in slots:
        try:
            check_passphrase_rule(slot.stanzas, prefix.flags)
        except DamagedError as error:
            damage = damage or error
            continue
        best: Unlocked | None = None
        for identity in identities:
            try:
                keys, object_key = _open_slot(slot, prefix, identity, cache)
            except DamagedError as error:
                damage = damage or error
                continue
            except PolicyError as error:
                refusal = refusal or error
                continue
            if keys is None:
                if any(identity.matches(s) for s in slot.stanzas if s.scope in _WRAPPING):
                    damage = damage or DamagedError(
                        "the header names your key, but its stanza does not open: damaged or forged"
                    )
                continue
            found = Unlocked(keys, slot, object_key, identity)
            if object_key is not None:
                return found
            if best is None:
                best = found
            else:
                best.keys.merge(keys)
        if best is not None:
            return best
    if refusal is not None:
        raise refusal
    if damage is not None:
        raise damage
    kinds = sorted({s.type_name for s in slots[0].stanzas if s.type != BATCH})
    raise NoIdentityError(
        "no identity fits, or the passphrase is wrong; the object is for: "
        + (", ".join(kinds) or "nobody")
    )


def missing_scope(keys: KeySchedule, wanted: str) -> NoIdentityError:
    """The error for a key that is right but does not reach the wanted scope."""
    have = " and ".join(SCOPE_NAMES[s] for s in sorted(keys.scopes))
    return NoIdentityError(f"this identity opens the {have} scope only, not {wanted}")


