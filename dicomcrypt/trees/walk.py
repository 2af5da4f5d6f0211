"""What is in a tree, and where it goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UnsafePathError
from ..objects.files import SUFFIX


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree: its path from the tree's root, as bytes with / between parts."""

    relative: bytes
    kind: str  # "file", "link", "folder", "other", "error"
    size: int = 0
    error: str = ""


def walk(root: str) -> Iterator[Entry]:
    """Yield everything below `root`, folders before what is in them, in order of names.

    Links are not followed. What cannot be read is yielded as "error". The walk is
    streamed: one folder's names are in memory at a time.
    """
    return _walk(os.fsencode(root), b"")


def _walk(folder: bytes, prefix: bytes) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda e: e.name)
    except OSError as error:
        yield Entry(prefix.rstrip(b"/") or b".", "error", error=(error.strerror or "").lower())
        return
    for entry in entries:
        relative = prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            yield Entry(relative, "error", error=(error.strerror or "").lower())
            continue
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            yield Entry(relative, "folder")
            yield from _walk(entry.path, relative + b"/")
        elif stat.S_ISLNK(mode):
            yield Entry(relative, "link")
        elif stat.S_ISREG(mode):
            yield Entry(relative, "file", status.st_size)
        else:
            yield Entry(relative, "other")


def safe_relative(name: bytes) -> bytes:
    """Return a stored name if it stays below the tree's root.

    Raises UnsafePathError for absolute names, empty parts, `.`, `..` and NUL bytes."""
    parts = name.split(b"/")
    if not name or b"\0" in name or any(part in (b"", b".", b"..") for part in parts):
        raise UnsafePathError("the object's stored name would leave the output tree")
    if os.name == "nt" and any(b"\\" in part or b":" in part for part in parts):
        raise UnsafePathError("the object's stored name would leave the output tree")
    return name


def check_folders(root: bytes, relative: bytes) -> None:
    """Refuse to write below a symbolic link: it may lead out of the tree.

    Raises UnsafePathError."""
    at = root
    for part in relative.split(b"/")[:-1]:
        at = os.path.join(at, part)
        if os.path.islink(at):
            raise UnsafePathError("a folder of the output tree is a symbolic link")


def check_link(relative: bytes, target: bytes) -> None:
    """Refuse a symbolic link that points out of its tree.

    Raises UnsafePathError."""
    if target.startswith(b"/") or b"\0" in target or not target:
        raise UnsafePathError("the link points out of the tree: give --unsafe-links to restore it")
    depth = relative.count(b"/")
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth < 0:
            raise UnsafePathError(
                "the link points out of the tree: give --unsafe-links to restore it"
            )


def plain_name(relative: bytes, stored: bytes | None, object_id: bytes) -> bytes:
    """Return where an object of a tree is decrypted to.

    A mirrored tree tells it by the object's own place. An object that bears its id
    for a name was encrypted with --names encrypted and keeps the place inside.
    """
    suffix = SUFFIX.encode()
    stem = relative[: -len(suffix)] if relative.endswith(suffix) else relative
    base = stem.rpartition(b"/")[2]
    if stored is not None and base == object_id.hex().encode():
        return safe_relative(stored)
    return stem
