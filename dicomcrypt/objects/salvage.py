"""What still authenticates of a damaged object.

Each chunk of 16 KiB stands for itself: those whose tag is right are decrypted, the others
become zeros, and the report names them. A byte of the result is either
zero or was sealed by somebody who had the key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag

from ..ciphers.transform import StreamCipher, cipher, inverse_run, unit_count, unit_size
from ..container.header import BatchKeyCache, Slot, candidates, parse_slots, unlock
from ..container.index import Index
from ..container.index import Run as RunEntry
from ..container.layout import (
    OPAQUE,
    PREFIX_SIZE,
    STREAM_NAMES,
    STREAM_ORDER,
    TAGS,
    TAIL,
    TRAILER_MAGIC,
    TRAILER_SIZE,
    Prefix,
    Trailer,
    parse_prefix,
    parse_trailer,
)
from ..container.reader import read_index
from ..container.schedule import KeySchedule
from ..container.stanza import BATCH, FULL, Identity, Stanza
from ..container.streams import CHUNK, HEADER, SEALED_CHUNK, ChunkReader
from ..errors import DamagedError, DicomcryptError, NoIdentityError
from .atomic import AtomicFile, default_mode
from .buffers import FileSource
from .signing import check_signature

WINDOW = 8 << 20


class _Salvage:
    def __init__(self, source: FileSource, keys: KeySchedule, report: dict[str, Any]) -> None:
        self.source, self.keys, self.report = source, keys, report

    def chunks(
        self, reader: ChunkReader, sid: int, start: int, end: int
    ) -> tuple[bytearray, list[tuple[int, int]]]:
        """Plaintext [start, end) with zeros for what does not authenticate, and where
        that is, counted from start."""
        first, last = start // CHUNK, (end - 1) // CHUNK
        plain = bytearray(end - start)
        holes: list[tuple[int, int]] = []
        for n in range(first, last + 1):
            at = HEADER + n * SEALED_CHUNK
            size = min(SEALED_CHUNK, reader.length - at)
            low, high = max(n * CHUNK, start), min((n + 1) * CHUNK, end)
            try:
                piece = reader.chunk(n, self.source.read_range(reader.offset + at, size))
            except (InvalidTag, DamagedError, OSError):
                self.lose(sid, low, high)
                holes.append((low - start, high - start))
                continue
            plain[low - start : high - start] = piece[low - n * CHUNK : high - n * CHUNK]
        return plain, holes

    def lose(self, sid: int, low: int, high: int) -> None:
        lost = self.report["lost"]
        name = STREAM_NAMES[sid]
        if lost and lost[-1]["stream"] == name and lost[-1]["end"] == low:
            lost[-1]["end"] = high
        else:
            lost.append({"stream": name, "start": low, "end": high})


def _unlock(
    source: FileSource, identities: Sequence[Identity], report: dict[str, Any]
) -> tuple[Prefix, KeySchedule]:
    """Keys of the object, even if its header's authentication code is wrong."""
    prefix = parse_prefix(bytes(source.read_range(0, min(source.size(), PREFIX_SIZE))))
    data = bytes(source.read_range(PREFIX_SIZE, 2 * prefix.capacity))
    slots = parse_slots(data, prefix)
    try:
        return prefix, unlock(prefix, slots, identities).keys
    except DamagedError as error:
        report["header"] = str(error)
    # The streams' commitments authenticate the key, whatever happened to the header.
    for slot in slots:
        for stanza in slot.stanzas:
            for identity in identities:
                keys = _keys_of(slot, prefix, stanza, identity)
                if keys is not None:
                    return prefix, keys
    raise NoIdentityError("the header is damaged, and no identity opens what is left of it")


def _keys_of(
    slot: Slot, prefix: Prefix, stanza: Stanza, identity: Identity
) -> KeySchedule | None:
    batches = [s for s in slot.stanzas if s.type == BATCH]
    alone = Slot(slot.generation, [stanza, *batches], slot.signed, slot.macs)
    try:
        for scope, key in candidates(alone, prefix.core, identity, BatchKeyCache()):
            if scope == FULL:
                return KeySchedule.from_object_key(key, prefix.core)
            return KeySchedule.from_scope_key(key, scope, prefix.core)
    except DamagedError:
        return None
    return None


def _earlier_trailer(source: FileSource, prefix: Prefix) -> Trailer | None:
    """The trailer of an object to which something was added, if it is near the end."""
    size = source.size()
    start = max(prefix.streams_offset, size - WINDOW)
    tail = bytes(source.read_range(start, size - start))
    at = tail.rfind(TRAILER_MAGIC)
    while at >= 0:
        end = at + len(TRAILER_MAGIC)
        try:
            return parse_trailer(tail[max(0, end - TRAILER_SIZE) : end], prefix, start + end)
        except DamagedError:
            at = tail.rfind(TRAILER_MAGIC, 0, at)
    return None


def _lost_stream(work: _Salvage, file: BinaryIO, sid: int, size: int, state: str) -> int:
    """Zeros in place of a stream of which nothing can be read."""
    work.lose(sid, 0, size)
    file.truncate(file.seek(size, os.SEEK_CUR))
    work.report["streams"].append({"stream": STREAM_NAMES[sid], "state": state})
    return size


def salvage_path(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    identities: Sequence[Identity],
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Write what authenticates of the object in `path` to `target`.

    Returns a report: {"lost": [{"stream", "start", "end"}], "bytes", "lost_bytes", "streams", and
    "header", "trailer" or "index" if these are damaged, "signature" if there is one}: what came
    out is what was signed only where its state is "valid". Raises DamagedError
    if nothing can be told of the object, NoIdentityError if no key opens it.
    """
    report: dict[str, Any] = {"lost": [], "streams": []}
    source = FileSource(path)
    try:
        prefix, keys = _unlock(source, identities, report)
        start = max(prefix.streams_offset, source.size() - TRAILER_SIZE)
        trailer = bytes(source.read_range(start, source.size() - start))
        try:
            streams, signatures = parse_trailer(trailer, prefix, source.size())
        except DamagedError as error:
            found = _earlier_trailer(source, prefix)
            if found is None:
                raise DamagedError(
                    f"{error}: where its streams lie, and which methods its blocks have, stood at "
                    "its end, so nothing can be salvaged"
                ) from None
            report["trailer"] = str(error)
            streams, signatures = found
        if signatures is not None:
            report["signature"] = check_signature(source, streams, signatures, keys)
        work = _Salvage(source, keys, report)
        readers: dict[int, ChunkReader] = {}
        indexes: dict[int, Index] = {}
        for sid in streams:
            if not keys.opens(sid):
                report["streams"].append({"stream": STREAM_NAMES[sid], "state": "other scope"})
                continue
            try:
                readers[sid] = ChunkReader(source, sid, *streams[sid], keys)
                if sid != TAGS:
                    indexes[sid] = read_index(readers[sid], sid)
            except DicomcryptError as error:
                report.setdefault("index", {})[STREAM_NAMES[sid]] = str(error)
        with AtomicFile(target, force=force) as out:
            size = 0
            closing = indexes.get(TAIL if TAGS in streams else OPAQUE)
            known = closing.lengths if closing is not None else {}
            for sid in STREAM_ORDER:
                if sid in readers:
                    size += _salvage_stream(
                        work, out.raw, sid, readers[sid], indexes, known.get(sid)
                    )
                elif sid in streams and keys.opens(sid):
                    size += _lost_stream(work, out.raw, sid, known.get(sid, 0), "head lost")
            out.commit(mode=default_mode())
        report["bytes"] = size
        report["lost_bytes"] = sum(e["end"] - e["start"] for e in report["lost"])
        return report
    finally:
        source.close()


def _zero_where_different(a: bytearray, b: bytearray) -> bytearray:
    import numpy as np

    first, second = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    return bytearray(np.where(first == second, first, 0).astype(np.uint8))


def _inverted(
    stream: StreamCipher, run: RunEntry, unit: int, method: bytes, at: int, sealed: bytearray
) -> bytearray:
    """The payload of one unit, which begins at `at`."""
    plain = bytearray(len(sealed))
    inverse_run(stream, run, unit, method, at, len(sealed)).advance(plain, at, sealed, at)
    return plain


def _salvage_stream(
    work: _Salvage, file: BinaryIO, sid: int, reader: ChunkReader, indexes: dict[int, Index],
    known: int | None,
) -> int:
    """known: the payload's length as the closing index tells it, if that could be read."""
    report = work.report
    owner = indexes.get(TAIL if sid == TAGS else sid)
    if owner is None:
        # Without runs and methods the block layer cannot be inverted.
        size = known if known is not None else 0 if sid == TAIL else reader.size
        return _lost_stream(work, file, sid, size, "index lost")
    runs, methods = (
        (owner.tags_runs, owner.tags_methods) if sid == TAGS else (owner.runs, owner.methods)
    )
    payload = reader.size if sid == TAGS else owner.lengths[sid]
    stream: StreamCipher | None = None
    lost_before = len(report["lost"])
    at = unit = 0
    for entry in [*runs, None]:
        stop = payload if entry is None else entry[0]
        while at < stop:
            end = min(stop, at + WINDOW)
            file.write(work.chunks(reader, sid, at, end)[0])
            at = end
        if entry is None:
            break
        if stream is None:
            stream = cipher(work.keys.block_key(sid))
        size = unit_size(entry)
        for number in range(unit_count(entry)):
            begin = entry[0] + number * size
            length = min(size, entry[0] + entry[1] - begin)
            sealed, holes = work.chunks(reader, sid, begin, begin + length)
            method = methods[unit : unit + 1]
            plain = _inverted(stream, entry, unit, method, begin, sealed)
            if holes:
                # The block layer spreads a hole over its tile. What changes with the
                # hole's filling came from it.
                for low, high in holes:
                    sealed[low:high] = b"\xff" * (high - low)
                filled = _inverted(stream, entry, unit, method, begin, sealed)
                plain = _zero_where_different(plain, filled)
            file.write(plain)
            unit += 1
        at = entry[0] + entry[1]
    state = "whole" if len(report["lost"]) == lost_before else "damaged"
    report["streams"].append({"stream": STREAM_NAMES[sid], "state": state})
    return payload
