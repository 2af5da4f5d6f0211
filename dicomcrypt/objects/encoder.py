"""A file's bytes in, an object's bytes out, in one pass and bounded memory.

The encoder does no input or output of its own: a driver shows it windows of the
file, it says how far it has come and how far the next window must reach. So one piece
of code serves files, memory, pipes and network streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ciphers.transform import LINEAR_UNIT, Run, StreamCipher, cipher, demanded_kernel
from ..container.index import MAX_RUNS, Geometry, Index, Meta
from ..container.layout import OPAQUE, PIXELS, TAGS, TAIL
from ..container.streams import Sink, StreamSealer
from ..container.writer import ContainerWriter
from ..dicom.units import FragmentMap, frame_layout, native_frame_bits
from ..keys.batch import Material
from ..native import _scan

#: Bytes that go through block layer and sealing at a time: read, transformed and sealed
#: while they are in the L2 cache.
BAND = 128 * 1024
MAX_BASIC_TABLE = 4 << 20
_NOTHING = memoryview(b"")


def _byte_order(scan: _scan.Scan) -> int:
    """0 little, 1 big, 2 big with samples of 8 bits in 16-bit words (OW: PS3.5 annex A.3)."""
    if not scan.big_endian:
        return 0
    return 2 if scan.bits_allocated <= 8 and scan.pixel_vr == b"OW" else 1


class _Stream:
    """A stream that is being written: its sealer, its runs, and where it lies in the file."""

    def __init__(self, sid: int, start: int, sealer: StreamSealer) -> None:
        self.sid, self.start, self.sealer = sid, start, sealer
        self.runs: list[list[int]] = []
        self.methods = bytearray()
        self.cipher: StreamCipher | None = None


class Encoder:
    """Encodes one file.

    sink: where the object goes. material: the object's keys and header. method: -1, 0, 1,
    2, or None for no block layer. meta: what the closing index keeps of the file system.
    opaque_allowed: called when the file turns out not to be DICOM that can be followed;
    raises to refuse. scratch: a bytearray of at least BAND bytes, reused between objects.
    sign: makes the CMS of the object's manifest (`keys.signing.Signer.sign`); None: not signed.
    """

    if TYPE_CHECKING:  # what a step finds because an earlier one made it
        _stream: _Stream
        _run: Run
        _geometry: Geometry
        _fragments: FragmentMap

    def __init__(
        self,
        sink: Sink,
        material: Material,
        method: int | None,
        *,
        meta: Meta | None = None,
        opaque_allowed: Callable[[], None] | None = None,
        scratch: bytearray | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._writer = ContainerWriter(sink, *material, sign)
        self._layered = method is not None
        self._method = -1 if method is None else method
        self._meta = meta or Meta()
        self._opaque_allowed = opaque_allowed
        self._scratch = scratch if scratch is not None else bytearray(BAND)
        self._scan = _scan.Scan()
        self._window = _NOTHING
        self._base = self._end = self._pos = 0
        self._last = False
        self._kernel = -1
        self._step: Callable[[], bool] | None = self._scan_step
        self._tags: _Stream | None = None  # once it is done
        self._tags_begun = False
        self._run_open = False  # whether the last linear run goes on
        self._lengths: dict[int, int] = {}
        self._items: list[tuple[int, int]] = []
        self._item_next = 0
        self._items_done = self._table_seen = False
        self._items_status = _scan.ITEMS_NEED
        self._basic = self._extended = b""
        self._fragment: tuple[int, int] | None = None  # its header and its end
        self._frame_bits: int | None = None
        self._value_end = 0
        self._syntax = self._photometric = ""
        self.size = 0
        #: File offset that the next window must reach, unless the file ends before.
        self.wanted = 1

    # ---- the driver's side ---------------------------------------------

    def feed(self, window: memoryview, base: int, last: bool) -> int:
        """Work on window = the file's bytes from offset `base` on; `last`: the file ends there.

        Returns the offset from which on the next window must still hold the file.
        With `last` everything is consumed and the object is complete.
        """
        self._window, self._base, self._end = window, base, base + len(window)
        self._last = last
        while self._step is not None and self._step():
            pass
        self._window = _NOTHING
        scanning = self._step == self._scan_step
        return min(self._pos, self._scan.pos) if scanning else self._pos

    # ---- streams --------------------------------------------------------

    def _begin(self, sid: int) -> None:
        self._stream = _Stream(sid, self._pos, self._writer.begin(sid))
        self._run_open = False

    def _begin_tags(self) -> None:
        if not self._tags_begun:
            self._begin(TAGS)
            self._tags_begun = True

    def _close(self, index: Index | None) -> None:
        stream = self._stream
        if index is not None:
            stream.sealer.write(index.encode())
        self._writer.end(stream.sid, stream.sealer)

    def _index(self) -> Index:
        """The index of the current stream, its payload ending here."""
        stream = self._stream
        self._lengths[stream.sid] = length = self._pos - stream.start
        return Index(stream.sid, {stream.sid: length}, stream.runs, bytes(stream.methods))

    def _end_tags(self) -> None:
        self._lengths[TAGS] = self._pos - self._stream.start
        self._tags = self._stream
        self._close(None)

    def _finish(self) -> bool:
        """Close the last stream with the closing index, and the object."""
        index = self._index()
        index.lengths = dict(self._lengths)
        index.size = sum(self._lengths.values())
        index.meta = self._meta
        if self._tags is not None:
            index.tags_runs, index.tags_methods = self._tags.runs, bytes(self._tags.methods)
        self._close(index)
        self.size = self._writer.close()
        self._step = None
        return False

    # ---- bytes into the current stream ----------------------------------

    def _pass(self, upto: int) -> None:
        """Seal the window's bytes up to file offset `upto` as they are."""
        while self._pos < upto:
            end = min(upto, self._pos + BAND)
            self._stream.sealer.write(self._window[self._pos - self._base : end - self._base])
            self._pos = end

    def _cipher(self) -> StreamCipher:
        stream = self._stream
        if stream.cipher is None:
            if self._kernel < 0:
                self._kernel = demanded_kernel()
            keys = self._writer.keys
            stream.cipher = cipher(keys.block_key(stream.sid), self._kernel)
        return stream.cipher

    def _pump(self, run: Run) -> None:
        """Move the window's bytes through a run into the sealer, as far as they reach."""
        stream, scratch = self._stream, memoryview(self._scratch)
        start = done = self._pos - stream.start
        source = self._window[self._pos - self._base : self._end - self._base]
        end = start + len(source)
        while not run.finished:
            new = run.advance(scratch, done, source, start)
            if new == done:
                break
            stream.sealer.write(scratch[: new - done])
            rest = min(end, done + len(scratch)) - new
            if rest > 0 and not run.finished:  # rows of which one half is done
                scratch[:rest] = scratch[new - done : new - done + rest]
            done = new
        self._pos = stream.start + done

    def _linear(self, upto: int | None) -> bool:
        """Take linear bytes up to `upto` (None: to the end); whether they are all taken."""
        while True:
            want = LINEAR_UNIT if upto is None else min(LINEAR_UNIT, upto - self._pos)
            have = min(want, self._end - self._pos)
            if want == 0 or (have == 0 and self._last):
                return True
            if not self._layered or len(self._stream.runs) >= MAX_RUNS:
                if have == 0:
                    self.wanted = self._end + 1
                    return False
                self._pass(self._pos + have)
                continue
            if have < want and not self._last:
                self.wanted = self._pos + want
                return False
            self._linear_unit(have)

    def _linear_unit(self, size: int) -> None:
        stream = self._stream
        offset = self._pos - stream.start
        if self._run_open:
            stream.runs[-1][1] += size
        else:
            stream.runs.append([offset, size])
            self._run_open = True
        run = Run(self._cipher(), offset, size, first_unit=len(stream.methods),
                  method=self._method)
        end = self._end
        self._end = self._pos + size
        self._pump(run)
        self._end = end
        stream.methods += run.methods

    # ---- steps: each returns whether to go on ---------------------------

    def _scan_step(self) -> bool:
        scan = self._scan
        status = scan.feed(self._window, self._base, self._last)
        if status == _scan.NEED:
            if self._end - self._pos < LINEAR_UNIT:
                reach = max(scan.need, self._end + 1)
                self.wanted = min(reach, self._pos + LINEAR_UNIT)
                return False
            # More tags than a unit: seal the first unit, go on scanning behind it.
            self._read_tables()
            self._begin_tags()
            if self._layered:
                self._linear_unit(LINEAR_UNIT)
            else:
                self._pass(self._pos + LINEAR_UNIT)
            return True
        if status == _scan.PIXELS or status == _scan.END:
            self._begin_tags()
            self._read_tables()
            self._step = self._tags_step
        elif not self._tags_begun:
            if self._opaque_allowed is not None:
                self._opaque_allowed()
            self._begin(OPAQUE)
            self._step = self._opaque_step
        else:
            self._end_tags()
            self._begin(OPAQUE)
            self._step = self._opaque_step
        return True

    def _read_tables(self) -> None:
        """Take from the window what lies in the tags and is needed with the pixel data."""
        self._syntax = self._text(0x00020010) or self._syntax
        self._photometric = self._text(0x00280004) or self._photometric
        self._extended = self._attribute(0x7FE00001, 16 << 20) or self._extended

    def _text(self, tag: int) -> str:
        return self._attribute(tag, 64).rstrip(b"\0 ").decode("latin-1")

    def _attribute(self, tag: int, limit: int) -> bytes:
        found = self._scan.attribute(tag)
        if found is None or found[2] is None or found[2] > limit:
            return b""
        start = found[1] - self._base
        if start < 0 or start + found[2] > len(self._window):
            return b""
        return bytes(self._window[start : start + found[2]])

    def _tags_step(self) -> bool:
        scan = self._scan
        if scan.status == _scan.END:
            if not self._linear(None):
                return False
            self._end_tags()
            self._begin(TAIL)
            return self._finish()
        if not self._linear(scan.pixel_value):
            return False
        self._end_tags()
        if scan.pixel_length == 0:
            self._begin(TAIL)
            self._step = self._tail_step
            return True
        self._begin(PIXELS)
        self._geometry = Geometry(
            scan.rows, scan.columns, scan.samples, scan.bits_allocated, scan.bits_stored,
            scan.high_bit, scan.pixel_representation, scan.planar, scan.frames, self._photometric,
            scan.pixel_tag, _byte_order(scan),
        )  # fmt: skip
        if scan.pixel_length is None:
            self._item_next = scan.pixel_value
            self._fragments = FragmentMap(scan.frames)
            self._step = self._items_step
            return True
        self._value_end = scan.pixel_value + scan.pixel_length
        self._frame_bits = native_frame_bits(scan, self._photometric)
        layout = frame_layout(scan) if self._layered else None
        if layout is None:
            self._step = self._native_linear_step
            return True
        rows, width, split, sample = layout
        length = rows * width * scan.frames
        needed = max(BAND, 2 * width + 2 * 49152)
        if len(self._scratch) < needed:
            self._scratch = bytearray(needed)
        self._run = Run(self._cipher(), 0, length, rows=rows, row_bytes=width, split=split,
                        method=self._method, sample_bytes=sample)
        self._stream.runs.append([0, length, rows, width, split])
        self._step = self._frames_step
        return True

    def _frames_step(self) -> bool:
        run, stream = self._run, self._stream
        run_end = stream.start + stream.runs[0][1]
        if self._last and self._end < run_end:
            run.cut(max(self._end - stream.start, 0))
            stream.runs[0][1] = self._end - stream.start
        self._pump(run)
        if not run.finished:
            self.wanted = stream.start + run.wanted
            return False
        stream.methods += run.methods
        if stream.runs[0][1] == 0:
            stream.runs.clear()
        self._step = self._pad_step
        return True

    def _pad_step(self) -> bool:
        end = min(self._value_end, self._end)
        self._pass(end)
        if end < self._value_end and not self._last:
            self.wanted = self._value_end
            return False
        return self._end_native()

    def _native_linear_step(self) -> bool:
        return self._linear(self._value_end) and self._end_native()

    def _end_native(self) -> bool:
        index = self._index()
        index.frame_bits = self._frame_bits
        return self._end_pixels(index)

    def _end_pixels(self, index: Index) -> bool:
        index.syntax, index.geometry = self._syntax, self._geometry
        self._close(index)
        self._begin(TAIL)
        self._step = self._tail_step
        return True

    def _items_step(self) -> bool:
        """Take one item of encapsulated pixel data, or what stands in its place."""
        if self._fragment is not None:
            return self._fragment_step(*self._fragment)
        if not self._items and not self._items_done:
            status, self._item_next, self._items = _scan.items(
                self._window, self._base, self._item_next, self._last,
                big_endian=bool(self._scan.big_endian),
            )  # fmt: skip
            if status in (_scan.ITEMS_DELIMITER, _scan.ITEMS_IRREGULAR):
                self._items_done = True
                self._items_status = status
            elif not self._items:
                self.wanted = self._item_next + 8
                return False
        if not self._items:
            if self._items_status == _scan.ITEMS_DELIMITER:
                self._pass(self._item_next)
                return self._end_encapsulated()
            self._run_open = False
            self._step = self._irregular_step
            return True
        header, length = self._items.pop(0)
        self._pass(header + 8)
        self._fragment = (header if self._table_seen else -1, header + 8 + length)
        self._run_open = False
        return True

    def _fragment_step(self, header: int, end: int) -> bool:
        if header < 0:  # the Basic Offset Table passes through
            if end > self._end and not self._last and end - self._pos <= MAX_BASIC_TABLE:
                self.wanted = end
                return False
            if end - self._pos <= MAX_BASIC_TABLE:
                self._basic = bytes(
                    self._window[self._pos - self._base : end - self._base]
                )
            self._pass(min(end, self._end))
            if self._pos < end and not self._last:
                self.wanted = self._end + 1
                return False
            self._table_seen = True
            self._fragment = None
            return True
        if not self._linear(end):
            return False
        begin = max(self._base, end - 10, header + 8)
        tail = bytes(self._window[begin - self._base : max(self._pos - self._base, 0)])
        start = self._stream.start
        self._fragments.add(header - start, self._pos - start, tail)
        self._fragment = None
        return True

    def _irregular_step(self) -> bool:
        return self._linear(None) and self._end_encapsulated()

    def _end_encapsulated(self) -> bool:
        index = self._index()
        index.frames = self._fragments.table(
            self._extended, self._basic, bool(self._scan.big_endian)
        )
        return self._end_pixels(index)

    def _tail_step(self) -> bool:
        return self._linear(None) and self._finish()

    def _opaque_step(self) -> bool:
        if not self._linear(None):
            return False
        if self._tags is not None:
            self._close(self._index())
            self._begin(TAIL)
        return self._finish()
