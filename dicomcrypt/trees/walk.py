"""What is in a tree, and where it goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UnsafePathError
from ..objects.files import SUFFIX, is_part


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree: its path from the tree's root, as bytes with / between parts."""

    relative: bytes
    kind: str  # "file", "link", "folder", "other", "error"
    size: int = 0
    error: str = ""


def walk(root: str) -> Iterator[Entry]:
    """Yield everything below `root`, folders before what is in them, in order of names.

    Links are not followed, outputs in progress left out. What cannot be read is yielded as
    "error". Memory holds the names of the folders on the way, not of the tree.
    """
    pending = [iter(_folder(os.fsencode(root), b""))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        yield entry
        if entry.kind == "folder":
            full = os.path.join(os.fsencode(root), entry.relative)
            pending.append(iter(_folder(full, entry.relative + b"/")))


def _folder(folder: bytes, prefix: bytes) -> list[Entry]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda e: e.name)
    except OSError as error:
        reason = (error.strerror or "").lower()
        return [Entry(prefix.rstrip(b"/") or b".", "error", error=reason)]
    result = []
    for entry in entries:
        relative = prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            result.append(Entry(relative, "error", error=(error.strerror or "").lower()))
            continue
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            result.append(Entry(relative, "folder"))
        elif stat.S_ISLNK(mode):
            result.append(Entry(relative, "link"))
        elif not stat.S_ISREG(mode):
            result.append(Entry(relative, "other"))
        elif not is_part(entry.name):
            result.append(Entry(relative, "file", status.st_size))
    return result


def safe_relative(name: bytes) -> bytes:
    """Return a stored name if it stays below the tree's root.

    Raises UnsafePathError for absolute names, empty parts, `.`, `..` and NUL bytes."""
    parts = name.split(b"/")
    if len(name) > 4096 or len(parts) > 255:
        raise UnsafePathError("the object's stored name is too long")
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
    """Refuse a symbolic link that points out of its tree, by itself or through another link.

    Raises UnsafePathError."""
    parts = target.split(b"/")
    upwards = 0
    while upwards < len(parts) and parts[upwards] in (b"..", b"."):
        upwards += 1
    climbs = parts[:upwards].count(b"..")
    # A .. behind a name may be the parent of what another link points to.
    if target.startswith(b"/") or b".." in parts[upwards:] or climbs > relative.count(b"/"):
        raise UnsafePathError("the link points out of the tree: give --unsafe-links to restore it")


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
    return safe_relative(stem)
