"""The index at the end of a stream (docs/spec/dcmx-v1.md section 6).

Written and read by a small encoder and decoder of our own (`native/_cbor.pyx`), which know the
one deterministic form and refuse every other: duplicate keys, indefinite lengths, tags,
trailing bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DamagedError
from ..native import _cbor
from ..native._cbor import bounded, encode_map
from .layout import STREAM_NAMES, TAGS, TAIL

MAX_INDEX = 64 << 20
LINEAR_UNIT = 4 << 20
MAX_UNITS = 1 << 26
MAX_RUNS = 262144

KIND, LENGTHS, RUNS, METHODS, FRAMES, SYNTAX, GEOMETRY, SIZE = range(8)
NAME, MODE, MTIME, LINK, TAGS_RUNS, TAGS_METHODS, FRAME_BITS = range(8, 15)

Run = Sequence[int]  # (offset, length) or (offset, length, rows, row bytes, split)


def decode_map(data: bytes) -> dict[int, Any]:
    """Decode what `encode_map` encodes; raises DamagedError for anything else."""
    try:
        if bounded(data, MAX_RUNS + 256, 6 * MAX_RUNS + 4096):
            return _cbor.decode_map(data)
    except ValueError:
        pass
    raise DamagedError("the index is not well-formed")


@dataclass(slots=True)
class Geometry:
    """Key 6: what is needed to read the pixel data without the tags."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    planar: int
    frames: int
    photometric: str
    tag: int
    big_endian: int


@dataclass(slots=True)
class Meta:
    """Keys 8 to 11: what the file system knew about the file."""

    name: bytes | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    link: bytes | None = None


@dataclass(slots=True)
class Index:
    """One stream's index. `lengths` is {stream id: payload length}."""

    kind: int
    lengths: dict[int, int]
    runs: list[Run] = field(default_factory=list)
    methods: bytes = b""
    frames: bytes | None = None
    syntax: str | None = None
    geometry: Geometry | None = None
    frame_bits: int | None = None
    size: int | None = None
    meta: Meta = field(default_factory=Meta)
    tags_runs: list[Run] = field(default_factory=list)
    tags_methods: bytes = b""

    def encode(self) -> bytes:
        """Return the index as it stands at the end of the stream, with its length."""
        entries: dict[int, Any] = {
            KIND: self.kind,
            LENGTHS: [n for sid in sorted(self.lengths) for n in (sid, self.lengths[sid])],
        }
        if self.runs:
            entries[RUNS], entries[METHODS] = self.runs, self.methods
        if self.tags_runs:
            entries[TAGS_RUNS], entries[TAGS_METHODS] = self.tags_runs, self.tags_methods
        if self.geometry is not None:
            g = self.geometry
            entries[GEOMETRY] = [
                g.rows, g.columns, g.samples, g.bits_allocated, g.bits_stored, g.high_bit,
                g.pixel_representation, g.planar, g.frames, g.photometric, g.tag, g.big_endian,
            ]  # fmt: skip
        optional = (
            (FRAMES, self.frames), (SYNTAX, self.syntax), (SIZE, self.size),
            (NAME, self.meta.name), (MODE, self.meta.mode), (MTIME, self.meta.mtime_ns),
            (LINK, self.meta.link), (FRAME_BITS, self.frame_bits),
        )  # fmt: skip
        for key, value in optional:
            if value is not None:
                entries[key] = value
        data = encode_map(entries)
        return data + struct.pack("<I", len(data))


def _bad(what: str) -> DamagedError:
    return DamagedError(f"the index is wrong about {what}")


def _expect(entries: dict[int, Any], key: int, kind: type, what: str) -> Any:
    value = entries.get(key)
    if value is not None and type(value) is not kind:
        raise _bad(what)
    return value


def unit_count(run: Run) -> int:
    """How many units of the block layer a run has."""
    size = run[2] * run[3] if len(run) == 5 else LINEAR_UNIT
    return -(-run[1] // size)


def check_runs(runs: Any, methods: Any, payload: int) -> tuple[list[Run], bytes]:
    """Check runs and methods as docs/spec/block-layer-v1.md sections 1 and 2 demand.

    Raises DamagedError; returns them as they are to be used."""
    if runs is None and methods is None:
        return [], b""
    if type(runs) is not list or type(methods) is not bytes or not 0 < len(runs) <= MAX_RUNS:
        raise _bad("its runs")
    at = units = 0
    for run in runs:
        if type(run) is not list or len(run) not in (2, 5):
            raise _bad("its runs")
        if any(type(n) is not int or n < 0 for n in run):
            raise _bad("its runs")
        if run[0] < at or run[1] < 1 or run[0] + run[1] > payload:
            raise _bad("its runs")
        if len(run) == 5:
            rows, width, split = run[2:]
            if not (1 <= rows < 1 << 32 and 1 <= width <= 1 << 20 and rows * width < 1 << 48):
                raise _bad("a frame's geometry")
            rest = width - split
            if rest < 0 or 2 * split < width or (rest and 3 * rest < width):
                raise _bad("a frame's geometry")
        at = run[0] + run[1]
        units += unit_count(run)
    if units > MAX_UNITS or len(methods) != units:
        raise _bad("its methods")
    if any(pair & pair >> 1 & 0x55 for pair in set(methods)):
        raise _bad("its methods")
    return runs, methods


def parse_index(data: bytes, stream: int, payload: int) -> Index:
    """Parse and check the index of `stream`, whose payload has `payload` bytes.

    data: the CBOR without its length. Raises DamagedError.
    """
    entries = decode_map(data)
    numbers = entries.get(LENGTHS)
    if entries.get(KIND) != stream or type(numbers) is not list or len(numbers) % 2:
        raise _bad("its stream")
    if any(type(n) is not int or n < 0 for n in numbers):
        raise _bad("the payload lengths")
    ids = numbers[::2]
    if ids != sorted(set(ids)) or not set(ids) <= set(STREAM_NAMES):
        raise _bad("the payload lengths")
    lengths = dict(zip(ids, numbers[1::2], strict=True))
    if lengths.get(stream) != payload:
        raise _bad("the payload lengths")
    index = Index(stream, lengths)
    index.runs, index.methods = check_runs(entries.get(RUNS), entries.get(METHODS), payload)
    if stream == TAIL:
        if TAGS not in lengths:
            raise _bad("the payload lengths")
        index.tags_runs, index.tags_methods = check_runs(
            entries.get(TAGS_RUNS), entries.get(TAGS_METHODS), lengths[TAGS]
        )
    index.frames = _expect(entries, FRAMES, bytes, "the frames")
    if index.frames is not None and len(index.frames) % 16:
        raise _bad("the frames")
    index.syntax = _expect(entries, SYNTAX, str, "the transfer syntax")
    index.frame_bits = _expect(entries, FRAME_BITS, int, "the frames")
    if index.frame_bits is not None and index.frame_bits < 1:
        raise _bad("the frames")
    index.size = _expect(entries, SIZE, int, "the size")
    index.meta = Meta(
        _expect(entries, NAME, bytes, "the name"),
        _expect(entries, MODE, int, "the mode"),
        _expect(entries, MTIME, int, "the time"),
        _expect(entries, LINK, bytes, "the link"),
    )
    if index.meta.mode is not None and not 0 <= index.meta.mode <= 0o7777:
        raise _bad("the mode")
    geometry = _expect(entries, GEOMETRY, list, "the image geometry")
    if geometry is not None:
        kinds = [type(entry) for entry in geometry]
        if kinds != [int] * 9 + [str, int, int] or any(
            n < 0 for n in geometry if type(n) is int
        ):
            raise _bad("the image geometry")
        index.geometry = Geometry(*geometry)
    return index
