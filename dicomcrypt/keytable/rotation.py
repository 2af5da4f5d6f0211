"""A key table's own key made anew: a new table with all entries, in the old one's place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

from ..container.stanza import Recipient
from ..errors import UsageError
from .store import SqliteStore
from .unlocked import UnlockedKeyTable

_BLOCK = 1 << 20


def replace_table(
    old: UnlockedKeyTable, path: str, access: Mapping[str, Recipient],
    prepare: Callable[[UnlockedKeyTable], None] = lambda table: None,
) -> UnlockedKeyTable:
    """Put a table with a new key, all entries and documents, and these accesses in the place of
    the table `old` in the file `path`; return it, unlocked.

    prepare: changes the new table before it counts. It takes the old one's place as one step; the
    old file is then overwritten, and `old` is closed. Nobody changes the old one meanwhile. A
    kill leaves the old table, and a file `path.new`, which the next call removes.
    """
    if not access:
        raise UsageError("a key table needs a login or a recipient")
    beside = f"{path}.new"
    for name in (beside, f"{beside}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with old.transaction():  # nobody else writes from here on
            made = UnlockedKeyTable._new(SqliteStore.create(beside), access)
            try:
                old._copy_into(made)
                prepare(made)
                table_id, key = made.table_id, made._seals.key()
            finally:
                made.close()
            os.replace(beside, path)
        _sync_folder(os.path.dirname(os.path.abspath(path)))
        old.close()
        _overwrite(descriptor)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
    found = UnlockedKeyTable(SqliteStore(path), table_id, key)
    found._verify()
    return found


def _overwrite(descriptor: int) -> None:
    """Leave nothing of a file that has no name any more, as far as the file system lets us."""
    left = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    while left > 0:
        left -= os.write(descriptor, bytes(min(left, _BLOCK)))
    os.fsync(descriptor)


def _sync_folder(path: str) -> None:
    with contextlib.suppress(OSError):  # not a system on which a folder can be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
