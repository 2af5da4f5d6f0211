"""Where objects are read from and written to: memory and files, without copies of payload."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from ..errors import DamagedError, UsageError
from ..regular import open_regular

if TYPE_CHECKING:
    from typing_extensions import Buffer

    T = TypeVar("T")

#: How much a sink collects: an object of a CT image, to be written in one piece.
FLUSH = 640 * 1024
#: What is read at a time of a file's two ends, where header, tags, trailer and index stand.
EDGE = 32 * 1024


def patiently(read: Callable[[], T]) -> T:
    """Return read(), tried again a few times if the medium fails (EIO)."""
    for pause in (0.05, 0.2, 0.8):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            time.sleep(pause)
    return read()


def byte_view(data: Buffer) -> memoryview:
    """Return a flat view of any contiguous buffer; UsageError for anything else."""
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise UsageError("the data must be a contiguous buffer of bytes") from None


class Writable(Protocol):
    """Where bytes are written: a file, or anything else with `write`."""

    def write(self, data: Any, /) -> int | None:
        """Take a contiguous buffer, or its beginning; return how many bytes those are. None: a
        raw file took nothing, everything else took all."""


class MemorySink:
    """A caller's writable buffer, filled from its start."""

    def __init__(self, out: Buffer) -> None:
        self._out = byte_view(out)
        if self._out.readonly:
            raise UsageError("the output buffer is read-only")
        self._size = len(self._out)
        self.position = 0

    def reserve(self, size: int) -> memoryview:
        end = self.position + size
        if end > self._size:
            raise UsageError(
                f"the output buffer is too small: {self._size} bytes; see encrypted_size()"
            )
        return self._out[self.position : end]

    def commit(self, size: int) -> None:
        self.position += size

    def wipe(self) -> None:
        """Zero what was written, after a failure."""
        self._out[: self.position] = bytes(self.position)


class GrowingSink:
    """A bytearray that grows as needed. size: what will probably be enough."""

    def __init__(self, size: int = FLUSH) -> None:
        self._buffer = bytearray(size)
        self.position = 0

    def reserve(self, size: int) -> memoryview:
        end = self.position + size
        if end > len(self._buffer):
            grown = bytearray(max(end, 2 * len(self._buffer)))
            grown[: self.position] = memoryview(self._buffer)[: self.position]
            self._buffer = grown
        return memoryview(self._buffer)[self.position : end]

    def commit(self, size: int) -> None:
        self.position += size

    def view(self) -> memoryview:
        return memoryview(self._buffer)[: self.position]

    def value(self) -> bytes:
        return bytes(self.view())


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of it into a file that may take a part at a time."""
    while len(data):
        data = data[file.write(data) :]


class FileSink:
    """Anything with `write(buffer)`, through one reused buffer.

    buffer: a bytearray to reuse between files, grown as needed.
    """

    def __init__(self, file: Writable, buffer: bytearray | None = None) -> None:
        self._write = file.write
        self._raw = isinstance(file, io.RawIOBase)  # whose None says that nothing was written
        # Others may keep what they are given, as the uploads of obstore do.
        self._lend = isinstance(file, io.IOBase)
        self._buffer = bytearray(FLUSH) if buffer is None else buffer
        self._view = memoryview(self._buffer)
        self._fill = 0
        self.position = 0

    def reserve(self, size: int) -> memoryview:
        if self._fill + size > len(self._buffer):
            self.flush()
            if size > len(self._buffer):
                self._view.release()
                self._buffer.extend(bytes(size - len(self._buffer)))
                self._view = memoryview(self._buffer)
        return self._view[self._fill : self._fill + size]

    def commit(self, size: int) -> None:
        self._fill += size
        self.position += size

    def flush(self) -> None:
        view = self._view[: self._fill]
        while len(view):
            written = self._write(view if self._lend else bytes(view))
            if written is None and not self._raw:
                break
            if not written:
                raise BlockingIOError(errno.EAGAIN, "the sink takes nothing")
            if not 0 < written <= len(view):
                raise OSError(errno.EIO, "the sink is wrong about what it took")
            view = view[written:]
        self._fill = 0


class MemorySource:
    """An object in memory."""

    def __init__(self, data: Buffer) -> None:
        self._data = byte_view(data)

    def size(self) -> int:
        return len(self._data)

    def read_range(self, offset: int, length: int) -> memoryview:
        piece = self._data[offset : offset + length]
        if offset < 0 or len(piece) != length:
            raise DamagedError("the object is cut off")
        return piece

    def close(self) -> None:
        """Nothing to close."""


class FileSource:
    """An object in a file, read by position; several threads may share it.

    whole: all of it will be read, so its two ends are read at once, as they are when they are
    first asked for. `bytes_read` counts what was read, for those who pay by the byte. path: or the
    descriptor of an open file, which is closed with this.
    """

    def __init__(self, path: str | bytes | os.PathLike[str] | int, *, whole: bool = False) -> None:
        self._descriptor = path if isinstance(path, int) else open_regular(path)
        self._size = os.fstat(self._descriptor).st_size
        self._edge = EDGE if whole else 0
        self.bytes_read = 0
        self._ends: dict[int, bytes] = {}

    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, length: int) -> bytes:
        end = offset + length
        if offset < 0 or length < 0 or end > self._size:
            raise DamagedError("the object is cut off")
        edge = self._edge
        high = self._size - edge
        if end <= edge or high <= edge:  # a small file is one end
            start, size = 0, self._size if high <= edge else edge
        elif offset >= high and edge:
            start, size = high, edge
        else:
            return self._read(offset, length)
        kept = self._ends.get(start)
        if kept is None:
            try:
                kept = self._ends[start] = self._read(start, size)
            except (OSError, DamagedError):  # a bad sector elsewhere must not hide this range
                return self._read(offset, length)
        return kept[offset - start : end - start]

    def fileno(self) -> int:
        return self._descriptor

    def _read(self, offset: int, length: int) -> bytes:
        data = self._read_some(offset, length)
        while len(data) < length:
            more = self._read_some(offset + len(data), length - len(data))
            if not more:
                raise DamagedError("the object is cut off")
            data += more
        self.bytes_read += length
        return data

    def _read_some(self, offset: int, length: int) -> bytes:
        return patiently(lambda: os.pread(self._descriptor, length, offset))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StreamSource:
    """An object in a seekable file object that somebody else opened."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._lock = threading.Lock()

    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(length)
            while len(data) < length:
                more = self._file.read(length - len(data))
                if not more:
                    raise DamagedError("the object is cut off")
                data += more
        return data

    def close(self) -> None:
        """The file belongs to the caller."""
