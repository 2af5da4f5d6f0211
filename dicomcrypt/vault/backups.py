"""Copies of a vault's key table: made, registered, put back (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import (
    DicomcryptError,
    MissingBlobError,
    NoIdentityError,
    OutputExistsError,
    ThrottledError,
    UnknownKeyError,
    UsageError,
)
from ..keytable import KeyTable, UnlockedKeyTable
from ..keytable.store import ACCESS, SqliteStore
from ..keytable.unlocked import KeyInfo
from ..objects.atomic import sync_folders
from . import head as heads
from .keys import CACHE, RECORD, REPLACED, TOMBSTONE, VaultKeys
from .lease import DOCUMENT as LEASES
from .store import Store, is_local
from .vault import Vault, shown

BACKUPS = "backups"
#: Documents of the present table that count more than those of an older copy.
_NEWER = (BACKUPS, "holds", "retention", "merges")
_UNKNOWN = (1 << 63) - 1
#: Opens a key table, strictly or not.
Unlock = Callable[[KeyTable, bool], UnlockedKeyTable]


class Backup(NamedTuple):
    """A copy that was made. time: ns since 1970; counter: of the key table as it was copied;
    table: that table's id (a new one when an access was taken away)."""

    id: bytes
    time: int
    counter: int
    place: str
    table: bytes

    @property
    def change(self) -> int | None:
        """The counter, None as long as it is not known."""
        return None if self.counter == _UNKNOWN else self.counter


def backups(keys: VaultKeys) -> list[Backup]:
    """Return the copies that are registered, oldest first."""
    return [Backup(*entry) for entry in (keys.document(BACKUPS) or {}).get(0, [])]


def _put(keys: VaultKeys, found: Iterable[Backup]) -> None:
    keys.put_document(BACKUPS, {0: [list(entry) for entry in found]})


def holding(keys: VaultKeys, records: Iterable[bytes]) -> list[Backup]:
    """Return the copies that hold one of these record keys, as far as can be known: of copies made
    before the table's own key was made anew, all that are older than the record key."""
    found, table = set(), keys.table.table_id
    entries = [info for record in records if (info := _info(keys, record)) is not None]
    for backup in backups(keys):
        for info in entries:
            if info.kind != RECORD:
                continue
            if backup.counter == _UNKNOWN:
                found.add(backup)
            elif backup.counter >= info.generation if backup.table == table else (
                not keys.is_current(info.id) or keys.generation == 1
            ):
                found.add(backup)
    return sorted(found, key=lambda backup: backup.time)


def _info(keys: VaultKeys, record: bytes) -> KeyInfo | None:
    try:
        return keys.table.info(record)
    except UnknownKeyError:
        return None


def outside(vault: Vault, path: str) -> str:
    """Return a path, absolute; raises UsageError if it lies in the vault's folder, or is one of
    the files beside it."""
    path = os.path.abspath(path)
    if os.path.realpath(path) in map(os.path.realpath, vault.private_paths):
        raise UsageError(f"{path!r} is the vault's own: a copy of the key table needs another name")
    if not is_local(vault.store):
        return path
    root = os.path.realpath(vault.store.root)
    if os.path.commonpath([root, os.path.realpath(path)]) == root:
        raise UsageError("a copy of the key table does not lie in the vault: whoever backs up both "
                         "together keeps what is to be erased")
    return path


def backup_keys(vault: Vault, path: str, *, force: bool = False) -> Backup:
    """Copy the key table into a file, verify the copy, and register it; others may use it.

    Raises OutputExistsError, UsageError."""
    keys, path = vault.keys, outside(vault, path)
    if os.path.lexists(path) and (not force or not os.path.isfile(path)):
        raise OutputExistsError(f"{path!r} exists: choose another name, or give --force")
    if not os.path.isdir(os.path.dirname(path)):
        raise UsageError(f"there is no folder {os.path.dirname(path)!r} for the copy")
    part = f"{path}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    made = Backup(os.urandom(16), time.time_ns(), _UNKNOWN, path, keys.table.table_id)
    # Registered before it is there: a copy that nobody knows of would be worse than the reverse.
    _replace(keys, made)
    try:
        made = made._replace(counter=keys.table.copy_to(part))
        os.replace(part, path)
        sync_folders([os.path.dirname(path)])
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        with contextlib.suppress(DicomcryptError):
            forget_backup(keys, made.id)
        raise
    _replace(keys, made)
    return made


def remove_leftovers(keys: VaultKeys, keys_path: str) -> None:
    """Remove tables that were not made whole, by processes that were killed. Hold the writers'
    lease."""
    for name in (f"{keys_path}.new", f"{keys_path}.restored"):
        _remove(name)
    for backup in backups(keys):
        if backup.counter == _UNKNOWN:
            _remove(f"{backup.place}.part")


def _replace(keys: VaultKeys, made: Backup) -> None:
    with keys.transaction():
        _put(keys, [*(b for b in backups(keys) if b.id != made.id), made])


def forget_backup(keys: VaultKeys, backup_id: bytes) -> None:
    """Say that a copy was destroyed. Raises UsageError for an id that is not registered."""
    with keys.transaction():
        found = backups(keys)
        left = [backup for backup in found if backup.id != backup_id]
        if len(left) == len(found):
            raise UsageError("no such copy of the key table is registered")
        _put(keys, left)


# ---- putting one back ------------------------------------------------------------


@dataclass
class Restored:
    """buried: record keys of the copy that were erased since, and are gone from it; lost: record
    keys that the present table had and the copy has not; aside: where the present one is now;
    older: the vault had further vault keys, so that its catalogue is to be built anew."""

    keys: int = 0
    buried: int = 0
    lost: int = 0
    aside: str | None = None
    accesses: tuple[str, ...] = ()
    older: bool = False


def restore_keys(
    store: Store, vault_id: bytes, path: str, source: str, unlock: Unlock, *, force: bool = False,
) -> Restored:
    """Put a copy of the key table in the place `path` of the present one, which is kept aside.

    unlock: opens a table, strictly or not. What was erased stays so: by the tombstones of the
    present table, if it can be opened, and by the store's journal of erasures. Raises UsageError
    for another vault's table, and, without `force`, if keys would be lost or if the present table
    cannot be opened."""
    if os.path.realpath(source) == os.path.realpath(path):
        raise UsageError(f"{source!r} is the present key table: name the copy")
    try:
        copy = unlock(KeyTable(source), True)
    except ThrottledError:
        raise
    except NoIdentityError as error:
        raise NoIdentityError(f"copy {source!r}: {error}; it was made for "
                              f"{', '.join(_accesses(source))}") from None
    with contextlib.closing(copy):
        if VaultKeys(copy).vault_id != vault_id:
            raise UsageError(f"{source!r} is the key table of another vault than "
                             f"{shown(store)}: nothing was changed")
        present, problem = _present(path, vault_id, unlock)
        made = f"{path}.restored"
        _remove(made)
        try:
            there, newest = VaultKeys(copy).generation, _newest(store, present)
            if there < newest and not force:
                raise UsageError(
                    f"the copy {source!r} is older than the last `recipients remove` or `rewrap` "
                    f"(it has {there} vault keys, the vault has {newest}): it lets in "
                    f"{', '.join(copy.accesses())}, and opens nothing that was added or encrypted "
                    "anew since: put a later copy back, or give --force and then `vault repair "
                    "--rebuild`"
                )
            copy.copy_to(made)
            with copy.open_copy(made) as table:
                result = _prepare(store, table, present, force, readable=there >= newest)
                aside = _aside(path) if os.path.lexists(path) else None
                _register_older(table, aside)
            if problem is not None and not force:
                raise UsageError(f"the present key table cannot be opened ({problem}): with "
                                 "--force it is kept aside all the same")
            if present is not None:
                present.close()
            result.aside = aside
            if aside is not None:
                _keep(path, aside)
            os.replace(made, path)
            sync_folders([os.path.dirname(path)])
        finally:
            _remove(made)
            if present is not None:
                present.close()
    return result


def _register_older(table: UnlockedKeyTable, aside: str | None) -> None:
    """Note that no copy made until now, the one that is put back and the table that is kept aside
    among them, holds a key that is made later."""
    keys, last = VaultKeys(table), table.counter
    found = [b._replace(counter=min(b.counter, last)) if b.table == table.table_id else b
             for b in backups(keys)]
    if aside is not None:
        found.append(Backup(os.urandom(16), time.time_ns(), last, aside, table.table_id))
    with keys.transaction():
        _put(keys, found)


def _accesses(path: str) -> list[str]:
    """Return who may open a key table; the names are not verified."""
    with contextlib.closing(SqliteStore(path)) as store:
        return [name.decode("utf-8", "replace") for name, _ in store.items(ACCESS)]


def _present(
    path: str, vault_id: bytes, unlock: Unlock
) -> tuple[UnlockedKeyTable | None, Exception | None]:
    """The present table, as far as it can be opened."""
    if not os.path.lexists(path):
        return None, None
    problem: Exception | None = None
    for strict in (True, False):
        try:
            table = unlock(KeyTable(path), strict)
        except DicomcryptError as error:
            problem = problem or error
            continue
        try:
            found = VaultKeys(table).vault_id
        except DicomcryptError as error:
            table.close()
            return None, problem or error
        if found != vault_id:
            table.close()
            raise UsageError(f"{path!r}, in whose place the copy would go, is the key table of "
                             "another vault: it stays")
        return table, problem
    return None, problem


def _newest(store: Store, present: UnlockedKeyTable | None) -> int:
    """How many vault keys there are, as far as it can be known."""
    found = VaultKeys(present).generation if present is not None else 0
    with contextlib.suppress(MissingBlobError, struct.error):
        found = max(found, heads.sealed_under(store.read(heads.NAME, 0, 64)))
    return found


def _prepare(store: Store, table: UnlockedKeyTable, present: UnlockedKeyTable | None,
             force: bool, *, readable: bool) -> Restored:
    """Let a copy forget what was erased since, and know what was decided since. readable: whether
    it can open the store's head."""
    from .erasing import erasures

    keys = VaultKeys(table)
    gone = {record for _, records in erasures(store, keys) for record in records or ()}
    lost, there = 0, {info.id: info.kind for info in table.labels()}
    result = Restored(keys=sum(kind == RECORD for kind in there.values()),
                      accesses=tuple(table.accesses()), older=not readable)
    if present is not None:
        newer = {info.id: info.kind for info in present.labels()}
        gone |= {key_id for key_id, kind in newer.items() if kind == TOMBSTONE}
        lost = sum(kind not in (CACHE, TOMBSTONE, REPLACED) and key_id not in there
                   for key_id, kind in newer.items())
        if lost and not force:
            raise UsageError(
                f"the present key table opens, and has {lost} keys that the copy has not: what "
                "they are for would be lost; give --force if that is meant"
            )
    state = 0
    with table.transaction():
        for record in gone & there.keys():
            if there[record] == RECORD:
                table.bury(record, TOMBSTONE, str(time.time_ns()))
                result.buried += 1
        keys.renew_cache_key()
        for name in table.documents():
            if name == LEASES or name.startswith("erasing"):
                table.delete_document(name)
        if present is not None:
            state = VaultKeys(present).state if readable else 0
            for name in _NEWER:
                found = present.get_document(name)
                if found is not None:
                    table.put_document(name, found)
        with contextlib.suppress(MissingBlobError):
            if not readable:
                raise MissingBlobError
            # The store's head is taken as it is: nobody remembers a newer one.
            head = heads.open_head(keys, store.read(heads.NAME))
            state = max(state, head.generation)
            if state > keys.state:
                keys.raise_state(state, min(head.g, keys.generation))
    table.check()
    table.vacuum()
    result.lost = lost
    return result


def _aside(path: str) -> str:
    base = f"{path}.replaced-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    name, number = base, 1
    while os.path.lexists(name):
        number += 1
        name = f"{base}-{number}"
    return name


def _keep(path: str, aside: str) -> None:
    """Give the present table a second name, with the journal of a change that was cut short."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{path}-journal", f"{aside}-journal")
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links
        os.rename(path, aside)


def _remove(path: str) -> None:
    for name in (path, f"{path}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
