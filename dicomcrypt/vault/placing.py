"""How objects that a job wrote come into the store, and how they go again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..trees.checkpoint import Checkpoints
from ..trees.pool import Outcome
from .store import is_local, put_file
from .vault import Vault, object_name


class ObjectCheckpoints(Checkpoints):
    """Checkpoints that put objects into a vault's store."""

    def __init__(self, vault: Vault, *arguments: Any, **options: Any) -> None:
        super().__init__(vault.workplace, *arguments, **options)
        self._store = vault.store

    def _give_name(self, outcome: Outcome) -> None:
        put_file(self._store, outcome.part, object_name(outcome.object_id))


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
