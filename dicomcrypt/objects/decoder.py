"""An object's streams back into the file, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..ciphers.transform import Run, StreamCipher, cipher, inverse_run, unit_count
from ..container.index import Run as RunEntry
from ..container.layout import STREAM_ORDER, TAGS, TAIL
from ..container.reader import OpenContainer, room_in
from ..container.streams import PIECE, StreamOpener
from ..errors import DamagedError

if TYPE_CHECKING:
    from .buffers import Writable

BAND = 128 * 1024
#: Part names of the command line, and the streams they stand for.
PARTS = {"all": (1, 2, 4, 3), "tags": (1, 3), "pixels": (2,)}


class Output(Protocol):
    """Where plaintext goes: room for what comes next, and how much of it is done."""

    @property
    def position(self) -> int:
        """Bytes that are done."""

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
        file: Writable,
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


def stream_runs(opened: OpenContainer, sid: int) -> tuple[Sequence[RunEntry], bytes]:
    """Return the runs and methods of a stream's payload."""
    if sid == TAGS:
        index = opened.index(TAIL)
        return index.tags_runs, index.tags_methods
    index = opened.index(sid)
    return index.runs, index.methods


class _Payload:
    """A stream's payload on its way out: the block layer inverted, run by run."""

    def __init__(self, opened: OpenContainer, sid: int, output: Output) -> None:
        self._output = output
        self.size = opened.payload_size(sid)
        self.at = 0
        self._verify_only = isinstance(output, NullOutput)
        self._runs, self._methods = ([], b"") if self._verify_only else stream_runs(opened, sid)
        self._keys, self._sid = opened.keys, sid
        self._cipher: StreamCipher | None = None
        self._number = self._unit = 0
        self._run: Run | None = None
        self._room = BAND

    def _begin(self, entry: RunEntry) -> None:
        if self._cipher is None:
            self._cipher = cipher(self._keys.block_key(self._sid))
        units = unit_count(entry)
        methods = self._methods[self._unit : self._unit + units]
        self._run = inverse_run(self._cipher, entry, self._unit, methods, entry[0], entry[1])
        self._room = max(BAND, 2 * entry[3] + 2 * 49152) if len(entry) == 5 else BAND
        self._unit += units
        self._number += 1

    def take(self, plain: memoryview, low: int) -> None:
        """Give out as much as `plain`, the stream's plaintext from `low` on, allows."""
        output, fill = self._output, len(plain)
        while self.at < self.size:
            at = self.at
            more = self._number < len(self._runs)
            if self._run is None and more and self._runs[self._number][0] == at:
                self._begin(self._runs[self._number])
            if self._run is None:
                stop = min(self._runs[self._number][0] if more else self.size, low + fill)
                if stop == at:
                    return
                size = stop - at if self._verify_only else min(stop - at, BAND)
                if not self._verify_only:
                    output.room(size)[:size] = plain[at - low : at - low + size]
                output.take(size, 0)
                self.at += size
                continue
            room = output.room(self._room)
            done = self._run.advance(room, at, plain[at - low :], at)
            rest = min(low + fill, at + len(room)) - done
            room.release()  # a buffer grows only when nobody looks at it
            if done == at:
                return
            if self._run.finished:
                self._run, rest = None, 0
            output.take(done - at, max(rest, 0))
            self.at = done


def decode_stream(opened: OpenContainer, sid: int, output: Output, buffer: bytearray) -> None:
    """Decrypt one stream's payload into `output`; verifies the stream to its end.

    buffer: reused between streams, grown to what is needed. Raises DamagedError.
    """
    plain = opened.whole(sid, buffer)
    payload = _Payload(opened, sid, output)
    if plain is not None:
        with plain:
            payload.take(plain, 0)
    else:
        _in_pieces(opened.opener(sid), payload, buffer)
    if payload.at != payload.size:
        raise DamagedError("a stream is shorter than its index says")


def _in_pieces(opener: StreamOpener, payload: _Payload, buffer: bytearray) -> None:
    low = fill = 0
    while True:
        with room_in(buffer, fill + PIECE) as view:
            with view[fill:] as room:  # released whatever happens: the buffer must stay resizable
                made = opener.read_into(room)
            if made == 0:
                return
            fill += made
            payload.take(view[:fill], low)
            if payload.at == payload.size:
                low, fill = low + fill, 0  # the rest is the index
            elif payload.at > low:
                used = payload.at - low
                view[: fill - used] = view[used:fill]
                low, fill = payload.at, fill - used


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
    opened.check_signatures()
    for sid in present:
        decode_stream(opened, sid, output, buffer)
    return output.position
