"""Files that become a vault's objects: whose they are, and whether the vault has them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..container.header import FIRST_GENERATION
from ..container.stanza import FULL
from ..errors import MissingExtraError
from ..keys.batch import Envelope, Material
from ..objects.files import SourceFile
from ..trees.sealing import Sealer, Sealing
from .facts import FIRST, Owner, owner_of, read_facts
from .records import Grant
from .stanza import VaultRecipient

if TYPE_CHECKING:
    from ..objects.files import Progress
    from ..trees.walk import Entry

#: Records that a worker keeps ready.
_READY = 1024


class Hasher(Protocol):
    """What digests are made by: of hashlib, or of blake3."""

    def update(self, data: bytes | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


def keyed_hasher(key: bytes) -> Hasher:
    """Return a BLAKE3 hasher under a key of 32 bytes. Raises MissingExtraError."""
    try:
        from blake3 import blake3
    except ImportError:
        raise MissingExtraError(
            "deduplication needs blake3: pip install 'dicomcrypt[vault]', or give --no-dedupe"
        ) from None
    return blake3(key=key)


class VaultSealing(Sealing):
    """A file that is open, and what its row says."""

    __slots__ = ("digest", "duplicate", "facts", "hasher", "owner")
    _job: VaultSealer

    def __init__(self, job: VaultSealer, source: SourceFile, name: bytes | None) -> None:
        super().__init__(job, source, name)
        self.facts: dict[str, Any] = {}
        self.owner: Owner | None = None
        self.hasher: Hasher | None = None
        self.digest: bytes | None = None
        #: Whether the record has the same file already, so that no object is made.
        self.duplicate = False

    def look(self) -> Owner:
        """Find out whose it is, once."""
        if self.owner is not None:
            return self.owner
        if self.source.link is None:
            descriptor, size = self.source.descriptor, self.source.status.st_size

            def more(length: int) -> memoryview:
                return memoryview(os.pread(descriptor, length, 0))

            data = self.data
            self.facts = read_facts(more(min(FIRST, size)) if data is None else data, size, more)
        self.owner = owner_of(self.facts)
        return self.owner

    def draw_keys(self) -> None:
        grant, materials = self._job.grant(self.look())
        if self._job.dedupe and self.source.link is None:
            self._compare(grant)
        if not self.duplicate:
            self.material = next(materials)

    def _compare(self, grant: Grant) -> None:
        hasher = keyed_hasher(grant.dedupe_key)
        known = grant.known.get(self.source.status.st_size)
        data = self.data
        if data is not None:
            hasher.update(data)
            self.digest = hasher.digest()
        elif known is not None:
            self._read_through(hasher)
            self.digest = hasher.digest()
        else:  # as it is read to be encrypted
            self.hasher, self.source.tee = hasher, hasher.update
        if self.digest is not None and known is not None:
            short = self.digest[:16]
            at = known.find(short)
            while at > 0 and at % 16:
                at = known.find(short, at + 1)
            self.duplicate = at >= 0

    def _read_through(self, hasher: Hasher) -> None:
        read, window, size = self.source.reader(), memoryview(self._job.buffers.window), 0
        while got := read(window):
            hasher.update(window[:got])
            size += got
        window.release()
        self.source.check_unchanged(size)
        # The encoder reads from the descriptor's place on.
        os.lseek(self.source.descriptor, 0, os.SEEK_SET)

    def seal(self) -> None:
        if not self.duplicate:
            super().seal()

    def row(self, path: bytes, size: int) -> tuple[bytes, dict[str, Any]]:
        """Return the record key's id, and the fields of the catalogue's row; the file was
        written as an object of `size` bytes, or is there already."""
        self.source.tee = None
        if self.hasher is not None:
            self.digest = self.hasher.digest()
        fields = {
            **self.facts, "path": path, "size": self.source.status.st_size,
            "mtime_ns": max(self.source.status.st_mtime_ns, 0), "added_ns": time.time_ns(),
        }  # fmt: skip
        if self.digest is not None:
            fields["dedupe_digest"] = self.digest
        if self.material is not None:
            core = self.material.keys.core
            fields |= {"object_id": core[16:32], "object_size": size,
                       "core_digest": hashlib.sha256(core).digest()[:16],
                       "generation": FIRST_GENERATION}
        return self._job.grant(self.look())[0].record_id, fields


class VaultSealer(Sealer):
    """Opens the files of a worker's tasks; their keys are wrapped for the record of each.

    ask: asks the job's process for the grants of owners."""

    def __init__(
        self, root: bytes, vault_id: bytes, generation: int, stanza_key: bytes,
        method: int | None, *, stored_name: Callable[[bytes], bytes], dedupe: bool, tell: Progress,
        ask: Callable[[list[Owner]], list[Grant]],
    ) -> None:  # fmt: skip
        self._vault = vault_id, generation, stanza_key
        self.dedupe, self._ask = dedupe, ask
        self._grants: dict[Owner, tuple[Grant, Iterator[Material]]] = {}
        nobody = Envelope({FULL: [VaultRecipient(*self._vault, bytes(16), bytes(32))]})
        super().__init__(root, nobody, method, signer=None, stored_name=stored_name,
                         force_scopes=True, ahead=True, tell=tell)

    def made_of(self, source: SourceFile, name: bytes | None) -> VaultSealing:
        return VaultSealing(self, source, name)

    def take(self, entry: Entry, *, link: bool) -> VaultSealing:
        return cast("VaultSealing", super().take(entry, link=link))  # of `made_of`

    def prepare(self, files: list[Sealing]) -> None:
        """Find out whose they are, and have the keys of all of these."""
        owners = dict.fromkeys(f.look() for f in files if isinstance(f, VaultSealing))
        missing = [owner for owner in owners if owner not in self._grants]
        if missing:
            self._fetch(missing, {*owners})

    def _fetch(self, missing: list[Owner], kept: set[Owner]) -> None:
        if len(self._grants) + len(missing) > _READY:
            self._grants = {o: found for o, found in self._grants.items() if o in kept}
        for owner, grant in zip(missing, self._ask(missing), strict=True):
            recipient = VaultRecipient(*self._vault, grant.record_id, grant.record_key)
            self._grants[owner] = grant, Envelope({FULL: [recipient]}).supply()

    def grant(self, owner: Owner) -> tuple[Grant, Iterator[Material]]:
        """What is needed to encrypt for a record that was prepared."""
        if owner not in self._grants:
            self._fetch([owner], {owner})
        return self._grants[owner]
