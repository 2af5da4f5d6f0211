"""Which names a tree's outputs get, and which are refused."""

from __future__ import annotations

import os

from ..errors import UnsafePathError
from ..objects.files import SUFFIX

NAME_MAX = 255
_RESERVED = {b"con", b"prn", b"aux", b"nul"} | {
    word + b"%d" % n for word in (b"com", b"lpt") for n in range(1, 10)
}


def reserved_on_windows(part: bytes) -> bool:
    """Whether Windows has no file of this name, or another one."""
    stem = part.split(b".")[0].rstrip(b" ").lower()
    return (
        stem in _RESERVED
        or part[-1:] in (b".", b" ")
        or any(ch < 32 or ch in b'<>:"|?*\\' for ch in part)
    )


def object_name(name: bytes) -> bytes | None:
    """Return the name of the object of a file in a mirrored tree; None if it would be too long,
    or none on this system: such an object bears its id."""
    made = name + SUFFIX.encode()
    if len(made) > NAME_MAX or (os.name == "nt" and reserved_on_windows(made)):
        return None
    return made


def safe_relative(name: bytes) -> bytes:
    """Return a stored name if it stays below the tree's root.

    Raises UnsafePathError for absolute names, empty parts, `.`, `..` and NUL bytes."""
    parts = name.split(b"/")
    if len(name) > 4096 or len(parts) > 255:
        raise UnsafePathError("the object's stored name is too long")
    if not name or b"\0" in name or any(part in (b"", b".", b"..") for part in parts):
        raise UnsafePathError("the object's stored name would leave the output tree")
    if os.name == "nt" and any(map(reserved_on_windows, parts)):
        raise UnsafePathError("this system has no file of the object's stored name")
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

    A mirrored tree tells it by the object's own place. An object that bears its id for a name
    keeps inside what its place does not tell: its path from the folder where it lies.
    """
    suffix = SUFFIX.encode()
    stem = relative[: -len(suffix)] if relative.endswith(suffix) else relative
    folder, slash, base = stem.rpartition(b"/")
    if stored is not None and base == object_id.hex().encode():
        return safe_relative(folder + slash + safe_relative(stored))
    return safe_relative(stem)
