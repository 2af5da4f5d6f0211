"""The head of the catalogue: which segments count (docs/spec/vault-v1.md section 4.2)."""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import DamagedError, MissingBlobError
from ..native._cbor import bounded, decode_map, encode_map
from .segment import NONCE, TAG, Keys
from .store import Store

NAME = "catalogue/head"
MAGIC = b"DCMXHED1"
_HEAD = struct.Struct("<8s16sIQ")
SEGMENTS_LIMIT = 4096
#: What to do about a catalogue that is not the one that counts.
_WAYS = ("was the folder put back from a backup? bring back a later one, or let `vault repair "
         "--rebuild` list the objects that are there")
_LIMIT = _HEAD.size + NONCE + TAG + SEGMENTS_LIMIT * 96


def segment_name(segment_id: bytes) -> str:
    return f"catalogue/{segment_id.hex()}.seg"


class Entry(NamedTuple):
    """A segment that counts: its id, SHA-256, bytes and rows."""

    segment_id: bytes
    digest: bytes
    size: int
    rows: int


class Head(NamedTuple):
    """The segments that count, oldest first; digest: of the head as it is stored."""

    generation: int
    segments: tuple[Entry, ...]
    digest: bytes
    g: int


EMPTY = Head(0, (), bytes(32), 0)


def seal_head(keys: Keys, generation: int, segments: tuple[Entry, ...]) -> bytes:
    if len(segments) > SEGMENTS_LIMIT:
        raise DamagedError("the catalogue has too many segments: compact it")
    g = keys.generation
    start = _HEAD.pack(MAGIC, keys.vault_id, g, generation)
    columns = encode_map({n: [entry[n] for entry in segments] for n in range(4)})
    nonce = os.urandom(NONCE)
    return start + nonce + AESGCM(keys.derive(g, "catalogue")).encrypt(nonce, columns, start)


def sealed_under(data: bytes) -> int:
    """Return the generation of the vault key that a head says to be sealed under; not verified.
    Raises struct.error."""
    g: int = _HEAD.unpack_from(data)[2]
    return g


def vault_of(store: Store) -> bytes | None:
    """Return the id of the vault that a head says to be of, None without one; not verified."""
    try:
        magic, vault_id, _, _ = _HEAD.unpack(store.read(NAME, 0, _HEAD.size))
    except (DamagedError, MissingBlobError, struct.error):
        return None
    return vault_id if magic == MAGIC else None


def open_head(keys: Keys, data: bytes) -> Head:
    """Undo `seal_head`; raises DamagedError."""
    try:
        if not _HEAD.size + NONCE + TAG <= len(data) <= _LIMIT:
            raise ValueError
        magic, vault_id, g, generation = _HEAD.unpack_from(data)
        if magic != MAGIC or vault_id != keys.vault_id:
            raise ValueError
        at = _HEAD.size + NONCE
        cipher = AESGCM(keys.derive(g, "catalogue"))
        columns = cipher.decrypt(data[_HEAD.size : at], data[at:], data[: _HEAD.size])
        if not bounded(columns, 4, 4 * SEGMENTS_LIMIT + 9):
            raise ValueError
        found = decode_map(columns)
        ids, digests, sizes, rows = (found[n] for n in range(4))
        if (
            len(found) != 4
            or not {*map(type, ids), *map(type, digests)} <= {bytes}
            or not {*map(type, sizes), *map(type, rows)} <= {int}
            or not {*map(len, ids)} <= {16} or not {*map(len, digests)} <= {32}
            or len({*ids}) != len(ids)
        ):  # fmt: skip
            raise ValueError
        segments = tuple(map(Entry._make, zip(ids, digests, sizes, rows, strict=True)))
    except (InvalidTag, ValueError, KeyError, TypeError):
        raise DamagedError("the head of the catalogue is damaged or forged") from None
    return Head(generation, segments, sha256(data).digest(), g)


def read_head(store: Store, keys: Keys) -> Head:
    """Return the head that counts. Raises DamagedError for one that is damaged, forged, or an old
    copy, as the key table's `state` tells."""
    before = keys.state
    try:
        data = store.read(NAME, 0, _LIMIT + 1)
    except MissingBlobError:
        if before:
            raise DamagedError(f"the head of the catalogue is gone: {_WAYS}") from None
        return EMPTY
    head = open_head(keys, data)
    # In this order a head that others replace meanwhile is between the two states.
    if head.generation < before or head.g < keys.head_generation:
        raise DamagedError(f"the head of the catalogue is an old copy: {_WAYS}")
    if head.generation > keys.state + 1:
        raise DamagedError("the catalogue is newer than the key table: is that an old copy?")
    return head


def write_head(store: Store, keys: Keys, before: Head, segments: tuple[Entry, ...]) -> Head:
    """Put a new head in the place of `before`. The caller holds the writers' lease."""
    if keys.state < before.generation:  # a change was cut short before its last step
        keys.raise_state(before.generation, before.g)
    data = seal_head(keys, before.generation + 1, segments)
    store.replace(NAME, data)
    keys.raise_state(before.generation + 1, keys.generation)
    return Head(before.generation + 1, segments, sha256(data).digest(), keys.generation)
