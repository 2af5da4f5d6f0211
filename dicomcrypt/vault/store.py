"""Where a vault's blobs lie: a flat space of names, a folder here (docs/spec/vault-v1.md, 1).

All that is above uses the protocol `Store`. A folder is quicker where it may write and read files
itself: `local_path`, `adopt`, `move` and `descriptor` are what it has in addition, and nothing
needs them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeGuard

from ..errors import DamagedError, MissingBlobError, UsageError
from ..objects.atomic import AtomicFile, exists_error, is_part, rename_part, sync_folders
from ..objects.buffers import FileSource, patiently, write_all
from ..objects.ranges import CachedEnds

_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}/){0,3}[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

_PIECE = 4 << 20

Chunks = bytes | Iterable[bytes]


class Store(Protocol):
    """Blobs under names of `a-z A-Z 0-9 _ . -` with `/` between parts, no part with a dot in front.

    What returned is on the medium. Raises MissingBlobError for a blob that is not there, and
    DamagedError if something else than a blob stands in its place. Workers get a copy of it: it can
    be pickled."""

    def put_new(self, name: str, data: Chunks) -> None:
        """Put a blob, whole or not at all. Raises OutputExistsError if the name is taken."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return so many bytes from `offset` on, fewer at the blob's end; None: all of them."""

    def size(self, name: str) -> int: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield all names that begin with this, in no order, none of blobs that are not whole."""

    def delete(self, name: str) -> bool:
        """Delete a blob; whether it was there."""

    def delete_many(self, names: Iterable[str]) -> int:
        """Delete blobs; how many were there."""

    def replace(self, name: str, data: Chunks) -> None:
        """Put a blob, in the place of one of its name if there is one, as one step."""


class BlobSource(CachedEnds):
    """A blob that is read by ranges, both ends at once."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(_Ranges(store, name))

    def close(self) -> None:
        """Nothing to close."""


class _Ranges:
    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def size(self) -> int:
        return self._store.size(self._name)

    def read_range(self, offset: int, length: int) -> bytes:
        return self._store.read(self._name, offset, length)


def is_local(store: Store) -> TypeGuard[FolderStore]:
    """Whether a store is a folder, so that its files can be used as such."""
    return isinstance(store, FolderStore)


def open_blob(store: Store, name: str) -> FileSource | BlobSource:
    """Open a blob of which much will be read; close it."""
    return FileSource(store.descriptor(name), whole=True) if is_local(store) else BlobSource(
        store, name)


def put_file(store: Store, path: str, name: str) -> None:
    """Let a file be a blob; it is gone then. Raises OutputExistsError."""
    if is_local(store):
        store.adopt(path, name)
        return
    with open(path, "rb") as file:
        store.put_new(name, iter(lambda: file.read(_PIECE), b""))
    os.unlink(path)


def _pieces(store: Store, name: str) -> Iterator[bytes]:
    for at in range(0, store.size(name), _PIECE):
        yield store.read(name, at, _PIECE)


def move_blob(store: Store, name: str, target: str) -> None:
    """Give a blob, or what is in its place, another name. Raises OutputExistsError,
    MissingBlobError."""
    if is_local(store):
        store.move(name, target)
        return
    store.put_new(target, _pieces(store, name))
    store.delete(name)


def copy_blob(store: Store, name: str, path: str) -> None:
    """Copy a blob into a new file; of a link, or what else is no blob, the file says so. Raises
    OutputExistsError, MissingBlobError."""
    with AtomicFile(path) as file:
        try:
            for piece in _pieces(store, name):
                write_all(file.raw, memoryview(piece))
        except DamagedError as error:
            write_all(file.raw, memoryview(f"{error}\n".encode()))
        file.commit(mode=0o600)


def check_name(name: str) -> str:
    """Return a blob's name if it is one; raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError("not the name of a blob of a vault")
    return name


class FolderStore:
    """A store in a folder: files of mode 0600 in folders of mode 0700.

    sync: False for tests; what returned then need not be on the medium."""

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = True) -> None:
        self.root, self._sync = os.path.abspath(os.fspath(root)), sync

    def __repr__(self) -> str:
        return f"FolderStore({self.root!r})"

    def local_path(self, name: str) -> str:
        """Where a blob lies. Raises DamagedError if one of the folders above it is a link."""
        *folders, base = check_name(name).split("/")
        path = self.root
        for folder in folders:
            path = os.path.join(path, folder)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(mode):
                raise DamagedError(f"{path!r} in the vault is no folder, but a link or a file")
        return os.path.join(path, base)

    def make_folder(self, name: str) -> str:
        """Make the folder of blobs `name`/...; return its path."""
        path = self.local_path(f"{name}/_").removesuffix("/_")
        _make_folders(path)
        return path

    def put_new(self, name: str, data: Chunks) -> None:
        if os.path.lexists(self.local_path(name)):
            raise exists_error(self.local_path(name))
        self._put(name, data, force=False)

    def replace(self, name: str, data: Chunks) -> None:
        self._put(name, data, force=True)

    def _put(self, name: str, data: Chunks, *, force: bool) -> None:
        path = self.local_path(name)
        folder = os.path.dirname(path)
        _make_folders(folder)
        with AtomicFile(path, force=force, sync=self._sync) as file:
            for piece in (data,) if isinstance(data, bytes | bytearray | memoryview) else data:
                write_all(file.raw, memoryview(piece))
            file.commit(mode=0o600)
        self._sync_folder(folder)

    def adopt(self, part: str, name: str) -> None:
        """Give a file that was written beside its place its name: `put_new` without a copy.

        The caller has synced it, and syncs folders when he has adopted many (`sync`). Raises
        OutputExistsError if the name is taken."""
        rename_part(part, self.local_path(name), force=False)

    def remove_folders(self, *, root: bool) -> None:
        """Remove folders that are empty; root: the store's own, too."""
        for at, _, _ in os.walk(self.root, topdown=False):
            if root or at != self.root:
                with contextlib.suppress(OSError):
                    os.rmdir(at)

    def parts(self) -> Iterator[str]:
        """Yield the paths of blobs that writers have begun, or were killed over."""
        pending = [self.root]
        while pending:
            with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif is_part(os.fsencode(entry.name)):
                        yield entry.path

    def sync(self) -> None:
        """Let everything in the store reach the medium."""
        if self._sync:
            sync_folders([self.root])

    def _sync_folder(self, folder: str) -> None:
        if self._sync:
            with contextlib.suppress(OSError):  # not a system on which a folder can be opened
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def move(self, name: str, target: str) -> None:
        """Give a blob another name. Raises OutputExistsError, MissingBlobError."""
        source, place = self.local_path(name), self.local_path(target)
        _make_folders(os.path.dirname(place))
        with _missing(name):
            rename_part(source, place, force=False)
        self._sync_folder(os.path.dirname(place))
        self._sync_folder(os.path.dirname(source))

    def descriptor(self, name: str) -> int:
        """Open a blob for reading; never waits, and follows no link."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with _missing(name):
            try:
                descriptor = os.open(self.local_path(name), flags | getattr(os, "O_NOFOLLOW", 0))
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                    raise _special(name) from None
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _special(name)
        return descriptor

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        descriptor = self.descriptor(name)
        try:
            if length is None:
                length = max(os.fstat(descriptor).st_size - offset, 0)
            pieces = []
            while length > 0:
                at, size = offset, length
                piece = patiently(lambda: os.pread(descriptor, size, at))  # noqa: B023
                if not piece:
                    break
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
            return b"".join(pieces)
        finally:
            os.close(descriptor)

    def size(self, name: str) -> int:
        with _missing(name):
            status = os.lstat(self.local_path(name))
        if not stat.S_ISREG(status.st_mode):
            raise _special(name)
        return status.st_size

    def list(self, prefix: str) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        pending = [folder]
        while pending:
            at = pending.pop()
            path = os.path.join(self.root, *at.split("/")) if at else self.root
            try:
                found = os.scandir(path)
            except FileNotFoundError:
                continue
            with found:
                for entry in found:
                    name = f"{at}/{entry.name}" if at else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                            pending.append(name)
                    elif name.startswith(prefix) and not is_part(os.fsencode(entry.name)):
                        yield name

    def delete_many(self, names: Iterable[str]) -> int:
        count, folders = 0, set()
        for name in names:
            path = self.local_path(name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                count += 1
            folders.add(os.path.dirname(path))
        for folder in folders:
            self._sync_folder(folder)
        return count

    def delete(self, name: str) -> bool:
        path = self.local_path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        self._sync_folder(os.path.dirname(path))
        return True


def _make_folders(path: str) -> None:
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


@contextlib.contextmanager
def _missing(name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise MissingBlobError(f"the vault lacks {name!r}") from None


def _special(name: str) -> DamagedError:
    return DamagedError(f"{name!r} in the vault is no regular file, but a link or something else")
