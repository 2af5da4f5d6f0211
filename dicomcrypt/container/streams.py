"""Sealed streams: C2SP chunked encryption with AES-256-GCM (docs/spec/dcmx-v1.md section 2).

Whole streams go through `cryptography.cobblestone`; ranges are decrypted chunk by chunk
with the same construction, built from HKDF-Expand and AES-GCM.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import DamagedError
from .layout import STREAM_NAMES
from .schedule import KeySchedule, expand

CHUNK = 16384
TAG = 16
SEALED_CHUNK = CHUNK + TAG
HEADER = 56  # salt 24, commitment 32
#: How much a decryptor is fed at a time: whole chunks, small enough for the L2 cache.
PIECE = 8 * SEALED_CHUNK
_INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


class Sink(Protocol):
    """Where sealed bytes go without a copy."""

    @property
    def position(self) -> int:
        """Bytes that were committed."""

    def reserve(self, size: int) -> memoryview:
        """Return room for exactly `size` bytes at the end."""

    def commit(self, size: int) -> None:
        """Keep the first `size` bytes of what was reserved."""


def put(sink: Sink, data: bytes | memoryview) -> None:
    """Copy bytes to the end of a sink."""
    size = len(data)
    sink.reserve(size)[:] = data
    sink.commit(size)


def sealed_size(plain: int) -> int:
    """Bytes of a sealed stream whose plaintext has `plain` bytes."""
    return HEADER + plain + TAG * (plain // CHUNK + 1)


def plain_size(sealed: int) -> int:
    """Bytes of plaintext in a sealed stream; DamagedError if no stream has this length."""
    body = sealed - HEADER
    full, last = divmod(body, SEALED_CHUNK)
    if body < TAG or last < TAG:
        raise DamagedError("a stream's length is impossible: cut off or damaged")
    return full * CHUNK + last - TAG


class StreamSealer:
    """Seals one stream into a sink."""

    def __init__(self, sid: int, keys: KeySchedule, sink: Sink) -> None:
        encryptor = Cobblestone256Encryptor(keys.input_key(sid), keys.context(sid))
        self._update, self._finalize = encryptor.update_into, encryptor.finalize
        self._sink = sink
        self._head = HEADER
        self._pending = 0
        self.offset = sink.position

    def write(self, data: bytes | memoryview) -> None:
        """Seal some more of the plaintext; a view is of bytes."""
        pending = self._pending + len(data)
        room = self._head + pending // CHUNK * SEALED_CHUNK
        self._pending, self._head = pending % CHUNK, 0
        self._sink.commit(self._update(data, self._sink.reserve(room)))

    def finish(self) -> tuple[int, int]:
        """Seal the last chunk; return the stream's offset and length in the object."""
        put(self._sink, self._finalize())
        return self.offset, self._sink.position - self.offset


class Source(Protocol):
    """What an object is read from: a file, memory, or something far away."""

    def size(self) -> int:
        """Bytes of the object."""

    def read_range(self, offset: int, length: int) -> bytes | memoryview:
        """Return exactly these bytes; raise DamagedError if the object ends before."""


class OpenSource(Source, Protocol):
    """A source that whoever opened it closes."""

    def close(self) -> None:
        """Nothing is read of it any more."""


def damaged_stream(sid: int) -> DamagedError:
    name = STREAM_NAMES.get(sid, "signature")
    return DamagedError(f"the {name} stream is damaged or forged")


class ChunkReader:
    """Random access to a stream's plaintext; every chunk is verified before it is given out.

    offset, length: the stream's place in the object.
    """

    def __init__(self, source: Source, sid: int, offset: int, length: int, keys: KeySchedule):
        self._source, self._sid = source, sid
        self.offset, self.length = offset, length
        self.size = plain_size(length)
        head = bytes(source.read_range(offset, HEADER))
        info = _INFO + head[:24] + keys.context(sid)
        derived = expand(keys.input_key(sid), info, 32 + 12 + 32)
        if not hmac.compare_digest(derived[44:], head[24:]):
            raise damaged_stream(sid)
        self._aead = AESGCM(derived[:32])
        self._nonce = int.from_bytes(derived[32:44], "big")
        self._only: bytes | None = None  # the plaintext of a stream of one chunk

    def chunk(self, number: int, sealed: bytes | memoryview) -> bytes:
        """Open one chunk; raises InvalidTag."""
        nonce = (self._nonce ^ number).to_bytes(12, "big")
        return self._aead.decrypt(nonce, sealed, None)

    def read(self, start: int, end: int) -> bytes:
        """Return plaintext bytes [start, end), 0 <= start <= end <= size.

        Raises DamagedError if a chunk was changed."""
        if start >= end:
            return b""
        if self.size < CHUNK:
            return self.whole()[start:end]
        first, last = start // CHUNK, (end - 1) // CHUNK
        at = HEADER + first * SEALED_CHUNK
        stop = min(HEADER + (last + 1) * SEALED_CHUNK, self.length)
        sealed = memoryview(self._source.read_range(self.offset + at, stop - at))
        pieces = []
        for n in range(first, last + 1):
            piece = sealed[(n - first) * SEALED_CHUNK : (n - first + 1) * SEALED_CHUNK]
            try:
                pieces.append(self.chunk(n, piece))
            except InvalidTag:
                raise damaged_stream(self._sid) from None
        joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return joined[start - first * CHUNK : end - first * CHUNK]

    def read_end(self, size: int) -> bytes:
        """Return the last bytes, at least `size` of them or all there are.

        Opens the last chunk, which authenticates the stream's length."""
        if self.size < CHUNK:
            return self.whole()
        if self.size % CHUNK == 0:
            self._open_one(self.size // CHUNK, TAG)
        return self.read(max(0, self.size - size) // CHUNK * CHUNK, self.size)

    def whole(self) -> bytes:
        """Return all of a stream of one chunk; it is opened once and kept."""
        if self._only is None:
            self._only = self._open_one(0, self.size + TAG)
        return self._only

    def _open_one(self, number: int, length: int) -> bytes:
        at = self.offset + HEADER + number * SEALED_CHUNK
        try:
            return self.chunk(number, self._source.read_range(at, length))
        except InvalidTag:
            raise damaged_stream(self._sid) from None


class StreamOpener:
    """Opens a whole stream in order, as many chunks at a time as there is room for."""

    def __init__(self, source: Source, sid: int, offset: int, length: int, keys: KeySchedule):
        self._source, self._sid = source, sid
        self._at, self._end = offset, offset + length
        self.size = plain_size(length)
        self._decryptor = Cobblestone256Decryptor(keys.input_key(sid), keys.context(sid))
        self._head = HEADER  # what stands before the next chunk

    def read_into(self, room: memoryview) -> int:
        """Decrypt the next piece into `room` (a multiple of SEALED_CHUNK); 0 at the end.

        Raises DamagedError, with `room` wiped, if a chunk or the stream's end is wrong."""
        if self._at == self._end:
            return 0
        size = min(self._end - self._at, self._head + len(room))
        sealed = self._source.read_range(self._at, size)
        self._head = 0
        self._at += size
        try:
            made = self._decryptor.update_into(sealed, room)
            if self._at == self._end:
                rest = self._decryptor.finalize()
                room[made : made + len(rest)] = rest
                made += len(rest)
            return made
        except (InvalidTag, ValueError):
            room[:] = bytes(len(room))
            raise damaged_stream(self._sid) from None
