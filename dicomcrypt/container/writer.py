"""Putting an object together: header, streams in order, trailer."""

from __future__ import annotations

from .layout import TRAILER_SIZE, pack_trailer
from .schedule import KeySchedule
from .streams import Sink, StreamSealer, put


class ContainerWriter:
    """Writes one object into a sink, in one pass."""

    def __init__(self, sink: Sink, keys: KeySchedule, header: bytes) -> None:
        self._sink = sink
        self._start = sink.position
        self.keys = keys
        self.streams = {}  # stream id: offset, length
        put(sink, header)

    def begin(self, sid: int) -> StreamSealer:
        """Begin a stream; streams come in the order of the specification."""
        return StreamSealer(sid, self.keys, self._sink)

    def end(self, sid: int, sealer: StreamSealer) -> None:
        offset, length = sealer.finish()
        self.streams[sid] = (offset - self._start, length)

    def close(self) -> int:
        """Write the trailer; return the object's size in bytes."""
        total = self._sink.position - self._start + TRAILER_SIZE
        put(self._sink, pack_trailer(self.streams, total))
        return total
