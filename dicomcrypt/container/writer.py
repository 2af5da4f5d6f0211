"""Putting an object together: header, streams in order, signatures, trailer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .layout import SIGNATURE_STREAMS, TRAILER_SIZE, pack_trailer
from .schedule import KeySchedule
from .streams import Sink, StreamSealer, put

if TYPE_CHECKING:
    from .signature import LeafSink


class ContainerWriter:
    """Writes one object into a sink, in one pass.

    sign: makes the CMS of a manifest; None for an object without signatures."""

    def __init__(
        self, sink: Sink, keys: KeySchedule, header: bytes,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:  # fmt: skip
        self._sink = sink
        self._start = sink.position
        self.keys = keys
        self.streams: dict[int, tuple[int, int]] = {}  # stream id: offset, length
        self._sign = sign
        self._leaves: dict[int, bytes] = {}
        self._hashing: LeafSink | None = None  # what hashes the current stream, if it is signed
        put(sink, header)

    def begin(self, sid: int) -> StreamSealer:
        """Begin a stream; streams come in the order of the specification."""
        if self._sign is None:
            return StreamSealer(sid, self.keys, self._sink)
        from .signature import LeafSink

        self._hashing = LeafSink(self._sink)
        return StreamSealer(sid, self.keys, self._hashing)

    def end(self, sid: int, sealer: StreamSealer) -> None:
        offset, length = sealer.finish()
        self.streams[sid] = (offset - self._start, length)
        if self._hashing is not None:
            self._leaves[sid] = self._hashing.leaves()

    def close(self) -> int:
        """Write signatures and trailer; return the object's size in bytes."""
        signatures = None if self._sign is None else self._write_signatures(self._sign)
        total = self._sink.position - self._start + TRAILER_SIZE
        put(self._sink, pack_trailer(self.streams, total, signatures))
        return total

    def _write_signatures(self, sign: Callable[[bytes], bytes]) -> tuple[int, int]:
        from .signature import build_manifest

        manifest = build_manifest(self.keys.core, self.streams, self._leaves)
        ordered = [manifest.leaves[sid] for sid in sorted(manifest.leaves)]
        plain = b"".join([manifest.data, *ordered, sign(manifest.data)])
        begin = self._sink.position
        for sid in SIGNATURE_STREAMS:
            sealer = StreamSealer(sid, self.keys, self._sink)
            sealer.write(plain)
            sealer.finish()
        return begin - self._start, self._sink.position - begin
