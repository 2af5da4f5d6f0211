"""A vault whose process ends between any two operations on store and key table."""

from __future__ import annotations

import contextlib

from dicomcrypt.keytable import UnlockedKeyTable
from dicomcrypt.vault import lease
from dicomcrypt.vault.store import FolderStore


class Crash(BaseException):
    """The process is gone: nothing that it still tries has an effect."""


class Crasher:
    """Counts operations, and ends the process before number `at`; None: never."""

    def __init__(self, monkeypatch, at=None) -> None:
        self.at, self.count, self.dead = at, 0, False
        self.log: list[str] = []
        for name in ("put_new", "replace", "delete", "adopt"):
            self._wrap(monkeypatch, FolderStore, name)
        self._wrap(monkeypatch, UnlockedKeyTable, "vacuum")
        transaction = UnlockedKeyTable.transaction
        crasher = self

        @contextlib.contextmanager
        def counted(table):
            if not table._depth:
                crasher.step("transaction")
            with transaction(table):
                yield

        def delete_many(store, names):
            return sum(store.delete(name) for name in names)

        monkeypatch.setattr(UnlockedKeyTable, "transaction", counted)
        monkeypatch.setattr(FolderStore, "delete_many", delete_many)
        # The process that simulates all of them goes on.
        monkeypatch.setattr(lease, "_gone", lambda *who: True)

    def _wrap(self, monkeypatch, kind, name) -> None:
        real = getattr(kind, name)

        def counted(this, *arguments, **options):
            self.step(name)
            return real(this, *arguments, **options)

        monkeypatch.setattr(kind, name, counted)

    def step(self, name: str) -> None:
        if self.dead or self.count == self.at:
            self.dead = True
            raise Crash(name)
        self.count += 1
        self.log.append(name)

    @contextlib.contextmanager
    def dying(self):
        """What runs in here may be cut short; afterwards another process begins."""
        with contextlib.suppress(Crash):
            yield
        self.dead, self.at = False, None
