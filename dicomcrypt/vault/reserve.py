"""Room that is kept beside the key table, so that a full medium does not keep a record from being
erased (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

#: Bytes: for the changes of the key table in an erasure of some 40,000 objects.
SIZE = 1 << 20


def reserve_path(keys_path: str) -> str:
    return f"{keys_path}.reserve"


def fill(keys_path: str) -> bool:
    """Make the reserve if it is not there; whether it is. A medium without room for it has none."""
    path = reserve_path(keys_path)
    if os.path.lexists(path):
        return True
    part = f"{path}.part"
    try:
        _write(part)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        return False
    return True


def _write(path: str) -> None:
    """Take room: what is random cannot be left out by a file system that compresses."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        data = memoryview(os.urandom(SIZE))
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def released(keys_path: str) -> Iterator[None]:
    """Give the reserve away if there is no other room; take it again at the end, if it is there."""
    path, probe = reserve_path(keys_path), f"{reserve_path(keys_path)}.part"
    kept = os.path.lexists(path)
    try:
        if kept:
            try:
                _write(probe)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(probe)
        yield
    finally:
        if kept:
            fill(keys_path)
