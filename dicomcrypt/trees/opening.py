"""Objects of a tree, opened some at a time; small ones decrypted in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..container.header import BatchKeyCache
from ..container.index import Index, Meta
from ..container.layout import looks_like_object
from ..container.reader import Container, OpenContainer
from ..container.stanza import Identity
from ..container.streams import OpenSource
from ..errors import DamagedError, DicomcryptError
from ..objects.atomic import AtomicFile
from ..objects.buffers import FileSource, write_all
from ..objects.decoder import MemoryOutput, decode
from ..objects.files import SUFFIX, Buffers, Progress, object_meta, open_into
from ..objects.signing import NO_DEMANDS, SignaturePolicy, unlock

#: So many objects are opened in a row, and those of at most so many bytes decrypted.
MOST, SMALL = 32, 64 << 10


class Opened:
    """An object whose header and closing index are open; close it."""

    __slots__ = ("_plain", "container", "file", "index", "meta")

    def __init__(
        self, file: OpenSource, container: OpenContainer, index: Index | None, meta: Meta
    ) -> None:
        self.file, self.container, self.index, self.meta = file, container, index, meta
        self._plain: bytearray | None = None

    def decrypt(self, buffer: bytearray) -> None:
        """Decrypt all of it into memory, if that is what it is good for."""
        index, size = self.index, self.file.size()
        if index is None or index.size is None or index.meta.link is not None:
            return
        if index.size <= size <= SMALL:
            plain = bytearray(index.size)
            if decode(self.container, MemoryOutput(memoryview(plain)), buffer) == len(plain):
                self._plain = plain

    def write(
        self, out: AtomicFile, streams: Iterable[int] | None, buffers: Buffers, progress: Progress
    ) -> int:
        """Write the plaintext of some streams, None for all, into an open output; return its
        bytes."""
        if streams is not None or self._plain is None:
            return open_into(self.container, out, streams, buffers, progress)
        write_all(out.raw, memoryview(self._plain))
        progress(len(self._plain))
        return len(self._plain)

    def close(self) -> None:
        self.file.close()


class Opener:
    """Opens the objects of a worker's tasks, some of them in a row.

    Between two objects their data drive the code and tables for this out of the processor's
    caches: opened one by one, each would cost nearly twice as much. decrypt: small ones are
    decrypted, too."""

    def __init__(
        self, root: bytes, identities: Sequence[Identity], policy: SignaturePolicy = NO_DEMANDS, *,
        decrypt: bool = False,
    ) -> None:
        self._root, self._identities, self._policy = root, identities, policy
        self._decrypt, self._buffer = decrypt, bytearray()
        self._cache = BatchKeyCache()
        self._tasks: list[Any] = []
        self._ready: dict[bytes, Opened | Exception | None] = {}

    def __del__(self) -> None:
        self.begin([])

    def begin(self, tasks: list[Any]) -> None:
        """Say which tasks come next."""
        for found in self._ready.values():
            if isinstance(found, Opened):
                found.close()
        self._ready.clear()
        self._tasks = tasks[::-1]

    def take(self, entry: Any) -> Opened | None:
        """Return a file's object; None if it is none.

        Raises DamagedError, NoIdentityError, OSError."""
        if entry.relative not in self._ready:
            while self._tasks and len(self._ready) < MOST:
                task = self._tasks.pop()
                if task.kind == "file":
                    self._open(task)
            if self._decrypt:
                self._decrypt_all()
            if entry.relative not in self._ready:
                self._open(entry)
        found = self._ready.pop(entry.relative)
        if isinstance(found, Exception):
            raise found
        return found

    def _decrypt_all(self) -> None:
        for found in self._ready.values():
            if isinstance(found, Opened):
                # What is wrong with it will be said again when it is written.
                with contextlib.suppress(DicomcryptError, OSError):
                    found.decrypt(self._buffer)

    def _open(self, task: Any) -> None:
        try:
            self._ready[task.relative] = self._opened(task)
        except Exception as error:  # told when its turn comes
            self._ready[task.relative] = error

    # Subclasses may have tasks of their own.

    def place(self, task: Any) -> bytes:
        """Where a task's object lies."""
        return os.path.join(self._root, task.relative)

    def source(self, task: Any) -> OpenSource:
        """Open a task's object, unread."""
        return FileSource(self.place(task), whole=True)

    def check(self, task: Any, container: Container) -> None:
        """Look at an object before it is opened; raises what is wrong with it."""

    def _opened(self, task: Any) -> Opened | None:
        file = self.source(task)
        try:
            if not looks_like_object(file.read_range(0, min(8, file.size()))):
                if self.place(task).endswith(SUFFIX.encode()):
                    raise DamagedError("not a DCMX object: damaged or forged")
                file.close()
                return None
            closed = Container(file)
            self.check(task, closed)
            container = unlock(closed, self._identities, self._cache, self._policy)
            return Opened(file, container, *object_meta(container))
        except BaseException:
            file.close()
            raise
