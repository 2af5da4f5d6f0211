"""How objects that a job wrote come into the store, and how they go again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from ..trees.checkpoint import Checkpoints
from ..trees.pool import Outcome
from .store import is_local, put_file
from .vault import REWRAP, Vault, object_name

_DAY = 86400 * 10**9


class ObjectCheckpoints(Checkpoints):
    """Checkpoints that put objects into a vault's store."""

    def __init__(self, vault: Vault, *arguments: Any, **options: Any) -> None:
        super().__init__(vault.workplace, *arguments, **options)
        self._store = vault.store

    def _give_name(self, outcome: Outcome) -> None:
        part, _ = outcome.in_progress()
        put_file(self._store, part, object_name(outcome.object_id or b""))


def object_mtime() -> int:
    """The modification time of objects, ns since 1970: the day's beginning (UTC).

    By the times of single ones a listing, and every backup, would tell their order, and so which
    of them belong together."""
    return time.time_ns() // _DAY * _DAY


@contextlib.contextmanager
def working(vault: Vault) -> Iterator[str]:
    """Where a job writes its objects until they are whole (`Vault.workplace`), as long as it does.
    Hold the writers' lease."""
    try:
        yield vault.make_workplace()
    finally:
        vault.leave_workplace()


def discard(vault: Vault, object_id: bytes, part: str) -> None:
    """Remove an object that no row will name, and what a killed job left of it. In a folder this is
    on the medium with the job's next checkpoint."""
    name = object_name(object_id)
    place = os.path.join(vault.workplace, object_id.hex()[:2])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, part))
    if is_local(vault.store):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(vault.store.local_path(name))
    else:
        vault.store.delete(name)


# ---- journals ----------------------------------------------------------------


def journal_of(vault: Vault, verb: str, root: str) -> str:
    """Where the journal of a job lies: beside the vault, one for each tree that is added."""
    place = hashlib.blake2b(verb.encode() + os.fsencode(os.path.realpath(root)), digest_size=8,
                            key=vault.keys.vault_id).hexdigest()
    return f"{vault.beside}.{place}.dcmx-journal"


def journals(vault: Vault) -> list[str]:
    """Return the journals of adds that were cut short or had files that failed."""
    folder, base = os.path.split(vault.beside)
    pattern = re.compile(re.escape(base) + r"\.[0-9a-f]{16}\.dcmx-journal")
    found = [os.path.join(folder, name) for name in os.listdir(folder) if pattern.fullmatch(name)]
    if vault.keys.document(REWRAP) is not None:
        found = [path for path in found if path != journal_of(vault, REWRAP, vault.workplace)]
    return sorted(found)


def remove_journal(path: str) -> None:
    """Remove a journal that nobody needs any more."""
    for name in (f"{path}-journal", path):
        with contextlib.suppress(OSError):
            os.unlink(name)
