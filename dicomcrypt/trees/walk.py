"""What is in a tree."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..objects.atomic import is_part

if TYPE_CHECKING:
    from .journal import Before

#: Names of a folder that are sorted at a time.
BLOCK = 1 << 15
#: Files from this size on are begun before all others, so that no worker is left alone with one.
LARGE = 32 << 20


class Entry(NamedTuple):
    """Something in a tree: its path from the tree's root, as bytes with / between parts.

    kind: "file", "link", "folder", "part" (an output in progress), "other" or "error".
    before: what a journal knows of it.
    """

    relative: bytes
    kind: str
    size: int = 0
    mtime_ns: int = 0
    hard_links: int = 1
    error: str = ""
    before: Before | None = None


def walk(root: str, *, fold_case: bool = False) -> Iterator[Entry]:
    """Yield everything below `root`, folders before what is in them, in order of names (of a
    folder with more than `BLOCK` entries in order within so many).

    Links are not followed. What cannot be read is yielded as
    "error", and with fold_case what has the name of another but for upper and lower case.
    Memory holds the names of the folders on the way, not of the tree.
    """
    pending = [iter(_folder(os.fsencode(root), b"", fold_case))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        yield entry
        if entry.kind == "folder":
            full = os.path.join(os.fsencode(root), entry.relative)
            pending.append(iter(_folder(full, entry.relative + b"/", fold_case)))


def _folder(folder: bytes, prefix: bytes, fold_case: bool) -> Iterator[Entry]:
    # All names are read before the first is given away, since what is done with a file may
    # change its folder; joined and compressed, a million names take little memory.
    blocks, names = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                names.append(entry.name)
                if len(names) == BLOCK:
                    blocks.append(_packed(names))
    except OSError as error:
        reason = (error.strerror or "").lower()
        yield Entry(prefix.rstrip(b"/") or b".", "error", error=reason)
        return
    blocks.append(_packed(names))
    seen: set[str] = set()
    for name in (name for block in blocks for name in _unpacked(block)):
        relative = prefix + name
        if fold_case:
            folded = os.fsdecode(name).casefold()
            if folded in seen:
                yield Entry(relative, "error", error="another file of this folder has the same "
                            "name but for upper and lower case, which the output's file system "
                            "does not tell apart")
                continue
            seen.add(folded)
        try:
            status = os.lstat(os.path.join(folder, name))
        except OSError as error:
            yield Entry(relative, "error", error=(error.strerror or "").lower())
            continue
        mode = status.st_mode
        if stat.S_ISREG(mode):
            kind = "part" if name[:1] == b"." and is_part(name) else "file"
            yield Entry(relative, kind, status.st_size, status.st_mtime_ns, status.st_nlink)
        elif stat.S_ISDIR(mode):
            yield Entry(relative, "folder")
        elif stat.S_ISLNK(mode):
            yield Entry(relative, "link", 0, status.st_mtime_ns)
        else:
            yield Entry(relative, "other")


def _packed(names: list[bytes]) -> bytes:
    """Names of a block in order; the list is empty after that."""
    joined = b"/".join(sorted(names))
    names.clear()
    return zlib.compress(joined, 1)


def _unpacked(block: bytes) -> list[bytes]:
    joined = zlib.decompress(block)
    return joined.split(b"/") if joined else []


def in_shard(relative: bytes, shard: tuple[int, int] | None) -> bool:
    """Whether a path belongs to shard (k, n): stable, whatever else is in the tree."""
    if shard is None:
        return True
    digest = hashlib.blake2b(relative, digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard[1] == shard[0] - 1


class Listing(Protocol):
    """What a job has to do, as far as it is known: a Survey, or tasks that are known beforehand."""

    #: How many files are through, and the path of the one that is being worked on.
    through: int
    current: bytes
    files: int
    bytes: int

    @property
    def finished(self) -> bool:
        """Whether `files` and `bytes` are those of everything."""

    def step(self) -> None:
        """Find out more."""


class Survey:
    """Walks a tree ahead of the work: how much there is, and the large files, which go first.

    shard: what counts of it.
    Memory holds the paths of the large files only."""

    def __init__(
        self, entries: Callable[[], Iterator[Entry]], shard: tuple[int, int] | None = None
    ) -> None:
        self._entries, self._shard = entries, shard
        self._walk: Iterator[Entry] | None = entries()
        self._large: list[Entry] = []
        self._taken: set[bytes] = set()
        self.files = self.bytes = 0
        #: How many files are through, and the path of the one that is being worked on.
        self.through, self.current = 0, b""

    @property
    def finished(self) -> bool:
        """Whether `files` and `bytes` are those of the whole tree."""
        return self._walk is None

    def step(self, count: int = 512) -> None:
        """Look at so many more entries."""
        if self._walk is None:
            return
        for _ in range(count):
            entry = next(self._walk, None)
            if entry is None:
                self._walk = None
                return
            if entry.kind in ("file", "link") and in_shard(entry.relative, self._shard):
                self.files += 1
                self.bytes += entry.size
                if entry.size >= LARGE:
                    self._large.append(entry)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, large files first as far as they are known by then."""
        for entry in self._entries():
            while self._large:
                large = self._large.pop()
                if large.relative not in self._taken:
                    self._taken.add(large.relative)
                    yield large
            if entry.size >= LARGE:
                if entry.relative in self._taken:
                    continue
                self._taken.add(entry.relative)
            yield entry
