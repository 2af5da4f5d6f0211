"""An object opened for reading in parts: data set, frames, ranges."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, overload

from ..ciphers.transform import StreamCipher, cipher, inverse_run, unit_count, unit_size
from ..container.index import Geometry
from ..container.layout import PIXELS, TAGS, TAIL
from ..container.reader import OpenContainer
from ..errors import DamagedError, FrameError
from ..native import _scan
from .decoder import stream_runs

if TYPE_CHECKING:
    import numpy
    import pydicom


class _Ranges:
    """Random access to one stream's payload through the block layer."""

    def __init__(self, opened: OpenContainer, sid: int) -> None:
        self._reader = opened.reader(sid)
        self.size = opened.payload_size(sid)
        self._runs, self._methods = stream_runs(opened, sid)
        self._block_key = opened.keys.block_key(sid) if self._runs else None
        self._ciphers: list[StreamCipher] = []  # those that no thread is using
        self._ends = [run[0] + run[1] for run in self._runs]
        self._first_units = [0]
        for run in self._runs:
            self._first_units.append(self._first_units[-1] + unit_count(run))

    def _unit(self, number: int, at: int) -> tuple[int, int, int]:
        """The unit of run `number` that holds offset `at`: (start, length, unit number)."""
        run = self._runs[number]
        size = unit_size(run)
        k = (at - run[0]) // size
        start = run[0] + k * size
        return start, min(size, run[0] + run[1] - start), self._first_units[number] + k

    def read(self, start: int, end: int) -> bytes:
        """Return payload bytes [start, end); reads the units that hold them, nothing else."""
        if not 0 <= start <= end <= self.size:
            raise DamagedError("the index points outside its stream")
        if start == end:
            return b""
        first = bisect.bisect_right(self._ends, start)
        last = bisect.bisect_left(self._ends, end)
        low, high = start, end
        if first < len(self._runs) and self._runs[first][0] <= start:
            low = self._unit(first, start)[0]
        if last < len(self._runs) and self._runs[last][0] < end:
            unit_start, length, _ = self._unit(last, end - 1)
            high = max(high, unit_start + length)
        sealed = self._reader.read(low, high)
        if self._block_key is None:
            return sealed
        try:
            stream_cipher = self._ciphers.pop()
        except IndexError:
            stream_cipher = cipher(self._block_key)
        plain = self._inverted(stream_cipher, sealed, first, last, low, high)
        self._ciphers.append(stream_cipher)
        return bytes(memoryview(plain)[start - low : end - low])

    def _inverted(
        self, stream_cipher: StreamCipher, sealed: bytes, first: int, last: int, low: int, high: int
    ) -> bytearray:
        """Return the payload [low, high) with the units of runs `first` to `last` inverted."""
        plain = bytearray(sealed)
        for number in range(first, min(last + 1, len(self._runs))):
            at = max(self._runs[number][0], low)
            while at < min(self._ends[number], high):
                unit_start, length, unit = self._unit(number, at)
                method = self._methods[unit : unit + 1]
                run = inverse_run(stream_cipher, self._runs[number], unit, method, unit_start,
                                  length)
                run.advance(plain, low, sealed, low)
                at = unit_start + length
        return plain


class Frames(Sequence[bytes]):
    """The frames of an object as bytes, as they are encoded; each is read when asked for."""

    def __init__(self, obj: OpenedObject) -> None:
        self._obj = obj

    def __len__(self) -> int:
        return self._obj.frame_count

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self._obj.frame_bytes(n) for n in range(*number.indices(len(self)))]
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"the object has {len(self)} frames")
        return self._obj.frame_bytes(number)

    def __iter__(self) -> Iterator[bytes]:
        return (self._obj.frame_bytes(n) for n in range(len(self)))


class OpenedObject:
    """An encrypted object, opened: what is not asked for is neither read nor decrypted.

    Made by `dicomcrypt.open`; a context manager. Every byte given out was authenticated.
    Several threads may read at once, if they close it when all are done.
    Attributes reach as far as the identity's scope and raise NoIdentityError beyond.
    """

    def __init__(
        self, container: OpenContainer, close: Callable[[], None] | None = None
    ) -> None:
        self._container = container
        self._close = close
        self._ranges: dict[int, _Ranges] = {}

    def __enter__(self) -> OpenedObject:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if this object opened it."""
        if self._close is not None:
            self._close()
            self._close = None

    @property
    def container(self) -> OpenContainer:
        """The container underneath: header, streams, indexes."""
        return self._container

    def _range(self, sid: int) -> _Ranges:
        if sid not in self._ranges:
            self._ranges[sid] = _Ranges(self._container, sid)
        return self._ranges[sid]

    def read(self, sid: int, start: int, end: int) -> bytes:
        """Return the payload bytes [start, end) of a stream."""
        return self._range(sid).read(start, end)

    # ---- tags -----------------------------------------------------------

    @cached_property
    def tags(self) -> bytes:
        """The file's bytes from its start up to the value of its pixel data."""
        self._need(TAGS, "tags: it holds a file that could not be followed")
        return self.read(TAGS, 0, self._range(TAGS).size)

    @cached_property
    def dataset(self) -> pydicom.Dataset:
        """The data set without its pixel data, what stands behind them included.

        Raises FrameError if the object holds no DICOM data set, and for an element that
        contradicts the standard what pydicom raises, here or when it is asked for."""
        import pydicom

        data, _ = self._without_pixels()
        return pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True)

    def _without_pixels(self) -> tuple[bytes, _scan.Scan]:
        """Return the file without its pixel data, and the scan of it.

        Raises FrameError if the object holds no DICOM data set."""
        tags = self.tags
        tail = self.read(TAIL, 0, self._range(TAIL).size)
        scan = _scan.Scan()
        if scan.feed(tags, 0, True) == _scan.PIXELS:
            tags = tags[: scan.pixel_element]
        return tags + tail, scan

    # ---- frames ---------------------------------------------------------

    def _need(self, sid: int, what: str) -> None:
        if sid not in self._container.streams:
            raise FrameError(f"the object has no {what}")

    @property
    def geometry(self) -> Geometry:
        """What the pixel stream's index says of the image."""
        self._need(PIXELS, "pixel data")
        geometry = self._container.index(PIXELS).geometry
        if geometry is None:
            raise FrameError("the object does not describe its image")
        return geometry

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax UID, empty if the file names none."""
        self._need(PIXELS, "pixel data")
        return self._container.index(PIXELS).syntax or ""

    @property
    def frame_count(self) -> int:
        """How many frames can be read one by one; 0 without pixel data."""
        if PIXELS not in self._container.streams:
            return 0
        index = self._container.index(PIXELS)
        if index.frames is not None:
            return len(index.frames) // 16
        if index.frame_bits is None:
            return 0
        return min(self.geometry.frames, index.lengths[PIXELS] * 8 // index.frame_bits)

    @property
    def frames(self) -> Frames:
        """The frames, each as the bytes that encode it."""
        self._need(PIXELS, "pixel data")
        return Frames(self)

    def frame_place(self, number: int) -> tuple[int, int]:
        """Return (offset, length) in the pixel data value of what holds a frame, bytes."""
        count = self.frame_count
        if count == 0:
            raise FrameError("the frames of this object cannot be told apart: decrypt it whole")
        if not 0 <= number < count:
            raise FrameError(f"there is no frame {number}: the object has {count}, from 0 on")
        index = self._container.index(PIXELS)
        if index.frames is not None:
            offset, length = struct.unpack_from("<QQ", index.frames, 16 * number)
        else:
            bits = index.frame_bits or 0  # not 0: there would be no frames
            offset = number * bits // 8
            length = ((number + 1) * bits + 7) // 8 - offset
        if offset + length > index.lengths[PIXELS]:
            raise FrameError(f"frame {number} is missing: the file was cut off before it")
        return offset, length

    def frame_bytes(self, number: int) -> bytes:
        """Return one frame as it is encoded: native pixels, or the joined fragments.

        Of one-bit pixel data, the bytes that hold the frame's bits."""
        offset, length = self.frame_place(number)
        data = self.read(PIXELS, offset, offset + length)
        if self._container.index(PIXELS).frames is None:
            return data
        at, pieces = 0, []
        order = ">" if self.geometry.big_endian else "<"
        while at + 8 <= len(data):
            (size,) = struct.unpack_from(order + "I", data, at + 4)
            pieces.append(data[at + 8 : at + 8 + size])
            at += 8 + size
        return b"".join(pieces)

    def native_bytes(self, number: int) -> bytes:
        """Return one native frame's bytes in the order of its samples: as `frame_bytes`, but
        taken out of the 16-bit words of a big endian OW."""
        if self.geometry.big_endian != 2:
            return self.frame_bytes(number)
        offset, length = self.frame_place(number)
        start, size = offset & ~1, self._range(PIXELS).size
        words = bytearray(self.read(PIXELS, start, min(offset + length + 1 & ~1, size)))
        words[0 : len(words) & ~1 : 2], words[1::2] = words[1::2], words[0 : len(words) & ~1 : 2]
        return bytes(words[offset - start : offset - start + length])

    def frame_array(self, number: int) -> numpy.ndarray:
        """Return one frame decoded, (rows, columns) or (rows, columns, samples).

        Colours as RGB where pydicom converts them. Raises FrameError naming the missing
        plug-in if the frame's compression cannot be decoded here.
        """
        from .frames import decode_frame

        return decode_frame(self, number)

    def describe(self) -> dict[str, Any]:
        """Return what `dicomcrypt.inspect` tells of an opened object."""
        from .inspection import describe_opened

        return describe_opened(self)
