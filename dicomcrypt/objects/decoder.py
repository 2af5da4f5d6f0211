"""An object's streams back into the file, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO, Protocol

from ..ciphers.transform import Run, cipher, unit_count
from ..container.index import Run as RunEntry
from ..container.layout import STREAM_ORDER, TAGS, TAIL
from ..container.reader import OpenContainer
from ..container.streams import PIECE
from ..errors import DamagedError

BAND = 128 * 1024
#: Part names of the command line, and the streams they stand for.
PARTS = {"all": (1, 2, 4, 3), "tags": (1, 3), "pixels": (2,)}


class Output(Protocol):
    """Where plaintext goes: room for what comes next, and how much of it is done."""

    def room(self, size: int) -> memoryview:
        """Return a window that begins at the first byte that is not done; at least `size`
        bytes, or all that is left."""

    def take(self, size: int, rest: int) -> None:
        """The first `size` bytes are done, the `rest` behind them partly."""


class MemoryOutput:
    """The caller's buffer of the payload's exact size."""

    def __init__(self, out: memoryview) -> None:
        self._out = out
        self.position = 0

    def room(self, size: int) -> memoryview:
        return self._out[self.position :]

    def take(self, size: int, rest: int) -> None:
        self.position += size

    def wipe(self) -> None:
        self._out[:] = bytes(len(self._out))


class FileOutput:
    """Anything with `write(buffer)`."""

    def __init__(
        self,
        file: BinaryIO,
        scratch: bytearray | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._write = file.write
        self._scratch = bytearray(BAND) if scratch is None else scratch
        self._progress = progress
        self.position = 0

    def room(self, size: int) -> memoryview:
        if len(self._scratch) < size:
            self._scratch.extend(bytes(size - len(self._scratch)))
        return memoryview(self._scratch)

    def take(self, size: int, rest: int) -> None:
        view = memoryview(self._scratch)
        piece = view[:size]
        while len(piece):
            written = self._write(piece)
            piece = piece[len(piece) if written is None else written :]
        if rest:
            view[:rest] = view[size : size + rest]
        self.position += size
        if self._progress is not None:
            self._progress(size)


class NullOutput:
    """Nowhere: for verification."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self._progress = progress
        self.position = 0

    def room(self, size: int) -> memoryview:
        return memoryview(b"")

    def take(self, size: int, rest: int) -> None:
        self.position += size
        if self._progress is not None:
            self._progress(size)


def stream_runs(opened: OpenContainer, sid: int) -> tuple[list[RunEntry], bytes]:
    """Return the runs and methods of a stream's payload."""
    if sid == TAGS:
        index = opened.index(TAIL)
        return index.tags_runs, index.tags_methods
    index = opened.index(sid)
    return index.runs, index.methods


def decode_stream(opened: OpenContainer, sid: int, output: Output, buffer: bytearray) -> None:
    """Decrypt one stream's payload into `output`; verifies the stream to its end.

    buffer: reused between streams, grown to what is needed. Raises DamagedError.
    """
    payload = opened.payload_size(sid)
    if payload == 0 and sid != TAGS:
        return  # reading the index has verified all of it
    verify_only = isinstance(output, NullOutput)
    runs, methods = ([], b"") if verify_only else stream_runs(opened, sid)
    stream_cipher = cipher(opened.keys.block_key(sid)) if runs else None
    opener = opened.opener(sid)
    low = fill = at = unit = number = 0
    run: Run | None = None
    while True:
        if len(buffer) < fill + PIECE:
            buffer.extend(bytes(fill + PIECE - len(buffer)))
        view = memoryview(buffer)
        made = opener.read_into(view[fill : fill + PIECE])
        if made == 0:
            break
        fill += made
        while at < payload:
            if run is None and number < len(runs) and runs[number][0] == at:
                entry = runs[number]
                units = unit_count(entry)
                rows, width, split = entry[2:] if len(entry) == 5 else (0, 0, 0)
                run = Run(
                    stream_cipher, entry[0], entry[1], rows=rows, row_bytes=width, split=split,
                    first_unit=unit, inverse=True, methods=methods[unit : unit + units],
                )  # fmt: skip
                span = 2 * width + 2 * 49152 if rows else 0
                unit += units
                number += 1
            if run is None:
                stop = min(runs[number][0] if number < len(runs) else payload, low + fill)
                if stop == at:
                    break
                size = min(stop - at, BAND)
                if not verify_only:
                    output.room(size)[:size] = view[at - low : at - low + size]
                output.take(size, 0)
                at += size
                continue
            source = view[at - low : fill]
            room = output.room(max(BAND, span))
            done = run.advance(room, at, source, at)
            rest = min(low + fill, at + len(room)) - done
            source.release()  # a buffer grows only when nobody looks at it
            room.release()
            if done == at:
                break
            if run.finished:
                run, rest = None, 0
            output.take(done - at, max(rest, 0))
            at = done
        if at == payload:
            low, fill = low + fill, 0  # the rest is the index
        elif at > low:
            used = at - low
            view[: fill - used] = view[used:fill]
            low, fill = at, fill - used
        view.release()
    if at != payload:
        raise DamagedError("a stream is shorter than its index says")


def decode(
    opened: OpenContainer, output: Output, buffer: bytearray, streams: Iterable[int] | None = None
) -> int:
    """Decrypt an object into `output`; return the payload bytes given out.

    streams: which ones, by default all of them. Raises NoIdentityError if a stream is
    outside the identity's scope, DamagedError if anything is not as it was sealed.
    """
    wanted = PARTS["all"] if streams is None else tuple(streams)
    present = [sid for sid in STREAM_ORDER if sid in opened.streams and sid in wanted]
    if streams is None:
        opened.require(present, "the whole file")
    if opened.keys.opens(opened.closing_stream):
        opened.closing_index()
    for sid in present:
        decode_stream(opened, sid, output, buffer)
    return output.position
