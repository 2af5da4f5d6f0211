"""Files that commands write, beside objects and trees."""

from __future__ import annotations

import os

from ..errors import OutputExistsError


def write_public(path: str | os.PathLike[str], data: bytes, *, force: bool) -> None:
    """Write a file that everyone may read."""
    from ..objects.atomic import AtomicFile, default_mode

    with AtomicFile(path, force=force) as file:
        file.raw.write(data)
        file.commit(mode=default_mode())


def not_there(path: str, force: bool) -> None:
    """Refuse an output that exists before something is made for nothing."""
    from ..objects.atomic import exists_error

    if os.path.lexists(path) and not force:
        raise exists_error(path)


def free(path: str | None) -> None:
    """Refuse a file that is there, where it cannot be overwritten: what is made would be lost."""
    if path is not None and os.path.lexists(path):
        raise OutputExistsError(f"{path!r} exists: choose another name")
