"""Changes of a key table: all or nothing, under one lock, each with a new sealed head."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import threading
from collections.abc import Iterator

from ..errors import DamagedError, UsageError
from .seals import Head, Seals
from .store import ACCESS, DOCUMENTS, ENTRIES, HEAD, Store

HEAD_KEY = b"head"


class Changes:
    """What an unlocked key table's reading and writing stand on; see `UnlockedKeyTable`."""

    def __init__(self, store: Store, seals: Seals, *, strict: bool) -> None:
        self._store, self._seals, self._strict = store, seals, strict
        self._process, self._lock = os.getpid(), threading.RLock()
        self._counter = self._depth = self._added = 0
        self._changed = self._roster_changed = False
        self._pending: Head | None = None

    def _verify(self) -> None:
        """Check the head, and that no row came or went without it."""
        with self._reading():
            head = self._read_head()
            self._check_roster(head)
            count = self._store.count(ENTRIES)
            if count != head.entries:
                raise DamagedError(
                    f"the key table has {count} of its {head.entries} entries: rows were removed "
                    "or added without its key"
                )
            self._counter = head.counter

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Several changes at once: all of them are stored, or none; and it is much faster."""
        with self._lock:
            self._ready()
            if not self._strict:
                raise UsageError("the key table was unlocked as a damaged one: only reading")
            if self._depth:
                yield
                return
            self._added, self._changed = 0, False
            with self._store.transaction():
                self._pending = head = self._read_head()
                self._depth = 1
                try:
                    yield
                    if self._changed:
                        head = head._replace(
                            counter=self._generation, entries=head.entries + self._added,
                            roster=self._roster() if self._roster_changed else head.roster,
                        )  # fmt: skip
                        self._store.put(HEAD, HEAD_KEY, self._seals.seal_head(head))
                finally:
                    self._depth, self._roster_changed = 0, False
            self._counter = head.counter

    @property
    def _begun(self) -> Head:
        """The head with which the change began that is being made."""
        if self._pending is None:
            raise RuntimeError("no change of the key table has begun")
        return self._pending

    @property
    def _generation(self) -> int:
        return self._begun.counter + 1

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._ready()
            if self._depth:
                yield
                return
            self._depth = 1
            try:
                with self._store.transaction(write=False):
                    yield
            finally:
                self._depth = 0

    def _ready(self) -> None:
        if not self._seals:
            raise UsageError("the key table is locked")
        if os.getpid() != self._process:
            raise UsageError("the key table was unlocked by another process: unlock it here")

    def _read_head(self) -> Head:
        value = self._store.get(HEAD, HEAD_KEY)
        if value is None and not self._counter:  # being made
            return Head(self._seals.table_id, 0, 0, self._roster())
        if value is None:
            raise DamagedError("the key table has no head any more")
        head = self._seals.open_head(value)
        if head.counter < self._counter:
            raise DamagedError("the key table was replaced by an older copy of it")
        return head

    def _roster(self) -> bytes:
        """Digest of the accesses and documents."""
        digest = hashlib.sha256()
        for space in (ACCESS, DOCUMENTS):
            for row in self._store.items(space):
                for part in (space.encode(), *row):
                    digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()

    def _check_roster(self, head: Head) -> None:
        if not self._roster_changed and not hmac.compare_digest(self._roster(), head.roster):
            raise DamagedError("accesses or documents of the key table were changed or put back")
