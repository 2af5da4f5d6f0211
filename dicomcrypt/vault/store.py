"""Where a vault's blobs lie: a flat space of names, a folder here (docs/spec/vault-v1.md, 1).

Nothing above this module assumes a file system, but for `FolderStore.path` and `adopt`, by which
workers write objects beside their places.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from ..errors import MissingBlobError, UsageError
from ..objects.atomic import AtomicFile, exists_error, is_part, rename_part, sync_folders
from ..objects.buffers import open_regular, patiently, write_all

_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}/){0,3}[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

Chunks = bytes | Iterable[bytes]


class Store(Protocol):
    """Blobs under names of `a-z A-Z 0-9 _ . -` with `/` between parts, no part with a dot in front.

    What returned is on the medium. Raises MissingBlobError for a blob that is not there."""

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

    def path(self, name: str) -> str:
        """Where a blob lies."""
        return os.path.join(self.root, *check_name(name).split("/"))

    def make_folder(self, name: str) -> str:
        """Make the folder of blobs `name`/...; return its path."""
        path = self.path(name)
        _make_folders(path)
        return path

    def put_new(self, name: str, data: Chunks) -> None:
        if os.path.lexists(self.path(name)):
            raise exists_error(self.path(name))
        self._put(name, data, force=False)

    def replace(self, name: str, data: Chunks) -> None:
        self._put(name, data, force=True)

    def _put(self, name: str, data: Chunks, *, force: bool) -> None:
        path = self.path(name)
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
        rename_part(part, self.path(name), force=False)

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

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with _missing(name):
            descriptor = open_regular(self.path(name))
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
            return os.stat(self.path(name), follow_symlinks=False).st_size

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
            path = self.path(name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                count += 1
            folders.add(os.path.dirname(path))
        for folder in folders:
            self._sync_folder(folder)
        return count

    def delete(self, name: str) -> bool:
        path = self.path(name)
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


