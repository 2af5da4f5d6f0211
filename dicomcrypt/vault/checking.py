"""Whether a vault's parts fit each other (docs/spec/vault-v1.md, 7); nothing is changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from ..container.reader import Container
from ..errors import DamagedError, DicomcryptError, MissingBlobError
from . import head as heads
from .erasing import PENDING, erasures, unnoted
from .lease import held
from .placing import journals
from .selecting import whole_record
from .shipped import shipped
from .stanza import StanzaKeys, VaultIdentity
from .store import Store, open_blob
from .vault import HEAD_NAME, REWRAP, Vault, object_name

_OBJECT = re.compile(r"objects/([0-9a-f]{2})/(\1[0-9a-f]{30})\.dcmx")
_SEGMENT = re.compile(r"catalogue/[0-9a-f]{32}\.seg")
_KNOWN = re.compile(r"erased/[0-9a-f]{32}|damaged/[0-9a-f]{32}\.dcmx(\.[0-9]+)?")
#: Objects that a worker checks at a time; fewer than `_FEW` are not worth a worker.
_CHUNK, _FEW = 256, 1024
Progress = Callable[[int, int], None]


class Finding(NamedTuple):
    """kind: a word; wrong: False for what a writer that was cut short leaves, and ends; name: of
    the blob, if it is about one; path: of the file in the vault, if it is known."""

    kind: str
    wrong: bool
    message: str
    name: str | None = None
    path: bytes | None = None


class Expected(NamedTuple):
    """What the catalogue says of an object. records: ids of all keys of its record."""

    object_id: bytes
    size: int | None
    core_digest: bytes | None
    generation: int
    path: bytes
    records: list[bytes]


def record_of(container: Container, identity: VaultIdentity) -> bytes | None:
    """Return the id of the record key that an object's newest slot needs; None if that does not
    open."""
    core = container.prefix.core
    for slot in sorted(container.slots, key=lambda slot: -slot.generation):
        for stanza in slot.stanzas:
            found = identity.record_of(stanza, core)
            if found is not None:
                return found[0]
    return None


def check_object(store: Store, expected: Expected, identity: VaultIdentity) -> Finding | None:
    """Check one object against its row; None if they fit."""
    name = object_name(expected.object_id)

    def finding(kind: str, message: str) -> Finding:
        return Finding(kind, True, message, name, expected.path)

    try:
        with contextlib.closing(open_blob(store, name)) as source:
            return _compare(Container(source), expected, identity, finding)
    except MissingBlobError:
        return finding("missing", "the object is gone")
    except (DicomcryptError, OSError) as error:
        return finding("damaged", str(error))
    return None


def _compare(container: Container, expected: Expected, identity: VaultIdentity,
             finding: Callable[[str, str], Finding]) -> Finding | None:  # fmt: skip
    digest = hashlib.sha256(container.prefix.core).digest()[:16]
    if container.prefix.core[16:32] != expected.object_id or (
        expected.core_digest is not None and digest != expected.core_digest
    ):
        return finding("other", "another object lies in its place")
    if expected.size is not None and container.size != expected.size:
        return finding("size", f"the object has {container.size} bytes, not {expected.size}")
    found = record_of(container, identity)
    if found is None:
        return finding("damaged", "the object's header does not open with the vault's keys")
    if found not in expected.records:
        return finding("record", "the object belongs to another record than its row")
    generation = container.unlock([identity]).unlocked.slot.generation
    if generation < expected.generation:
        return finding("old", f"the object's header is an old copy: generation {generation}, "
                              f"not {expected.generation}")
    return None


def _check_chunk(store: Store, keys: StanzaKeys, record_keys: dict[bytes, bytes],
                 chunk: list[Expected]) -> tuple[int, list[Finding]]:  # fmt: skip
    identity = keys.identity(record_keys.get)
    found = [check_object(store, expected, identity) for expected in chunk]
    return len(chunk), [finding for finding in found if finding is not None]


def _with_keys(chunk: list[tuple[Expected, dict[bytes, bytes]]]) -> tuple[Any, Any]:
    """Return the keys of all objects of a chunk, each once, and what they are expected to be."""
    keys: dict[bytes, bytes] = {}
    for found in {id(found): found for _, found in chunk}.values():
        keys |= found
    return keys, [expected for expected, _ in chunk]


class Check:
    """One look at a vault, opened without its catalogue; `run` yields findings.

    objects: ids of those that are there; orphans: of those without a row."""

    def __init__(self, vault: Vault, *, jobs: int = 1, progress: Progress | None = None) -> None:
        self.vault, self._jobs = vault, jobs
        self._progress = progress or (lambda done, total: None)
        self.objects: set[bytes] = set()
        self.orphans: list[bytes] = []
        self.checked = 0
        #: Whether the catalogue could be read.
        self.readable = False

    def run(self) -> Iterator[Finding]:
        vault = self.vault
        if not self.vault.has_header():
            yield Finding("header", True, "the header is gone or damaged: repair writes it anew",
                          HEAD_NAME)
        yield from self._keys()
        yield from self._catalogue()
        yield from self._names()
        yield from self._erasures()
        if self.readable:
            yield from self._objects()
            yield from self._orphans()
        if not self._writing:
            yield from self._left()
        if vault.keys.document(PENDING) is not None:
            yield Finding("erasing", False, "an erasure was cut short: the next writer ends it")

    # ---- what there is ----------------------------------------------------------

    def _keys(self) -> Iterator[Finding]:
        try:
            self.vault.keys.table.check()
        except DamagedError as error:
            yield Finding("keys", True, str(error))
        holder = held(self.vault.keys)
        if holder is not None:
            self._writing = holder.until > time.time_ns() and not holder.gone
            text = "another job writes to the vault" if self._writing else (
                "a writer was lost: the next one takes its place"
            )
            yield Finding("lease", False, f"{text} ({holder.purpose})")
        else:
            self._writing = False

    def _catalogue(self) -> Iterator[Finding]:
        vault = self.vault
        try:
            head = heads.read_head(vault.store, vault.keys)
        except DicomcryptError as error:
            yield Finding("head", True, str(error), heads.NAME)
            return
        if head.generation == vault.keys.state + 1:
            yield Finding("state", False, "a change of the catalogue was cut short at its end",
                          heads.NAME)
        whole = True
        for entry in head.segments:
            name = heads.segment_name(entry.segment_id)
            try:
                data = vault.store.read(name, 0, entry.size + 1)
                if hashlib.sha256(data).digest() != entry.digest:
                    whole = False
                    yield Finding("segment", True, "the segment was changed", name)
            except (DicomcryptError, OSError) as error:
                whole = False
                yield Finding("segment", True, str(error), name)
        self._segments = {heads.segment_name(entry.segment_id) for entry in head.segments}
        if whole:
            try:
                vault.catalogue.open()
                self.readable = True
                lost = keyless(vault)
                if lost:
                    yield Finding("keyless", True, lost)
            except DicomcryptError as error:
                yield Finding("catalogue", True, str(error))

    def _names(self) -> Iterator[Finding]:
        known = {HEAD_NAME, heads.NAME, *(name for name, _ in shipped())}
        segments = getattr(self, "_segments", None)
        for name in self.vault.store.list(""):
            found = _OBJECT.fullmatch(name)
            if found:
                self.objects.add(bytes.fromhex(found[2]))
            elif _SEGMENT.fullmatch(name):
                if segments is not None and name not in segments and not self._writing:
                    yield Finding("segment", False, "no head names this segment: the next "
                                  "compaction removes it", name)
            elif name not in known and not _KNOWN.fullmatch(name):
                yield Finding("stray", True, "nothing of a vault has such a name", name)
            elif not name.startswith("damaged/"):
                try:
                    self.vault.store.size(name)
                except DamagedError as error:
                    yield Finding("stray", True, str(error), name)

    def _erasures(self) -> Iterator[Finding]:
        keys = self.vault.keys
        bare = unnoted(self.vault)
        if bare:
            yield Finding("erasure", True, f"no note says that {len(bare)} keys were erased: an "
                          "old copy of the key table could bring them back (repair notes it)")
        for name, records in erasures(self.vault.store, keys):
            if records is None:
                yield Finding("erasure", True, "the note of an erasure is damaged", name)
            elif any(keys.record_key(record) is not None for record in records):
                yield Finding("revived", True, "the key table has keys that were erased: it is an "
                              "old copy (repair destroys them again)", name)

    def _left(self) -> Iterator[Finding]:
        """What jobs that were cut short left beside objects and catalogue."""
        parts = sum(1 for _ in self.vault.parts())
        if parts:
            yield Finding("parts", False, f"{parts} files that a killed writer had begun: `vault "
                          "repair` removes them")
        for path in journals(self.vault):
            yield Finding("journal", False, "an add was cut short, or some of its files failed: "
                          "give it again, or `vault repair` forgets it", os.path.basename(path))

    # ---- objects ------------------------------------------------------------------

    def _expected(self) -> Iterator[tuple[Expected, dict[bytes, bytes]] | Finding]:
        """What the catalogue says of all objects, each with its record's keys."""
        vault = self.vault
        whole: dict[bytes, tuple[list[bytes], dict[bytes, bytes]]] = {}
        seen: dict[bytes, tuple[bytes | None, bytes, int]] = {}
        for record, row in vault.catalogue.rows():
            if record not in whole:
                found = whole_record(vault.catalogue, [record])
                keys = {k: key for k in found if (key := vault.keys.record_key(k)) is not None}
                for key_id in found:
                    whole[key_id] = found, keys
            records, keys = whole[record]
            object_id = row.object_id or b""
            this = row.core_digest, records[0], row.generation or 0
            before = seen.get(object_id)
            if before is not None and before[:2] == this[:2] and before[2] >= this[2]:
                continue  # another path of the same file
            seen[object_id] = this
            if before is not None and before[:2] != this[:2]:
                yield Finding("doubled", True, "two rows tell different things of an object",
                              object_name(object_id), row.path)
            elif object_id in self.objects:
                yield Expected(object_id, row.object_size, row.core_digest,
                               row.generation or 0, row.path or b"", records), keys
            else:
                yield Finding("missing", True, "the object is gone", object_name(object_id),
                              row.path)
        self.orphans = sorted(self.objects - seen.keys())

    def _objects(self) -> Iterator[Finding]:
        vault = self.vault
        stanza_keys = vault.stanza_keys()
        total = vault.catalogue.stats()["objects"]
        chunks, findings = self._chunks()
        if self._jobs < 2 or total < _FEW:
            results: Iterable[Any] = (_check_chunk(vault.store, stanza_keys, *_with_keys(chunk))
                                      for chunk in chunks)
        else:
            results = self._parallel(stanza_keys, chunks)
        for count, found in results:
            self.checked += count
            self._progress(self.checked, total)
            yield from found
            yield from findings
            findings.clear()
        yield from findings

    def _chunks(self) -> tuple[Iterator[list[Any]], list[Finding]]:
        findings: list[Finding] = []

        def expected() -> Iterator[Any]:
            for found in self._expected():
                if isinstance(found, Finding):
                    findings.append(found)
                else:
                    yield found

        def chunks() -> Iterator[list[Any]]:
            rest = expected()
            while chunk := list(islice(rest, _CHUNK)):
                yield chunk

        return chunks(), findings

    def _parallel(self, keys: StanzaKeys, chunks: Iterator[list[Any]]) -> Iterator[Any]:
        from collections import deque
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn")) as pool:
            running: deque[Any] = deque()
            for chunk in chunks:
                running.append(pool.submit(_check_chunk, self.vault.store, keys,
                                           *_with_keys(chunk)))
                if len(running) > 2 * self._jobs:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _orphans(self) -> Iterator[Finding]:
        for object_id in self.orphans:
            kind, text = orphan_kind(self.vault, object_id)
            wrong = kind != "erased" and not self._writing
            yield Finding(kind, wrong, text, object_name(object_id))


def keyless(vault: Vault) -> str | None:
    """Say that the catalogue has records whose keys the key table lacks; None if it has not."""
    lost = vault.catalogue.keyless()
    if lost:
        lost -= {k for _, found in erasures(vault.store, vault.keys) for k in found or ()}
    if not lost:
        return None
    return (f"the catalogue has {len(lost)} record keys that the key table has not: is it an old "
            "copy?")


def orphan_kind(vault: Vault, object_id: bytes) -> tuple[str, str]:
    """What an object is that no row names."""
    try:
        with contextlib.closing(open_blob(vault.store, object_name(object_id))) as source:
            record = record_of(Container(source), vault.identity)
    except (DicomcryptError, OSError) as error:
        return "damaged", f"no row names the object, and it is damaged: {error}"
    if record is None:
        return "foreign", "the object is not of this vault"
    if vault.keys.is_buried(record):
        return "erased", "an object of a record that was erased: nobody can read it (repair " \
                         "--remove-erased)"
    if vault.keys.record_key(record) is None:
        return "keyless", "the key of the object's record is not in the key table"
    if vault.keys.document(REWRAP) is not None:
        return "rewrap", "the object belongs to a rewrap that was cut short: give `vault rewrap " \
                         "--deep` again"
    return "orphan", "no row names the object: repair gives it one"
