"""A vault, opened: its store, keys and catalogue together (docs/spec/vault-v1.md)."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..container.stanza import Identity, Recipient
from ..errors import DamagedError, DicomcryptError, MissingBlobError, UsageError
from ..keytable import KeyTable
from .catalogue import Catalogue
from .head import vault_of
from .keys import VaultKeys
from .lease import Lease
from .recipients import remember, remove
from .reserve import fill, reserve_path
from .shipped import shipped
from .stanza import StanzaKeys, VaultIdentity
from .store import FolderStore, Store, is_local

if TYPE_CHECKING:
    from .erasing import Erasure

HEADER, HEAD_NAME, OBJECTS = struct.Struct("<8s16sII"), "vault", "objects"
MAGIC = b"DCMXVLT1"
#: The document of a deep rewrap that is not at its end.
REWRAP = "rewrap"


def object_name(object_id: bytes) -> str:
    """The name of an object's blob."""
    text = object_id.hex()
    return f"{OBJECTS}/{text[:2]}/{text}.dcmx"


def keys_path_of(path: str) -> str:
    """Where a vault's key table lies if nothing else is said."""
    return os.path.abspath(path) + ".keys"


def is_vault(path: str) -> bool:
    """Whether a folder claims to be a vault."""
    try:
        return FolderStore(path).read(HEAD_NAME, 0, 8) == MAGIC
    except (DamagedError, MissingBlobError, UsageError, OSError):
        return False


class Vault:
    """An archive of objects, opened; a context manager. Made by `create` and `open`.

    beside: what begins the paths of what belongs to it on this machine, besides its key table."""

    def __init__(self, store: Store, keys: VaultKeys, keys_path: str) -> None:
        self.store, self.keys, self.keys_path = store, keys, keys_path
        self.beside = store.root if is_local(store) else keys_path
        self.cache_path = self.beside + ".cache"
        self.catalogue = Catalogue(store, keys, self.cache_path)
        #: Erasures that an earlier process began and this one ended.
        self.ended: list[Erasure] = []

    @classmethod
    def create(
        cls, path: str | os.PathLike[str] | Store, access: Mapping[str, Recipient], *,
        keys_path: str | None = None,
    ) -> Vault:
        """Make a vault in a folder that is new or empty, or in an empty store; return it opened.

        access: who may open it, by name, as for `KeyTable.create`. keys_path: its key table, by
        default the folder's path with `.keys`. Raises UsageError, OutputExistsError."""
        store = store_at(path)
        keys_path = keys_place(store, keys_path)
        if is_local(store) and (outer := _vault_around(store.root)):
            raise UsageError(f"{store.root!r} lies in the vault {outer!r}: give another place")
        new = is_local(store) and not os.path.lexists(store.root)
        if not new and not _is_empty(store):
            raise UsageError(f"{shown(store)} exists and is not empty: a vault needs a place of "
                             "its own")
        table = KeyTable.create(keys_path, access)
        try:
            keys = VaultKeys.create(table)
            remember(keys, access)
            for name, data in shipped():
                store.put_new(name, data)
            vault = cls(store, keys, keys_path)
            if is_local(store):
                vault.make_workplace()
                store.sync()
            vault.write_header()
            vault.catalogue.open()
            fill(keys_path)
            return vault
        except BaseException:
            table.close()
            os.unlink(keys_path)
            with contextlib.suppress(DicomcryptError, OSError):
                store.delete_many(list(store.list("")))
                if is_local(store):
                    store.remove_folders(root=new)
            raise

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | Store, *, keys_path: str | None = None,
        login: str | None = None, password: str | None = None,
        identities: Iterable[Identity] = (), catalogue: bool = True,
    ) -> Vault:
        """Open a vault by a login and its password, or by an identity.

        catalogue: False does not read it, nor the header, for those who find out what is wrong
        with them.

        Raises UsageError for what is no vault, DamagedError, and as `KeyTable.unlock` does."""
        vault_id: bytes | None
        try:
            store, vault_id = read_header(path)
        except DamagedError:
            if catalogue:
                raise
            store, vault_id = store_at(path), None
        keys_path = keys_place(store, keys_path)
        if not os.path.exists(keys_path):
            raise UsageError(
                f"the vault's key table {keys_path!r} is not there: give --keys FILE"
            )
        table = KeyTable(keys_path).unlock(login, password, identities=identities)
        try:
            keys = VaultKeys(table)
            if not catalogue and vault_of(store) == keys.vault_id:  # nothing rests on the header
                vault_id = keys.vault_id
            if vault_id != keys.vault_id:
                raise UsageError(f"{keys_path!r} is the key table of another vault than "
                                 f"{shown(store)}: give the right one with --keys")
            vault = cls(store, keys, keys_path)
            if catalogue:
                vault.catalogue.open()
            return vault
        except BaseException:
            table.close()
            raise

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Vault({self.store!r})"

    def close(self) -> None:
        """Lock it."""
        self.catalogue.close()
        self.keys.close()

    def has_header(self) -> bool:
        """Whether the header is this vault's."""
        try:
            return read_header(self.store)[1] == self.keys.vault_id
        except DicomcryptError:
            return False

    def write_header(self) -> None:
        """Put the header in its place, as it is now."""
        keys = self.keys
        self.store.replace(HEAD_NAME, HEADER.pack(MAGIC, keys.vault_id, keys.generation, 0))

    def remove_recipients(
        self, names: Sequence[str], *, given: Sequence[Recipient] = (),
        logins: Mapping[str, Recipient] | None = None, drop: bool = False,
    ) -> list[str]:
        """Take accesses away (`recipients.remove`); return the names that are gone, none if they
        were gone and only the end was missing.

        What they could read they could have kept: old copies of the key table open what was in
        the vault until now. Nothing that is added from now on."""
        with self.lease("vault recipients remove") as lease:
            if not {*names} & self.keys.table.accesses().keys() and self._end_removal():
                return []
            keys, gone = remove(self.keys, self.keys_path, names, given=given, logins=logins,
                                drop=drop)
            lease.moved(keys)
            self.catalogue.close()
            self.keys, self.catalogue = keys, Catalogue(self.store, keys, self.cache_path)
            self.catalogue.open()
            self._end_removal()
        return gone

    def _end_removal(self) -> bool:
        """Do what comes after the new key table has its place, unless that was done."""
        newest = HEADER.unpack(self.store.read(HEAD_NAME))[2]
        if newest >= self.keys.generation:
            return False
        self.catalogue.reseal()
        self.write_header()
        return True

    @contextlib.contextmanager
    def lease(self, purpose: str, *, finish: bool = True) -> Iterator[Lease]:
        """Return the writers' lease, to be held with `with`.

        finish: what an earlier writer left when it was lost is ended or removed first: an erasure
        (`ended` has those), segments without a head."""
        with Lease(self.keys, purpose) as lease:
            if finish:
                from .erasing import finish_pending

                self.ended += finish_pending(self)
                if lease.taken_over:
                    self.catalogue.refresh()
                    head = self.catalogue.head
                    if head.generation > self.keys.state:  # its last step was missing
                        self.keys.raise_state(head.generation, head.g)
                    self.catalogue.remove_orphans()
                    self.remove_parts()
            yield lease

    @property
    def identity(self) -> VaultIdentity:
        """Who opens the vault's objects, in this process."""
        keys = self.keys
        return VaultIdentity(
            keys.vault_id, lambda g: keys.derive(g, "stanza"), keys.record_key
        )

    def stanza_keys(self) -> StanzaKeys:
        """What workers open objects with, besides record keys."""
        keys = self.keys
        return StanzaKeys(keys.vault_id,
                          [keys.derive(g, "stanza") for g in range(1, keys.generation + 1)])

    def refuse_inside(self, path: str | os.PathLike[str]) -> None:
        """Raise UsageError for an output that would lie in the vault."""
        real = os.path.realpath(path)
        if not is_local(self.store):
            return
        root = os.path.realpath(self.store.root)
        if real == root or real.startswith(root + os.sep):
            raise UsageError(f"{os.fspath(path)!r} lies in the vault: give another place")

    @property
    def private_paths(self) -> tuple[str, ...]:
        """What lies beside the store and belongs to it: never to be added to itself."""
        own = (self.store.root,) if is_local(self.store) else (self.workplace,)
        return (*own, self.keys_path, f"{self.keys_path}-journal", self.cache_path,
                reserve_path(self.keys_path))

    # ---- where objects are written ------------------------------------------------

    @property
    def workplace(self) -> str:
        """The folder in which objects are written: their own, or one whose files are then put."""
        return os.path.join(self.store.root, OBJECTS) if is_local(self.store) else (
            f"{self.beside}.{OBJECTS}")

    def make_workplace(self) -> str:
        """Make the workplace and its folders; return it. Raises DamagedError for a link in it."""
        place = FolderStore(self.workplace)
        if is_local(self.store):
            self.store.make_folder(OBJECTS)
        for number in range(256):
            place.make_folder(f"{number:02x}")
        return self.workplace

    def parts(self) -> Iterator[str]:
        """Yield what a writer was about to write, or was killed over."""
        return FolderStore(self.store.root if is_local(self.store) else self.workplace).parts()

    def remove_parts(self) -> None:
        """Remove what a killed writer left half-written. Hold the writers' lease."""
        for path in list(self.parts()):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.leave_workplace()

    def leave_workplace(self) -> None:
        """Remove the workplace, unless it is the objects' own, or something is left in it."""
        if not is_local(self.store):
            FolderStore(self.workplace).remove_folders(root=True)


def store_at(path: str | os.PathLike[str] | Store) -> Store:
    """Return the store that is meant: a folder's, or one that was given itself.

    Of a link to a folder it is the folder, beside which the key table lies."""
    if not isinstance(path, str | os.PathLike):
        return path
    name = os.path.abspath(os.fspath(path))
    return FolderStore(os.path.realpath(name) if os.path.islink(name) else name)


def _vault_around(path: str) -> str | None:
    """Return the vault in whose folder a path lies, if it lies in one."""
    path = os.path.realpath(path)
    while path != (path := os.path.dirname(path)):
        if is_vault(path):
            return path
    return None


def _is_empty(store: Store) -> bool:
    if is_local(store):
        return os.path.isdir(store.root) and not os.listdir(store.root)
    return next(iter(store.list("")), None) is None


def read_header(path: str | os.PathLike[str] | Store) -> tuple[Store, bytes]:
    """Return the store in a folder, and the vault's id. Raises UsageError for what is no vault,
    DamagedError for one whose header is gone or damaged."""
    store = store_at(path)
    try:
        data = store.read(HEAD_NAME)
    except (DamagedError, MissingBlobError, UsageError, OSError):
        data = b""
    if data[:8] != MAGIC or len(data) != HEADER.size:
        if vault_of(store) is None:
            raise UsageError(f"{shown(store)} is no vault")
        raise DamagedError(f"the header of vault {shown(store)} is gone or damaged: `vault "
                           "repair` writes it anew")
    return store, HEADER.unpack(data)[1]


def shown(store: Store) -> str:
    """What a store is called in messages."""
    return repr(store.root if is_local(store) else store)


def keys_place(where: str | Store, given: str | None) -> str:
    """Return where the key table of a vault lies; raises UsageError for a place in the vault."""
    if not isinstance(where, str) and not is_local(where):
        if given is None:
            raise UsageError("the vault lies in no folder: say where its key table is")
        return os.path.abspath(given)
    path = where if isinstance(where, str) else where.root
    keys = keys_path_of(path) if given is None else os.path.abspath(given)
    if os.path.commonpath([os.path.realpath(path), os.path.realpath(keys)]) == os.path.realpath(
        path
    ):
        raise UsageError("the key table does not lie in the vault: whoever backs up both together "
                         "keeps what is to be erased")
    return keys
