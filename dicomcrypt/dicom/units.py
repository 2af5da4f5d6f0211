"""How pixel data is divided into runs of the block layer, and where its frames lie
(docs/spec/block-layer-v1.md section 1.1)."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

from ..native._scan import Scan

MAX_ROW = 1 << 20
MAX_FRAMES = 1 << 24
MAX_TABLE = 1 << 20  # frames whose places an index lists: 16 MiB


def frame_layout(scan: Scan) -> tuple[int, int, int, int] | None:
    """Return (rows, bytes of a row, split, sample bytes) of one frame, if the native pixel
    data of a scanned file is so many whole frames, None otherwise."""
    bits, length = scan.bits_allocated, scan.pixel_length
    if bits not in (8, 16, 32, 64) or not length:
        return None
    sample = bits // 8
    samples = scan.samples or 1
    planes = samples if scan.planar == 1 and samples > 1 else 1
    pixel = sample * samples // planes
    rows, width = scan.rows * planes, scan.columns * pixel
    if not (rows and width and width <= MAX_ROW and scan.frames <= MAX_FRAMES):
        return None
    if rows * width >= 1 << 48 or length - scan.frames * rows * width not in (0, 1):
        return None
    return rows, width, (scan.columns + 1) // 2 * pixel, sample


def native_frame_bits(scan: Scan, photometric: str) -> int | None:
    """Return the length in bits of one native frame, None if the value cannot hold them all.

    PS3.5 8.1.1 and, for YBR_FULL_422, PS3.3 C.7.6.3.1.2 (two bytes a pixel on average)."""
    samples = scan.samples or 1
    pixels = scan.rows * scan.columns
    bits = pixels * samples * scan.bits_allocated
    if photometric == "YBR_FULL_422" and samples == 3:
        bits = pixels * 2 * scan.bits_allocated
    if not bits or not scan.pixel_length or scan.frames * bits > scan.pixel_length * 8:
        return None
    return bits


class FragmentMap:
    """Collects the items of encapsulated pixel data and finds the frames in them.

    All offsets are in the pixel data value. Source: PS3.5 A.4; for data without a usable
    offset table, one fragment a frame, then the end markers of JPEG, as pydicom does.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._starts = array("Q")  # of each fragment's item header
        self._ends = array("Q")
        self._final = bytearray()  # whether an end-of-image marker ends the fragment
        self._full = False

    def add(self, header: int, end: int, tail: bytes) -> None:
        """Add a fragment: offset of its header, its end, its last bytes (10 suffice)."""
        if len(self._starts) >= 4 * MAX_TABLE:
            self._full = True
            return
        self._starts.append(header)
        self._ends.append(end)
        self._final.append(b"\xff\xd9" in tail[-10:])

    def table(self, extended: bytes, basic: bytes, big_endian: bool = False) -> bytes | None:
        """Return the frames as (offset u64, length u64) pairs, None if they cannot be told.

        extended, basic: the values of the Extended and the Basic Offset Table, or empty.
        """
        if self._full or not self._starts or not 1 <= self._frames <= MAX_TABLE:
            return None
        order = ">" if big_endian else "<"
        for data, size, code in ((extended, 8, "Q"), (basic, 4, "I")):
            if len(data) == size * self._frames:
                offsets = struct.unpack(f"{order}{self._frames}{code}", data)
                firsts = self._from_offsets(offsets)
                if firsts is not None:
                    return self._pack(firsts)
        count = len(self._starts)
        if self._frames == 1:
            return self._pack([0])
        if count == self._frames:
            return self._pack(range(count))
        if count > self._frames:
            firsts = [0] + [n + 1 for n in range(count - 1) if self._final[n]]
            if len(firsts) == self._frames:
                return self._pack(firsts)
        return None

    def _from_offsets(self, offsets: Sequence[int]) -> list[int] | None:
        if offsets[0] != 0:
            return None
        firsts: list[int] = []
        fragment, base = 0, self._starts[0]
        for offset in offsets:
            while fragment < len(self._starts) and self._starts[fragment] < base + offset:
                fragment += 1
            if fragment == len(self._starts) or self._starts[fragment] != base + offset:
                return None
            if firsts and fragment <= firsts[-1]:
                return None
            firsts.append(fragment)
        return firsts

    def _pack(self, firsts: Sequence[int]) -> bytes:
        pairs = array("Q")
        for n, first in enumerate(firsts):
            last = (firsts[n + 1] if n + 1 < len(firsts) else len(self._starts)) - 1
            pairs.append(self._starts[first])
            pairs.append(self._ends[last] - self._starts[first])
        return struct.pack(f"<{len(pairs)}Q", *pairs)
