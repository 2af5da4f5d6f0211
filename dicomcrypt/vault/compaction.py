"""Joining segments of the catalogue (docs/spec/vault-v1.md section 4.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from .head import Entry
from .rows import REMOVED, Row
from .segment import Directory, Keys, frames_of, tidy

Frames = Iterable[tuple[bytes, bytes, int]]


def compacted(segments: tuple[Entry, ...], keys: Keys, directory: Callable[[Entry], Directory],
              read: Callable[[Entry], bytes], write: Callable[[Frames], tuple[Entry, ...]],
              most: int, full: bool) -> tuple[Entry, ...]:  # fmt: skip
    """Return the segments that take the place of these, written with `write`: the same if there is
    nothing to do."""
    directories = [directory(entry) for entry in segments]
    gone = {
        record for found in directories for record in {frame.record for frame in found.frames}
        if keys.row_key(record) is None
    }  # fmt: skip
    # Keys that nobody destroyed may come back with a copy of the key table: their frames are bound
    # to their segments, which stay as they are.
    lost = {record for record in gone if not keys.is_gone(record)}
    fixed = [any(f.record in lost for f in found.frames) if lost else False
             for found in directories]
    first = 0 if full else _first(segments) if len(segments) > most else len(segments)
    parts = [(n, n + 1) for n in range(first)]
    while first < len(segments):
        end = next((n for n in range(first, len(segments)) if fixed[n]), len(segments))
        if first < end:
            parts.append((first, end))
        if end < len(segments):
            parts.append((end, end + 1))
        first = end + 1
    result: list[Entry] = []
    earlier: set[bytes] = set()
    for start, end in parts:
        records = {frame.record for found in directories[start:end] for frame in found.frames}
        if not fixed[start] and (end - start > 1 or records & gone):
            result += write(_joined(segments[start:end], directories[start:end], read, earlier))
        else:
            result += segments[start:end]
        earlier |= records
    return tuple(result)


def _first(segments: Sequence[Entry]) -> int:
    """Return where to begin: segments that are larger than all later ones together stay as they
    are, so that a row is written anew a few times only, however many jobs add few."""
    later, first = 0, len(segments) - 1
    for number in reversed(range(len(segments))):
        if segments[number].size <= later:
            first = number
        later += segments[number].size
    return min(first, len(segments) // 2)


def _joined(segments: Sequence[Entry], directories: Sequence[Directory],
            read: Callable[[Entry], bytes], earlier: set[bytes]) -> Iterator[tuple[bytes, bytes,
                                                                                  int]]:
    """Yield the frames of adjacent segments, one record's joined; `earlier`: records that have
    frames in segments before them, from which rows may have to be taken away."""
    left = Counter(frame.record for found in directories for frame in found.frames)
    waiting: dict[bytes, list[Row]] = {}
    for entry, directory in zip(segments, directories, strict=True):
        data = read(entry)
        for frame in directory.frames:
            sealed = data[frame.offset : frame.offset + frame.length]
            left[frame.record] -= 1
            if not left[frame.record] and frame.record not in waiting:  # the only one
                payload = directory.payload(frame, sealed)
                if payload is not None:
                    yield frame.record, payload, frame.rows
                continue
            block = directory.block(frame, sealed)
            rows = waiting.setdefault(frame.record, [])
            rows += block.rows() if block is not None else ()
            if not left[frame.record]:
                found = _merged(waiting.pop(frame.record), frame.record in earlier)
                yield from frames_of([(frame.record, found)])


def _merged(rows: Iterable[Row], keep_removed: bool) -> list[Row]:
    return [row for row in tidy(rows) if keep_removed or row.state != REMOVED]
