"""The index at the end of a stream (docs/spec/dcmx-v1.md section 6).

Written and read by a small encoder and decoder of our own (`native/_cbor.pyx`), which know the
one deterministic form and refuse every other: duplicate keys, indefinite lengths, tags,
trailing bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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

#: The ids of streams are 1 to this.
LAST_STREAM = max(STREAM_NAMES)
#: The methods of a unit's four blocks in one byte, none of them 3.
_METHODS = bytes(four for four in range(256) if not four & four >> 1 & 0x55)
#: Types of the values that need no look at other values, and what to say of another type.
_TYPES: dict[int, tuple[type, str]] = {
    FRAMES: (bytes, "the frames"), FRAME_BITS: (int, "the frames"),
    SYNTAX: (str, "the transfer syntax"), GEOMETRY: (list, "the image geometry"),
    SIZE: (int, "the size"), NAME: (bytes, "the name"), MODE: (int, "the mode"),
    MTIME: (int, "the time"), LINK: (bytes, "the link"),
}  # fmt: skip
_GEOMETRY_TYPES = [int] * 9 + [str, int, int]

Run = Sequence[int]  # (offset, length) or (offset, length, rows, row bytes, split)


def decode_map(data: bytes) -> dict[int, Any]:
    """Decode what `encode_map` encodes; raises DamagedError for anything else."""
    try:
        if bounded(data, MAX_RUNS + 256, 6 * MAX_RUNS + 4096):
            return _cbor.decode_map(data)
    except ValueError:
        pass
    raise DamagedError("the index is not well-formed")


class Geometry(NamedTuple):
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
    runs: Sequence[Run] = field(default_factory=list)
    methods: bytes = b""
    frames: bytes | None = None
    syntax: str | None = None
    geometry: Geometry | None = None
    frame_bits: int | None = None
    size: int | None = None
    meta: Meta = field(default_factory=Meta)
    tags_runs: Sequence[Run] = field(default_factory=list)
    tags_methods: bytes = b""

    def encode(self) -> bytes:
        """Return the index as it stands at the end of the stream, with its length."""
        lengths, meta = self.lengths, self.meta
        data = encode_map({
            KIND: self.kind,
            LENGTHS: [number for sid in sorted(lengths) for number in (sid, lengths[sid])],
            RUNS: self.runs or None,
            METHODS: self.methods if self.runs else None,
            FRAMES: self.frames,
            SYNTAX: self.syntax,
            GEOMETRY: None if self.geometry is None else tuple(self.geometry),
            SIZE: self.size,
            NAME: meta.name,
            MODE: meta.mode,
            MTIME: meta.mtime_ns,
            LINK: meta.link,
            TAGS_RUNS: self.tags_runs or None,
            TAGS_METHODS: self.tags_methods if self.tags_runs else None,
            FRAME_BITS: self.frame_bits,
        })
        return data + struct.pack("<I", len(data))


def _bad(what: str) -> DamagedError:
    return DamagedError(f"the index is wrong about {what}")


def unit_count(run: Run) -> int:
    """How many units of the block layer a run has."""
    size = run[2] * run[3] if len(run) == 5 else LINEAR_UNIT
    return -(-run[1] // size)


def check_runs(runs: Any, methods: Any, payload: int) -> tuple[Sequence[Run], bytes]:
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
        for number in run:
            if type(number) is not int or number < 0:
                raise _bad("its runs")
        if run[0] < at or run[1] < 1 or run[0] + run[1] > payload:
            raise _bad("its runs")
        if len(run) == 5:
            _, _, rows, width, split = run
            if not (1 <= rows < 1 << 32 and 1 <= width <= 1 << 20 and rows * width < 1 << 48):
                raise _bad("a frame's geometry")
            rest = width - split
            if rest < 0 or 2 * split < width or (rest and 3 * rest < width):
                raise _bad("a frame's geometry")
        at = run[0] + run[1]
        units += unit_count(run)
    if units > MAX_UNITS or len(methods) != units:
        raise _bad("its methods")
    if methods.translate(None, _METHODS):
        raise _bad("its methods")
    return runs, methods


def parse_index(data: bytes, stream: int, payload: int) -> Index:
    """Parse and check the index of `stream`, whose payload has `payload` bytes.

    data: the CBOR without its length. Raises DamagedError.
    """
    entries = decode_map(data)
    get = entries.get
    numbers = get(LENGTHS)
    if get(KIND) != stream or type(numbers) is not list or len(numbers) % 2:
        raise _bad("its stream")
    lengths: dict[int, int] = {}
    before = 0
    pairs = iter(numbers)
    for sid, size in zip(pairs, pairs, strict=True):
        if type(sid) is not int or type(size) is not int or size < 0 or sid <= before:
            raise _bad("the payload lengths")
        lengths[sid] = size
        before = sid
    if before > LAST_STREAM or lengths.get(stream) != payload:
        raise _bad("the payload lengths")
    index = Index(stream, lengths)
    index.runs, index.methods = check_runs(get(RUNS), get(METHODS), payload)
    if stream == TAIL:
        if TAGS not in lengths:
            raise _bad("the payload lengths")
        index.tags_runs, index.tags_methods = check_runs(
            get(TAGS_RUNS), get(TAGS_METHODS), lengths[TAGS]
        )
    for key, value in entries.items():
        if key in _TYPES and type(value) is not _TYPES[key][0]:
            raise _bad(_TYPES[key][1])
    index.frames, index.syntax = get(FRAMES), get(SYNTAX)
    index.frame_bits, index.size = get(FRAME_BITS), get(SIZE)
    if (index.frames is not None and len(index.frames) % 16) or (
        index.frame_bits is not None and index.frame_bits < 1
    ):
        raise _bad("the frames")
    index.meta = Meta(get(NAME), get(MODE), get(MTIME), get(LINK))
    if index.meta.mode is not None and not 0 <= index.meta.mode <= 0o7777:
        raise _bad("the mode")
    if GEOMETRY in entries:
        geometry = entries[GEOMETRY]
        if list(map(type, geometry)) != _GEOMETRY_TYPES or min(geometry[:9] + geometry[10:]) < 0:
            raise _bad("the image geometry")
        index.geometry = Geometry(*geometry)
    return index
