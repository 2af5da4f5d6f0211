"""Files of a tree, opened to be sealed; small ones sealed in memory, some at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..keys.batch import Envelope, Material
from ..objects.atomic import AtomicFile
from ..objects.buffers import GrowingSink, write_all
from ..objects.drivers import encode_memory
from ..objects.encoder import Encoder
from ..objects.files import Buffers, Progress, SourceFile, scope_check, seal_file
from .walk import Entry

if TYPE_CHECKING:
    from ..keys.signing import Signer

#: So many files of at most so many bytes are sealed in a row: what is done with them then stays
#: in the processor's caches, data and code.
MOST, SMALL = 32, 64 << 10


class Sealing:
    """A file that is open, and its object if that was made ahead; a context manager."""

    __slots__ = ("_data", "_job", "_name", "_sealed", "material", "source")

    def __init__(self, job: Sealer, source: SourceFile, name: bytes | None) -> None:
        self._job, self._name, self.source = job, name, source
        self._data: memoryview | None = None
        self._sealed: memoryview | None = None
        self.material: Material | None = None

    def __enter__(self) -> Sealing:
        return self

    def __exit__(self, *exc: object) -> None:
        self.source.close()

    def read(self) -> None:
        """Read the file into memory. Raises SourceChangedError, OSError."""
        source = self.source
        read, data, fill = source.reader(), memoryview(bytearray(source.status.st_size or 1)), 0
        while fill < len(data) and (got := read(data[fill:])):
            fill += got
        source.check_unchanged(fill)
        self._data = data[:fill]

    @property
    def data(self) -> memoryview | None:
        """What was read, until it is sealed."""
        return self._data

    def draw_keys(self) -> None:
        """Take the keys and the header of a new object."""
        self.material = self._job.material_for(self)

    def keys(self) -> Material:
        """What was drawn. Raises UsageError if nothing was: no object is made of this file."""
        if self.material is None:
            raise UsageError(f"{self.source.shown!r} has no keys to be encrypted with")
        return self.material

    def seal(self) -> None:
        """Make the object of what was read, if it was."""
        job, data = self._job, self._data
        if data is None:
            return
        material = self.keys()
        sink = GrowingSink(len(material.header) + 2 * len(data) + 4096)
        encoder = Encoder(
            sink, material, job.method, meta=self.source.meta(self._name),
            opaque_allowed=job.scope_check(self.source), scratch=job.buffers.scratch,
            sign=None if job.signer is None else job.signer.sign,
        )  # fmt: skip
        encode_memory(encoder, data)
        self._sealed, self._data = sink.view(), None

    def write(self, out: AtomicFile) -> tuple[int, int]:
        """Write the object into an open output; return (bytes read, bytes written)."""
        job = self._job
        if self._sealed is None:
            return seal_file(
                self.source, out, self.keys(), job.method, name=self._name,
                opaque_allowed=job.scope_check(self.source), buffers=job.buffers,
                progress=job.tell, signer=job.signer,
            )  # fmt: skip
        write_all(out.raw, self._sealed)
        read = self.source.status.st_size
        job.tell(read)
        return read, len(self._sealed)


class Sealer:
    """Opens the files of a worker's tasks, and makes the objects of small ones ahead.

    stored_name: the name that an object keeps, None where its own tells it. signer: who signs every
    object. tell: is told of bytes read."""

    def __init__(
        self, root: bytes, envelope: Envelope, method: int | None, *,
        stored_name: Callable[[bytes], bytes | None], force_scopes: bool,
        signer: Signer | None, ahead: bool, tell: Progress,
    ) -> None:  # fmt: skip
        self._root, self._envelope, self._force_scopes = root, envelope, force_scopes
        self._stored_name, self._ahead = stored_name, ahead
        self.method, self.signer, self.tell = method, signer, tell
        self.materials, self.buffers = envelope.supply(), Buffers()
        self._tasks: list[Entry] = []
        self._ready: dict[bytes, Sealing | Exception] = {}

    def __del__(self) -> None:
        self.begin([])

    def begin(self, tasks: list[Entry]) -> None:
        """Say which tasks come next."""
        for found in self._ready.values():
            if isinstance(found, Sealing):
                found.source.close()
        self._ready.clear()
        self._tasks = tasks[::-1]

    def prepare(self, files: list[Sealing]) -> None:
        """These files need keys next."""

    def material_for(self, sealing: Sealing) -> Material:
        """The keys and the header of a file's object."""
        return next(self.materials)

    def scope_check(self, source: SourceFile) -> Callable[[], None] | None:
        return scope_check(self._envelope, self._force_scopes, repr(source.shown))

    def take(self, entry: Entry, *, link: bool) -> Sealing:
        """Open a file, or a symbolic link itself.

        Raises AlreadyEncryptedError, UsageError, SourceChangedError, OSError."""
        if self._is_small(entry) and entry.relative not in self._ready:
            self._make_ahead()
        found = self._ready.pop(entry.relative, None)
        if found is None:
            found = self._open(entry, link=link)
            try:
                found.draw_keys()
            except BaseException:
                found.source.close()
                raise
        elif isinstance(found, Exception):
            raise found
        return found

    def _make_ahead(self) -> None:
        """Do one step for all, then the next one."""
        ready = self._ready
        while self._tasks and len(ready) < MOST:
            task = self._tasks.pop()
            if self._is_small(task):
                try:
                    ready[task.relative] = found = self._open(task)
                    if found.source.status.st_size <= SMALL:  # it may have grown
                        found.read()
                except Exception as error:  # told when its turn comes
                    self._failed(task.relative, error)
        try:
            self.prepare([found for found in ready.values() if isinstance(found, Sealing)])
        except Exception as error:
            for relative in list(ready):
                self._failed(relative, error)
        for relative, made in ready.items():
            if isinstance(made, Sealing):
                try:
                    made.draw_keys()
                    made.seal()
                except Exception as error:
                    self._failed(relative, error)

    def _failed(self, relative: bytes, error: Exception) -> None:
        before = self._ready.get(relative)
        if isinstance(before, Sealing):
            before.source.close()
        self._ready[relative] = error

    def _is_small(self, entry: Entry) -> bool:
        return (
            self._ahead and entry.kind == "file" and entry.size <= SMALL and entry.before is None
        )

    def _open(self, entry: Entry, *, link: bool = False) -> Sealing:
        source = SourceFile(os.path.join(self._root, entry.relative), link=link)
        return self.made_of(source, self._stored_name(entry.relative))

    def made_of(self, source: SourceFile, name: bytes | None) -> Sealing:
        """A file that is open."""
        return Sealing(self, source, name)
