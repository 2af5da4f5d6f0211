"""Objects that are far away, where a request costs more than the bytes it brings.

A source has `size() -> int` and `read_range(offset, length)`, which returns exactly these
bytes in any buffer and may be called by several threads at once.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from ..container.layout import TRAILER_SIZE
from ..container.streams import HEADER, Source
from ..errors import DamagedError, MissingExtraError
from .buffers import FileSource, MemorySource, StreamSource

if TYPE_CHECKING:
    from typing_extensions import TypeIs

#: How much of either end is read at once: header, tags and trailer of most objects, and the
#: indexes of up to some two thousand compressed frames.
END = 64 * 1024
#: Tags longer than END are read along up to here, for the key of the pixel data behind them.
MAX_HEAD = 1 << 20


class CachedEnds:
    """Reads both ends of an object at first and answers from them what lies inside.

    So an object costs two requests to open, and each of its frames one. What else is asked for
    goes to the source as it is. Raises DamagedError if the source gives another
    number of bytes than was asked for.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._size = source.size()
        if self._size <= 2 * END:
            self._kept = [(0, self._fetch(0, self._size))]
            return
        tail = self._fetch(self._size - END, END)
        # A hint only: what the trailer says is checked by those who open the object.
        (pixels,) = struct.unpack_from("<Q", tail, END - TRAILER_SIZE + 16)
        head = pixels + HEADER
        head = min(head, self._size) if END < head <= MAX_HEAD else END
        self._kept = [(0, self._fetch(0, head)), (self._size - END, tail)]

    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, length: int) -> memoryview:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DamagedError("the object is cut off")
        for start, kept in self._kept:
            if start <= offset and offset + length <= start + len(kept):
                return kept[offset - start : offset - start + length]
        return self._fetch(offset, length)

    def _fetch(self, offset: int, length: int) -> memoryview:
        if length == 0:
            return memoryview(b"")
        data = memoryview(self._source.read_range(offset, length)).cast("B")
        if len(data) != length:
            raise DamagedError("the object is cut off, or its source is wrong about its size")
        return data


class ObstoreSource:
    """An object in a store of obstore: S3, Google Cloud Storage, Azure, HTTP, local, memory.

    store: an `obstore.store`; path: the object's name in it. One request tells the size
    and brings the object's end. Errors are those of obstore (FileNotFoundError, ...).
    Raises MissingExtraError without obstore.
    """

    def __init__(self, store: Any, path: str) -> None:
        try:
            import obstore
        except ImportError:
            raise MissingExtraError(
                "obstore is missing: pip install 'dicomcrypt[obstore]'"
            ) from None
        self._get_range, self._store, self._path = obstore.get_range, store, path
        self._tail = memoryview(b"")
        try:
            answer = obstore.get(store, path, options={"range": {"suffix": END}})
        except obstore.exceptions.NotSupportedError:  # Azure has no ranges that count from the end
            self._size = obstore.head(store, path)["size"]
        else:
            self._size = answer.meta["size"]
            self._tail = memoryview(answer.bytes())

    def size(self) -> int:
        """Return the object's size in bytes."""
        return self._size

    def read_range(self, offset: int, length: int) -> memoryview:
        """Return these bytes, by one request, or by none if they came with the object's end."""
        start = self._size - len(self._tail)
        if start <= offset:
            return self._tail[offset - start : offset - start + length]
        return memoryview(
            self._get_range(self._store, self._path, start=offset, length=length)
        )


def _is_source(source: object) -> TypeIs[Source]:
    return hasattr(source, "read_range")


def _has_descriptor(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except (AttributeError, OSError):
        return False


def source_of(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | Source | BinaryIO,
) -> tuple[Source, Callable[[], None] | None]:
    """Return the source of whatever `dicomcrypt.open` takes, and what closes it, if it was opened
    here."""
    if isinstance(source, str | os.PathLike):
        file = FileSource(source)
        return file, file.close
    if isinstance(source, bytes | bytearray | memoryview):
        return MemorySource(source), None
    if _is_source(source):
        return CachedEnds(source), None
    stream = StreamSource(source)
    return (stream if _has_descriptor(source) else CachedEnds(stream)), None
