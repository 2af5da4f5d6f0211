"""Objects of a tree, opened some at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..container.header import BatchKeyCache
from ..container.index import Index, Meta
from ..container.layout import looks_like_object
from ..container.reader import Container, OpenContainer
from ..container.stanza import Identity
from ..errors import DamagedError
from ..objects.buffers import FileSource
from ..objects.files import SUFFIX, object_meta
from ..objects.signing import NO_DEMANDS, SignaturePolicy, unlock
from .walk import Entry

MOST = 32


class Opened:
    """An object whose header and closing index are open; close it."""

    __slots__ = ("container", "file", "index", "meta")

    def __init__(
        self, file: FileSource, container: OpenContainer, index: Index | None, meta: Meta
    ) -> None:
        self.file, self.container, self.index, self.meta = file, container, index, meta

    def close(self) -> None:
        self.file.close()


class Opener:
    """Opens the objects of a worker's tasks, some of them in a row.

    Between two objects their data drive the code and tables for this out of the processor's
    caches: opened one by one, each would cost nearly twice as much."""

    def __init__(
        self, root: bytes, identities: Sequence[Identity], policy: SignaturePolicy = NO_DEMANDS
    ) -> None:
        self._root, self._identities, self._policy = root, identities, policy
        self._cache = BatchKeyCache()
        self._tasks: list[Entry] = []
        self._ready: dict[bytes, Opened | Exception | None] = {}

    def __del__(self) -> None:
        self.begin([])

    def begin(self, tasks: list[Entry]) -> None:
        """Say which tasks come next."""
        for found in self._ready.values():
            if isinstance(found, Opened):
                found.close()
        self._ready.clear()
        self._tasks = tasks[::-1]

    def take(self, entry: Entry) -> Opened | None:
        """Return a file's object; None if it is none.

        Raises DamagedError, NoIdentityError, OSError."""
        if entry.relative not in self._ready:
            while self._tasks and len(self._ready) < MOST:
                task = self._tasks.pop()
                if task.kind == "file":
                    self._open(task)
            if entry.relative not in self._ready:
                self._open(entry)
        found = self._ready.pop(entry.relative)
        if isinstance(found, Exception):
            raise found
        return found

    def _open(self, task: Entry) -> None:
        try:
            self._ready[task.relative] = self._opened(task.relative)
        except Exception as error:  # told when its turn comes
            self._ready[task.relative] = error

    def _opened(self, relative: bytes) -> Opened | None:
        file = FileSource(os.path.join(self._root, relative), whole=True)
        try:
            if not looks_like_object(file.read_range(0, min(8, file.size()))):
                if relative.endswith(SUFFIX.encode()):
                    raise DamagedError("not a DCMX object: damaged or forged")
                file.close()
                return None
            container = unlock(Container(file), self._identities, self._cache, self._policy)
            return Opened(file, container, *object_meta(container))
        except BaseException:
            file.close()
            raise
