"""A key table that is locked: it can be made and unlocked, nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from ..container.stanza import Identity, Recipient
from ..errors import UsageError
from .access import unwrap_by_identity, unwrap_by_password
from .store import SqliteStore, Store
from .unlocked import UnlockedKeyTable, read_table_id


class KeyTable:
    """A key table in a file, locked.

    path: the file; store: how it is opened, SQLite by default. Nothing can be read or stored
    before `unlock`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        store: Callable[[str | os.PathLike[str]], Store] = SqliteStore,
    ) -> None:
        self._path, self._open = path, store

    def __repr__(self) -> str:
        return f"KeyTable({os.fspath(self._path)!r})"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        access: Mapping[str, Recipient],
        *,
        store: Callable[[str | os.PathLike[str]], Store] = SqliteStore.create,
    ) -> UnlockedKeyTable:
        """Make a key table and return it unlocked.

        access: who may unlock it, by name: a Passphrase makes the name a login, any other
        recipient (a key of keygen, a certificate) stands for its identity. Raises UsageError
        for no access, OutputExistsError if the file exists.
        """
        if not access:
            raise UsageError("a key table needs a login or a recipient")
        made = store(path)
        try:
            return UnlockedKeyTable._new(made, access)
        except BaseException:
            made.close()
            if isinstance(made, SqliteStore):
                os.unlink(made.path)
            raise

    def unlock(
        self,
        login: str | None = None,
        password: str | None = None,
        *,
        identities: Iterable[Identity] = (),
        fingerprint: str | None = None,
        strict: bool = True,
    ) -> UnlockedKeyTable:
        """Return the table unlocked, by login and password or by an identity.

        fingerprint: refuse any table but this one (`UnlockedKeyTable.fingerprint`); without it,
        somebody who may replace the file may put a table of his own for the same identity.
        strict=False: of a damaged table, read what can be read; it cannot be written to.

        Raises NoIdentityError for a wrong login, password or identity; ThrottledError after
        too many; DamagedError if the table was changed without its key.
        """
        identities = list(identities)
        if (login is None) != (password is None) or (login is None) != bool(identities):
            raise UsageError("unlock the key table by login and password, or by an identity")
        store = self._open(self._path)
        try:
            table_id = read_table_id(store)
            if login is not None and password is not None:
                key = unwrap_by_password(store, table_id, login, password)
            else:
                key = unwrap_by_identity(store, table_id, identities)
            table = UnlockedKeyTable(store, table_id, key, fingerprint=fingerprint, strict=strict)
            if strict:
                table._verify()
            return table
        except BaseException:
            store.close()
            raise
