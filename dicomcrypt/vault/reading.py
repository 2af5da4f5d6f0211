"""Objects out of a vault: which ones, and how a worker opens each (docs/spec/vault-v1.md, 7)."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..container.reader import Container
from ..container.stanza import Identity
from ..errors import DamagedError, MissingBlobError, UsageError
from ..objects.buffers import FileSource
from ..trees.opening import Opened, Opener
from ..trees.pool import Outcome
from .query import Query
from .rows import Row
from .stanza import StanzaKeys, VaultIdentity
from .store import BlobSource, Store, open_blob
from .vault import OBJECTS, Vault, object_name

if TYPE_CHECKING:
    from ..trees.journal import Before


class Wanted(NamedTuple):
    """An object as a task: first what an Entry has, then what its row says of it.

    relative: the path that is restored, or the object's name below `objects`."""

    relative: bytes
    kind: str
    size: int
    mtime_ns: int
    object_id: bytes
    core_digest: bytes | None
    generation: int
    hard_links: int = 1
    error: str = ""
    before: Before | None = None

    @property
    def seen(self) -> tuple[int, int]:
        """Size and time, as of `Outcome`."""
        return self.size, self.mtime_ns

    def taken_up(self, target: bytes, done: str) -> Outcome | None:
        """What became of it in an earlier run, of which the journal tells: its output has its
        name, then `done` says so, or is whole; None if it is to be done."""
        if self.before is None:
            return None
        part = os.path.join(os.path.dirname(target), self.before.part.encode())
        shown = os.fsdecode(self.relative)
        if os.path.lexists(part):
            return Outcome(shown, "done", os.fsdecode(target), self.size, os.path.getsize(part),
                           part=os.fsdecode(part), relative=self.relative, seen=self.seen)
        if os.path.lexists(target):
            return Outcome(shown, "skipped", message=done)
        return None


def wanted(row: Row, relative: bytes) -> Wanted:
    return Wanted(relative, "file", row.object_size or 0, row.mtime_ns or 0, row.object_id or b"",
                  row.core_digest, row.generation or 0)


def blob_path(object_id: bytes) -> bytes:
    """Where an object lies below the folder `objects`."""
    return object_name(object_id).removeprefix(f"{OBJECTS}/").encode()


def select(
    vault: Vault, query: dict[str, Any] | None = None, *, objects: Sequence[bytes] = (),
) -> Iterator[Row]:
    """Yield the rows of what a query names (nothing in it is a wildcard), or of these objects.

    Raises UsageError for an object that the catalogue has not."""
    for object_id in objects:
        found = vault.catalogue.object(object_id)
        if not found:
            raise UsageError(f"the vault has no object {object_id.hex()}: `vault find` shows "
                             "their ids")
        yield from (row for _, row in found)
    if query or not objects:
        for _, row in vault.catalogue.rows(query=Query(query or {}, exact=True)):
            yield row


class Listed:
    """Tasks that are known beforehand (`trees.walk.Listing`)."""

    finished = True

    def __init__(self, tasks: Sequence[Wanted]) -> None:
        self._tasks = tasks
        self.files, self.bytes = len(tasks), sum(task.size for task in tasks)
        self.through, self.current = 0, b""

    def step(self) -> None:
        """Everything is known."""

    def __iter__(self) -> Iterator[Wanted]:
        return iter(self._tasks)


def each_object(rows: Iterable[Row]) -> list[Wanted]:
    """One task an object, however many paths it has."""
    found = {row.object_id: row for row in rows}
    return [wanted(row, blob_path(row.object_id or b"")) for row in found.values()]


def check_object(container: Container, task: Wanted) -> None:
    """Refuse an object that is another than its row's, or whose header is older (7).

    Raises DamagedError."""
    core = container.prefix.core
    digest = hashlib.sha256(core).digest()[:16]
    if container.prefix.object_id != task.object_id or (
        task.core_digest is not None and not hmac.compare_digest(digest, task.core_digest)
    ):
        raise DamagedError("another object stands in this one's place")
    if container.slots[0].generation < task.generation:
        raise DamagedError("the object's header was put back to an older one")


def open_object(store: Store, object_id: bytes) -> FileSource | BlobSource:
    """Open an object; close it. Raises MissingBlobError, which says what to do."""
    try:
        return open_blob(store, object_name(object_id))
    except MissingBlobError as error:
        raise MissingBlobError(f"{error}: bring it back from a backup, or let `vault repair "
                               "--drop-missing` forget it") from None


class VaultOpener(Opener):
    """Opens the objects of a worker's tasks, out of a store."""

    def __init__(self, store: Store, identities: Sequence[Identity], *, decrypt: bool = False
                 ) -> None:  # fmt: skip
        super().__init__(b"", identities, decrypt=decrypt)
        self._store = store

    def take(self, task: Wanted) -> Opened:
        """Return a task's object. Raises DamagedError, NoIdentityError, OSError."""
        found = super().take(task)
        if found is None:
            raise DamagedError("not a DCMX object: damaged or forged")
        return found

    def place(self, task: Wanted) -> bytes:
        return object_name(task.object_id).encode()

    def source(self, task: Wanted) -> FileSource | BlobSource:
        return open_object(self._store, task.object_id)

    def check(self, task: Wanted, container: Container) -> None:
        check_object(container, task)


Ask = Callable[[bytes], bytes | None]


def worker_identity(keys: StanzaKeys, ask: Ask) -> VaultIdentity:
    """Return a worker's identity: record keys come from the job's process, each once."""
    known: dict[bytes, bytes | None] = {}

    def record_key(key_id: bytes) -> bytes | None:
        if key_id not in known:
            if len(known) >= 4096:
                known.clear()
            known[key_id] = ask(key_id)
        return known[key_id]

    return keys.identity(record_key)
