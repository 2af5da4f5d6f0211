"""Reading an object back right after it was written, and comparing it with its source."""

from __future__ import annotations

import os

from ..container.header import Unlocked
from ..container.reader import Container, OpenContainer
from ..errors import DamagedError
from ..keys.batch import Material
from ..regular import read_at
from .buffers import FileSource, patiently
from .decoder import FileOutput, decode
from .files import Buffers, SourceFile
from .signing import admit


class _Comparison:
    """A file to write to that compares instead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def write(self, piece: memoryview) -> int:
        at, self._at = self._at, self._at + len(piece)
        if patiently(lambda: read_at(self._descriptor, len(piece), at)) != piece:
            raise DamagedError("what was read back is not what was encrypted")
        return len(piece)


def forget_pages(path: str) -> bool:
    """Let the system drop a file's pages from its cache; whether it did, as far as it tells."""
    if not hasattr(os, "posix_fadvise"):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        room = bytearray(1)
        for at in (0, max(os.fstat(descriptor).st_size - 1, 0)):
            try:
                os.preadv(descriptor, [room], at, os.RWF_NOWAIT)
                return False  # it was there at once
            except BlockingIOError:
                continue
        return True
    except (AttributeError, OSError):
        return False
    finally:
        os.close(descriptor)


def read_back(
    part: str,
    source: SourceFile,
    material: Material,
    buffers: Buffers,
) -> str:
    """Open the object in `part`, which is on the medium, and compare it with its source.

    material: what it was made with. Returns where it was read from, "medium" or "cache".
    Raises DamagedError."""
    medium = forget_pages(part)
    file = FileSource(part, whole=True)
    try:
        if bytes(file.read_range(0, len(material.header))) != material.header:
            raise DamagedError("the header that was read back is not what was written")
        container = Container(file)
        unlocked = Unlocked(material.keys, container.slots[0], None, None)
        opened = admit(OpenContainer(container, unlocked))
        if source.link is not None:
            same = opened.closing_index().meta.link == source.link
        else:
            output = FileOutput(_Comparison(source.descriptor), buffers.scratch)
            same = decode(opened, output, buffers.window) == source.status.st_size
        if not same:
            raise DamagedError("what was read back is not what was encrypted")
    finally:
        file.close()
    return "medium" if medium else "cache"
