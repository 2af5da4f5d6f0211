"""What shows an encoder its file: memory, a stream that is read, or pieces that are given."""

from __future__ import annotations

from collections.abc import Callable

from .encoder import BAND, Encoder

#: What is read at a time: it is transformed and sealed while it is in the L2 cache.
READ = BAND


def encode_memory(encoder: Encoder, data: memoryview) -> int:
    """Drive an encoder over a file in memory; return the object's size."""
    encoder.feed(data, 0, True)
    return encoder.size


def encode_stream(
    encoder: Encoder,
    read_into: Callable[[memoryview], int | None],
    buffer: bytearray,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Drive an encoder over a stream; return (bytes read, the object's size).

    read_into: as `io.RawIOBase.readinto`, 0 at the end. buffer: reused between files, grown
    to what the encoder needs. progress: called with the number of bytes just read.
    """
    low = fill = 0
    last = False
    while not last:
        while not last and (fill == 0 or low + fill < encoder.wanted):
            target = max(encoder.wanted - low, READ)
            if len(buffer) < target + BAND:
                buffer.extend(bytes(target + BAND - len(buffer)))
            with memoryview(buffer) as view:
                got = read_into(view[fill : max(target, fill + BAND)])
            last = not got
            fill += got or 0
            if got and progress is not None:
                progress(got)
        with memoryview(buffer) as view:
            keep = encoder.feed(view[:fill], low, last)
            if keep > low:
                used = keep - low
                if used < fill:
                    view[: fill - used] = view[used:fill]
                low, fill = keep, fill - used
    return low + fill, encoder.size


class PushDriver:
    """Drives an encoder with pieces as they come; memory is bounded by what it wants."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._buffer = bytearray()
        self._low = 0

    def write(self, piece: memoryview) -> None:
        self._buffer += piece
        end = self._low + len(self._buffer)
        if end >= self._encoder.wanted and len(self._buffer) >= BAND:
            self._feed(last=False)

    def finish(self) -> int:
        """Say that the file ends; return the object's size."""
        self._feed(last=True)
        return self._encoder.size

    def _feed(self, *, last: bool) -> None:
        with memoryview(self._buffer) as window:
            keep = self._encoder.feed(window, self._low, last)
        del self._buffer[: keep - self._low]
        self._low = keep
