"""Fixed parts of a DCMX object: CORE, CAPACITY and TRAILER (docs/spec/dcmx-v1.md section 1)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from ..errors import DamagedError

MAGIC = b"\x89DCMX\r\n\x1a"
VERSION = 1
SUITE = 1
FLAG_MIXED_PASSPHRASE = 1

CORE_SIZE = 64
PREFIX_SIZE = CORE_SIZE + 8
TRAILER_SIZE = 96
MIN_CAPACITY, MAX_CAPACITY = 512, 1 << 20
TRAILER_MAGIC = b"DCMXEND1"

TAGS, PIXELS, TAIL, OPAQUE = 1, 2, 3, 4
STREAM_NAMES = {TAGS: "tags", PIXELS: "pixels", TAIL: "tail", OPAQUE: "opaque"}
#: The signature streams, in their order in the file: of the scopes tags, pixels and full.
SIGNATURE_STREAMS = (8, 9, 10)
#: The order in which streams stand in the file, and in which their payloads join.
STREAM_ORDER = (TAGS, PIXELS, OPAQUE, TAIL)

_ABSENT = (0, 0)
_CORE = struct.Struct("<8sBBHI48s")
_CAPACITY = struct.Struct("<II")
_PREFIX = struct.Struct("<8sBBHI48sII")
_TRAILER = struct.Struct("<11Q8s")


def new_core(flags: int = 0) -> bytes:
    """Return a CORE with a fresh random object id and salt."""
    return _CORE.pack(MAGIC, VERSION, SUITE, flags, 0, os.urandom(48))


def pack_capacity(capacity: int) -> bytes:
    """Return the CAPACITY field for slots of `capacity` bytes."""
    return _CAPACITY.pack(capacity, capacity ^ 0xFFFFFFFF)


class Prefix(NamedTuple):
    """CORE and CAPACITY as read."""

    core: bytes
    capacity: int
    flags: int

    @property
    def object_id(self) -> bytes:
        return self.core[16:32]

    @property
    def streams_offset(self) -> int:
        """Where the first stream begins, bytes from the start of the object."""
        return PREFIX_SIZE + 2 * self.capacity


def looks_like_object(start: bytes | memoryview) -> bool:
    """Whether a file that begins with these bytes claims to be a DCMX object."""
    return start[:8] == MAGIC


def parse_prefix(data: bytes) -> Prefix:
    """Parse CORE and CAPACITY from the first 72 bytes of an object.

    Raises DamagedError for what is no object, and for an unknown version, suite or flag.
    """
    if not looks_like_object(data):
        raise DamagedError("not a DCMX object")
    if len(data) < PREFIX_SIZE:
        raise DamagedError("the object is cut off in its header")
    _, version, suite, flags, zero, _, capacity, complement = _PREFIX.unpack_from(data)
    if version != VERSION or suite != SUITE:
        raise DamagedError(
            f"object version {version}, suite {suite} is not known: a newer dicomcrypt may read it"
        )
    if flags & ~FLAG_MIXED_PASSPHRASE or zero:
        raise DamagedError("the header has unknown flags")
    if (
        capacity ^ complement != 0xFFFFFFFF
        or capacity % 512
        or not MIN_CAPACITY <= capacity <= MAX_CAPACITY
    ):
        raise DamagedError("the header's capacity field is damaged")
    return Prefix(bytes(data[:CORE_SIZE]), capacity, flags)


def pack_trailer(
    streams: dict[int, tuple[int, int]], total: int, signatures: tuple[int, int] | None = None
) -> bytes:
    """Return TRAILER for streams {id: (offset, length)} of an object of `total` bytes.

    signatures: offset and length of the signature streams together, if the object is signed."""
    places: list[int] = []
    for sid in (1, 2, 3, 4):
        places += streams.get(sid, _ABSENT)
    return _TRAILER.pack(*places, *(signatures or _ABSENT), total, TRAILER_MAGIC)


class Trailer(NamedTuple):
    """Where an object's streams lie: {stream id: (offset, length)} of those that are present, and
    the signature streams together, None if the object is not signed."""

    streams: dict[int, tuple[int, int]]
    signatures: tuple[int, int] | None


def parse_trailer(data: bytes, prefix: Prefix, size: int) -> Trailer:
    """Parse and check TRAILER, the last 96 of an object's `size` bytes.

    Raises DamagedError unless the streams tile the object without gap in an arrangement that
    sections 1 and 2 allow.
    """
    if len(data) != TRAILER_SIZE or data[-8:] != TRAILER_MAGIC:
        raise DamagedError("the object is cut off or something was added: no trailer at its end")
    *numbers, total, _ = _TRAILER.unpack(data)
    if total != size:
        raise DamagedError(f"the object should have {total} bytes and has {size}")
    streams = {}
    at = prefix.streams_offset
    for sid in STREAM_ORDER:
        offset, length = numbers[2 * sid - 2 : 2 * sid]
        if offset == 0 and length == 0:
            continue
        if offset != at or length < 56 + 16:
            raise DamagedError(f"the trailer is wrong about the {STREAM_NAMES[sid]} stream")
        streams[sid] = (offset, length)
        at += length
    signatures = None
    if numbers[8] or numbers[9]:
        signatures = (numbers[8], numbers[9])
        if numbers[8] != at or numbers[9] % 3 or numbers[9] < 3 * (56 + 16):
            raise DamagedError("the trailer is wrong about the signatures")
        at += numbers[9]
    if at != size - TRAILER_SIZE:
        raise DamagedError("the streams do not fill the object")
    if (TAGS not in streams or TAIL not in streams) and (
        OPAQUE not in streams or len(streams) > 1
    ):
        raise DamagedError("the object lacks a stream")
    return Trailer(streams, signatures)
