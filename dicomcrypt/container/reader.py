"""Opening an object: header, trailer, indexes, and the streams behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from ..errors import DamagedError
from .header import BatchKeyCache, Slot, Unlocked, missing_scope, parse_slots, unlock
from .index import MAX_INDEX, Index, parse_index
from .layout import (
    OPAQUE,
    PREFIX_SIZE,
    STREAM_NAMES,
    TAGS,
    TAIL,
    TRAILER_SIZE,
    Prefix,
    parse_prefix,
    parse_trailer,
)
from .stanza import Identity
from .streams import CHUNK, SEALED_CHUNK, ChunkReader, Source, StreamOpener, plain_size

if TYPE_CHECKING:
    from .signature import Sealed, Verified

    V = TypeVar("V", bound=Verified)

#: Sealed streams up to this length are opened in one piece.
WHOLE = 1 << 20


class Container:
    """An object's public parts: what can be said without a key.

    Raises DamagedError for what is not a whole DCMX object of version 1.
    """

    def __init__(self, source: Source, *, need_trailer: bool = True) -> None:
        self.source = source
        self.size = source.size()
        self.prefix: Prefix = parse_prefix(bytes(source.read_range(0, min(self.size, PREFIX_SIZE))))
        end = self.prefix.streams_offset
        if end > self.size:
            raise DamagedError("the object is cut off in its header")
        slots = bytes(source.read_range(PREFIX_SIZE, end - PREFIX_SIZE))
        self.streams: dict[int, tuple[int, int]] = {}
        #: Where the signature streams lie; None if the object is not signed.
        self.signatures: tuple[int, int] | None = None
        if need_trailer:
            start = max(end, self.size - TRAILER_SIZE)
            trailer = bytes(source.read_range(start, self.size - start))
            self.streams, self.signatures = parse_trailer(trailer, self.prefix, self.size)
        self.slots: list[Slot] = parse_slots(slots, self.prefix)

    def unlock(
        self, identities: Iterable[Identity], cache: BatchKeyCache | None = None
    ) -> OpenContainer:
        """Open the header; raises NoIdentityError or DamagedError.

        Nothing can be read of a signed object yet: see `objects.signing.unlock`."""
        return OpenContainer(self, unlock(self.prefix, self.slots, identities, cache))


class OpenContainer:
    """An object whose header was opened.

    Of a signed one nothing can be read before `verify_signature`."""

    def __init__(self, container: Container, unlocked: Unlocked) -> None:
        self.container = container
        self.unlocked = unlocked
        self.keys = unlocked.keys
        self.streams = container.streams
        self._source: Source | None = container.source if container.signatures is None else None
        #: Of a signed object, once it is verified: manifest and CMS, and what `verify` made of it.
        self.sealed: Sealed | None = None
        self.signature: Verified | None = None
        self._readers: dict[int, ChunkReader] = {}
        self._indexes: dict[int, Index] = {}
        self._closing: Index | None = None  # once it is checked

    @property
    def closing_stream(self) -> int:
        """The stream whose index lists all others."""
        return TAIL if TAGS in self.streams else OPAQUE

    @property
    def source(self) -> Source:
        """What the streams are read from."""
        if self._source is None:
            raise DamagedError("the object is signed, and its signature was not verified")
        return self._source

    def verify_signature(self, verify: Callable[[bytes, bytes], V]) -> V:
        """Return verify(manifest, CMS), which raises if the signature is wrong; then the streams
        can be read, as far as they are what was signed. Raises DamagedError."""
        from .signature import SignedSource, open_signature

        container = self.container
        if container.signatures is None:
            raise DamagedError("the object is not signed")
        sealed = open_signature(container.source, self.streams, container.signatures, self.keys)
        self.signature = verified = verify(sealed.manifest.data, sealed.cms)
        self.sealed = sealed
        self._source = SignedSource(container.source, self.streams, sealed.manifest)
        return verified

    def check_signatures(self) -> None:
        """Raise DamagedError unless all signature streams that the keys open say the same."""
        signatures = self.container.signatures
        if self.sealed is not None and signatures is not None:
            from .signature import check_copies

            check_copies(self.container.source, signatures, self.keys, self.sealed)

    def require(self, streams: Iterable[int], wanted: str) -> None:
        """Raise NoIdentityError unless every one of these streams can be opened."""
        for sid in streams:
            if not self.keys.opens(sid):
                raise missing_scope(self.keys, wanted)

    def reader(self, sid: int) -> ChunkReader:
        """Random access to a stream's plaintext."""
        if sid not in self._readers:
            self.require((sid,), f"the {STREAM_NAMES[sid]}")
            self._readers[sid] = ChunkReader(self.source, sid, *self.streams[sid], self.keys)
        return self._readers[sid]

    def opener(self, sid: int) -> StreamOpener:
        """A stream's plaintext from its beginning."""
        self.require((sid,), f"the {STREAM_NAMES[sid]}")
        return StreamOpener(self.source, sid, *self.streams[sid], self.keys)

    def index(self, sid: int) -> Index:
        """The index at the end of a stream (not TAGS, whose runs are in TAIL's)."""
        if sid not in self._indexes:
            self._keep(sid, read_index(self.reader(sid), sid))
        return self._indexes[sid]

    def _keep(self, sid: int, index: Index) -> None:
        if self._closing is not None and self._closing.lengths[sid] != index.lengths[sid]:
            raise _wrong_length(sid)
        self._indexes[sid] = index

    def closing_index(self) -> Index:
        """The closing index, checked against the streams that are here and against their indexes,
        those that are read later included."""
        if self._closing is None:
            index = self.index(self.closing_stream)
            self._check_lengths(index)
            self._closing = index
        return self._closing

    def whole(self, sid: int, buffer: bytearray) -> memoryview | None:
        """A stream's plaintext, opened and verified to its end, if it is no longer than WHOLE.

        Its index is read on the way. The bytes stand in `buffer`, which grows as needed, or
        in memory of their own."""
        length = self.streams[sid][1]
        size = plain_size(length)
        if size < CHUNK:
            return memoryview(self.reader(sid).whole())
        if length > WHOLE:
            return None
        opener = self.opener(sid)
        with room_in(buffer, (size // CHUNK + 1) * SEALED_CHUNK) as room:
            opener.read_into(room)
        plain = memoryview(buffer)[:size]
        if sid != TAGS and sid not in self._indexes:
            payload = index_place(plain[-4:], size, sid)
            self._keep(sid, parse_index(bytes(plain[payload:-4]), sid, payload))
        return plain

    def payload_size(self, sid: int) -> int:
        if sid == TAGS:
            return plain_size(self.streams[TAGS][1])
        return self.index(sid).lengths[sid]

    def _check_lengths(self, closing: Index) -> None:
        if set(closing.lengths) != set(self.streams):
            raise DamagedError("a stream was taken away or added")
        for sid, size in closing.lengths.items():
            if sid != TAGS and not self.keys.opens(sid):
                continue
            most = plain_size(self.streams[sid][1])
            known = self._indexes.get(sid)
            if size > most or (sid == TAGS and size != most) or (
                known is not None and known.lengths[sid] != size
            ):
                raise _wrong_length(sid)
        total = sum(closing.lengths.values())
        if closing.size != total:
            raise DamagedError("the streams do not add up to the original size")
        if closing.meta.link is not None and (total or set(self.streams) != {OPAQUE}):
            raise DamagedError("the index is wrong about the link")


def _wrong_length(sid: int) -> DamagedError:
    return DamagedError(f"the {STREAM_NAMES[sid]} stream has the wrong length")


def room_in(buffer: bytearray, size: int) -> memoryview:
    """A view of a reused buffer's first `size` bytes; nobody else may look at the buffer."""
    if len(buffer) < size:
        buffer.extend(bytes(size - len(buffer)))
    return memoryview(buffer)[:size]


def index_place(end: bytes | memoryview, size: int, sid: int) -> int:
    """Where the index begins in a stream of `size` bytes that ends with `end`."""
    if len(end) >= 4:
        payload = size - 4 - int.from_bytes(end[-4:], "little")
        if payload >= max(0, size - 4 - MAX_INDEX):
            return payload
    raise DamagedError(f"the {STREAM_NAMES[sid]} stream has no index")


def read_index(reader: ChunkReader, sid: int) -> Index:
    """Read and check the index at the end of a stream."""
    end = reader.read_end(4)
    payload = index_place(end, reader.size, sid)
    start = reader.size - len(end)
    data = end[max(0, payload - start) : -4]
    if payload < start:
        data = reader.read(payload, start) + data
    return parse_index(data, sid, payload)
