"""What a signature covers, and reading only what it covers (docs/spec/dcmx-v1.md section 10).

The CMS itself is made and verified elsewhere: here it is some bytes beside the manifest.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from ..errors import DamagedError
from .layout import CORE_SIZE, SIGNATURE_STREAMS
from .schedule import KeySchedule
from .streams import ChunkReader, Sink, Source, plain_size

#: Bytes of a stream's ciphertext that one leaf covers.
PIECE = 1 << 20
MAX_CMS = 1 << 18
_LEAF = 32
_ENTRY = struct.Struct("<BQ32s")
#: Pieces that a reader keeps: a stream's header and its end, and what is read in between.
_KEPT = 4


def leaf_count(length: int) -> int:
    """How many leaves a stream of so many bytes has."""
    return -(-length // PIECE)


class Manifest(NamedTuple):
    """What is signed, and what it stands for: {stream id: its leaves, joined}."""

    data: bytes
    leaves: dict[int, bytes]


def build_manifest(
    core: bytes, streams: dict[int, tuple[int, int]], leaves: dict[int, bytes]
) -> Manifest:
    """Return the Manifest of an object's streams {id: (offset, length)}."""
    parts = [core]
    for sid in sorted(streams):
        root = hashlib.sha256(leaves[sid]).digest()
        parts.append(_ENTRY.pack(sid, streams[sid][1], root))
    return Manifest(b"".join(parts), leaves)


class LeafSink:
    """A sink in front of another one that hashes what passes by: one stream's ciphertext."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._room = memoryview(b"")
        self._hash = hashlib.sha256()
        self._left = PIECE
        self._leaves: list[bytes] = []

    @property
    def position(self) -> int:
        return self._sink.position

    def reserve(self, size: int) -> memoryview:
        self._room = self._sink.reserve(size)
        return self._room

    def commit(self, size: int) -> None:
        at = 0
        while at < size:
            end = min(size, at + self._left)
            self._hash.update(self._room[at:end])
            self._left -= end - at
            at = end
            if not self._left:
                self._end_piece()
        self._room = memoryview(b"")  # a file's buffer grows only when nobody looks at it
        self._sink.commit(size)

    def _end_piece(self) -> None:
        self._leaves.append(self._hash.digest())
        self._hash, self._left = hashlib.sha256(), PIECE

    def leaves(self) -> bytes:
        """Return the leaves of all that was written, joined."""
        if self._left < PIECE:
            self._end_piece()
        return b"".join(self._leaves)


class Verified(Protocol):
    """A signature that was verified."""

    def facts(self) -> dict[str, Any]:
        """What is told of it."""


class Sealed(NamedTuple):
    """What a signature stream holds: manifest and CMS, and the whole of it."""

    manifest: Manifest
    cms: bytes
    plain: bytes


def _copy(
    source: Source, sid: int, signatures: tuple[int, int], keys: KeySchedule, fixed: int
) -> bytes:
    """The plaintext of a signature stream; fixed: its length without the CMS."""
    offset, length = signatures[0], signatures[1] // 3
    if not fixed < plain_size(length) <= fixed + MAX_CMS:
        raise DamagedError("the signature has an impossible length: damaged or forged")
    offset += SIGNATURE_STREAMS.index(sid) * length
    reader = ChunkReader(source, sid, offset, length, keys)
    plain = reader.read_end(1)  # authenticates the length too
    if len(plain) == reader.size:
        return plain
    return reader.read(0, reader.size - len(plain)) + plain


def _reach(keys: KeySchedule) -> list[int]:
    """The signature streams that the keys open; the last is the one that is used."""
    return [sid for sid in SIGNATURE_STREAMS if keys.opens(sid)]


def check_copies(
    source: Source, signatures: tuple[int, int], keys: KeySchedule, sealed: Sealed
) -> None:
    """Raise DamagedError unless all signature streams that the keys open say the same."""
    fixed = len(sealed.plain) - len(sealed.cms)
    for sid in _reach(keys)[:-1]:
        if _copy(source, sid, signatures, keys, fixed) != sealed.plain:
            raise DamagedError("the object's signatures differ: damaged or forged")


def open_signature(
    source: Source, streams: dict[int, tuple[int, int]], signatures: tuple[int, int],
    keys: KeySchedule,
) -> Sealed:
    """Open the signature stream of the furthest scope and check that it speaks of these streams.

    The CMS is yet to be verified. Raises DamagedError."""
    leaf_sizes = {sid: _LEAF * leaf_count(streams[sid][1]) for sid in sorted(streams)}
    end = CORE_SIZE + _ENTRY.size * len(streams)
    fixed = end + sum(leaf_sizes.values())
    plain = _copy(source, _reach(keys)[-1], signatures, keys, fixed)
    leaves, at = {}, end
    for sid, size in leaf_sizes.items():
        leaves[sid] = plain[at : at + size]
        at += size
    manifest = build_manifest(keys.core, streams, leaves)
    if not hmac.compare_digest(manifest.data, plain[:end]):
        raise DamagedError("the signature is of another object: damaged or forged")
    return Sealed(manifest, plain[at:], plain)


def _is_signed(piece: bytes | memoryview, leaves: bytes, number: int) -> bool:
    leaf = leaves[_LEAF * number : _LEAF * (number + 1)]
    return hmac.compare_digest(hashlib.sha256(piece).digest(), leaf)


def changed_pieces(
    source: Source, streams: dict[int, tuple[int, int]], manifest: Manifest
) -> Iterator[tuple[int, int, int]]:
    """Yield (stream id, start, end) of the pieces that cannot be read or are not what was signed,
    in bytes from the stream's start."""
    for sid, (offset, length) in streams.items():
        for number in range(leaf_count(length)):
            start = number * PIECE
            end = min(start + PIECE, length)
            try:
                piece = source.read_range(offset + start, end - start)
            except (DamagedError, OSError):
                yield sid, start, end
                continue
            if not _is_signed(piece, manifest.leaves[sid], number):
                yield sid, start, end


class SignedSource:
    """A signed object's streams: gives out bytes only of pieces that match their leaf.

    Whole pieces are read and kept for a while. Several threads may read at once."""

    def __init__(
        self, source: Source, streams: dict[int, tuple[int, int]], manifest: Manifest
    ) -> None:
        self._source, self._leaves = source, manifest.leaves
        self._places = [(offset, offset + length, sid) for sid, (offset, length) in streams.items()]
        self._kept: dict[tuple[int, int], memoryview] = {}
        self._lock = threading.Lock()

    def size(self) -> int:
        return self._source.size()

    def read_range(self, offset: int, length: int) -> memoryview:
        """Return bytes that lie in one stream; raises DamagedError if a piece was changed."""
        start, end, sid = self._place(offset, length)
        first = (offset - start) // PIECE
        last = (offset + max(length, 1) - 1 - start) // PIECE
        low = offset - start - first * PIECE
        if first == last:
            return self._piece(sid, start, end, first)[low : low + length]
        joined = b"".join(self._piece(sid, start, end, n) for n in range(first, last + 1))
        return memoryview(joined)[low : low + length]

    def _place(self, offset: int, length: int) -> tuple[int, int, int]:
        for start, end, sid in self._places:
            if start <= offset and offset + length <= end:
                return start, end, sid
        raise DamagedError("the signature does not cover what is read")

    def _piece(self, sid: int, start: int, end: int, number: int) -> memoryview:
        place = (sid, number)
        with self._lock:
            kept = self._kept.pop(place, None)
            if kept is not None:
                self._kept[place] = kept  # the last one again
                return kept
        at = start + number * PIECE
        piece = memoryview(self._source.read_range(at, min(PIECE, end - at)))
        if not _is_signed(piece, self._leaves[sid], number):
            raise DamagedError("the object is not what was signed: damaged or forged")
        with self._lock:
            self._kept[place] = piece
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return piece
