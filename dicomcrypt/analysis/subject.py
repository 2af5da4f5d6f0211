"""What is measured of a file: the bytes that pass the block layer, and how they form an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import api
from ..container.layout import OPAQUE, PIXELS, TAGS, looks_like_object
from ..errors import AlreadyEncryptedError, UsageError
from ..keys.hybrid import HybridIdentity
from ..objects.decoder import stream_runs
from ..objects.inspection import why_opaque
from ..regular import open_regular

if TYPE_CHECKING:
    import numpy

    from ..objects.opened import OpenedObject


@dataclass(frozen=True, slots=True)
class Subject:
    """An image, or a stream of bytes, as the block layer gets it.

    data: the bytes. runs: of the block layer, in them. shape: frames, rows, columns, bytes of a
    pixel; a stream is one row of bytes. sample: bytes of a sample. what: what is measured, in
    words. frame: which one, None for all of them.
    """

    data: bytes
    runs: Sequence[Sequence[int]]
    shape: tuple[int, int, int, int]
    sample: int = 1
    signed: bool = False
    big_endian: bool = False
    what: str = ""
    frame: int | None = None

    @property
    def is_image(self) -> bool:
        return self.shape[1] > 1

    def array(
        self, data: bytes | bytearray, by: str, *, signed: bool = False
    ) -> numpy.ndarray:
        """Return bytes of the subject's length as (frames, rows, columns, parts of a pixel).

        by: "byte" or "sample". signed: as the numbers that samples stand for."""
        import numpy

        kind = "u1"
        if by == "sample":
            letter = "i" if signed and self.signed else "u"
            kind = f"{'>' if self.big_endian else '<'}{letter}{self.sample}"
        return numpy.frombuffer(data, kind).reshape(*self.shape[:3], -1)

    def only(self, frame: int) -> Subject:
        """Return one of an image's frames."""
        _, rows, columns, pixel = self.shape
        size = rows * columns * pixel
        data = self.data[frame * size : (frame + 1) * size]
        return replace(self, data=data, runs=[(0, size, *self.runs[0][2:])], frame=frame,
                       shape=(1, rows, columns, pixel))


def load(path: str | os.PathLike[str], *, frame: int | None = None, decoded: bool = False
         ) -> tuple[Subject, OpenedObject]:
    """Return what is measured of a plain file, and the file as an opened object in memory.

    frame: this one only. decoded: compressed frames as their pixels instead of the byte stream
    that the block layer really gets. Raises AlreadyEncryptedError, UsageError, FrameError.
    """
    name = os.fspath(path)
    with open(open_regular(path), "rb") as file:
        data = file.read()
    if looks_like_object(data):
        raise AlreadyEncryptedError(f"{name!r} is a DCMX object: decrypt it first")
    if not data:
        raise UsageError(f"{name!r} is empty: there is nothing to measure")
    identity = HybridIdentity.generate()
    obj = api.open(api.encrypt(data, [identity.recipient]), [identity])
    if frame is not None:
        obj.frame_place(frame)  # refuses what is not there
    if decoded:
        return _decoded(obj, frame), obj
    runs, _ = stream_runs(obj.container, PIXELS) if PIXELS in obj.container.streams else ([], b"")
    if runs and len(runs[0]) == 5:
        whole = _native(obj, runs[0])
        if whole is not None:
            return (whole if frame is None else whole.only(frame)), obj
    return _stream(obj, runs, frame, data), obj


def _native(obj: OpenedObject, run: Sequence[int]) -> Subject | None:
    offset, length, rows, width, split = run
    geometry = obj.geometry
    frames = length // (rows * width)
    if not frames:
        return None  # cut off in its first frame
    size = frames * rows * width
    pixel, sample = width // geometry.columns, geometry.bits_allocated // 8
    return Subject(
        obj.read(PIXELS, offset, offset + size), [(0, size, rows, width, split)],
        (frames, rows, geometry.columns, pixel), sample,
        bool(geometry.pixel_representation), bool(geometry.big_endian),
        "native pixel data" + (", colour by plane" if rows != geometry.rows else "")
        + _extent(frames, rows, geometry.columns, pixel, sample),
    )  # fmt: skip


def _extent(frames: int, rows: int, columns: int, pixel: int, sample: int) -> str:
    count = "1 frame" if frames == 1 else f"{frames} frames"
    return f", {count} of {rows} rows and {columns} columns, {pixel // sample} * {8 * sample} bits"


def _stream(
    obj: OpenedObject, runs: Sequence[Sequence[int]], frame: int | None, file: bytes
) -> Subject:
    """The bytes of compressed frames, or of what else there is in the file."""
    if frame is not None:
        data = obj.frame_bytes(frame)
        return Subject(data, [(0, len(data))], (1, 1, len(data), 1), what="byte stream of a "
                       "compressed frame, or of one whose samples are no whole bytes", frame=frame)
    streams = obj.container.streams
    if runs:
        sid, what = PIXELS, "byte stream of the pixel data (compressed, or of no whole bytes)"
    elif OPAQUE in streams:
        sid, what = OPAQUE, f"bytes of {why_opaque(file)}"
    else:
        sid, what = TAGS, "bytes of the data elements: there is no pixel data"
    runs = stream_runs(obj.container, sid)[0]
    if not runs:
        raise UsageError("nothing of this file passes the block layer")
    pieces, rebased, at = [], [], 0
    for run in runs:
        pieces.append(obj.read(sid, run[0], run[0] + run[1]))
        rebased.append((at, run[1]))
        at += run[1]
    return Subject(b"".join(pieces), rebased, (1, 1, at, 1), what=what)


def _decoded(obj: OpenedObject, frame: int | None) -> Subject:
    import numpy

    numbers = range(obj.frame_count) if frame is None else [frame]
    if not numbers:
        raise UsageError("the file has no frames to decode")
    frames = numpy.stack([obj.frame_array(n) for n in numbers])
    frames = frames.astype(frames.dtype.newbyteorder("<"), copy=False)
    count, rows, columns = frames.shape[:3]
    sample = frames.dtype.itemsize
    pixel = frames[0, 0, 0].size * sample
    data = frames.tobytes()
    return Subject(
        data, [(0, len(data), rows, columns * pixel, (columns + 1) // 2 * pixel)],
        (count, rows, columns, pixel), sample, frames.dtype.kind == "i",
        what="decoded pixels" + _extent(count, rows, columns, pixel, sample)
        + " (of a compressed file the block layer gets the byte stream instead)", frame=frame,
    )  # fmt: skip
