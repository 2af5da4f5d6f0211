"""Everything in a vault encrypted anew, under new record keys (`vault rewrap --deep`)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from ..container.header import FIRST_GENERATION
from ..container.stanza import FULL
from ..errors import DicomcryptError
from ..keys.batch import Envelope, Material
from ..objects.atomic import AtomicFile
from ..objects.buffers import FileSink
from ..objects.decoder import decode
from ..objects.encoder import Encoder
from ..objects.files import Buffers, Progress
from ..objects.rewrap import Pump, method_of
from ..trees.job import Guarded, Output, Watch, run
from ..trees.pool import Outcome, Worker
from ..trees.tree import EARLY
from ..trees.walk import Listing
from .adding import unfinished
from .doubles import Doubles
from .holds import holds, rename_records, retentions
from .merging import merges, rename_merged
from .placing import ObjectCheckpoints, journal_of, object_mtime, working
from .reading import Listed, VaultOpener, Wanted, blob_path, wanted, worker_identity
from .rows import Row
from .sealing import Hasher, keyed_hasher
from .selecting import identities_of, whole_record
from .stanza import StanzaKeys, VaultRecipient
from .store import Store
from .vault import OBJECTS, REWRAP, Vault, object_name

#: Of the document: the vault key's generation that all keys are to have, and the objects that go
#: once others have their places.
DOCUMENT = REWRAP
_GENERATION, _OLD = range(2)
_ROWS = 4096


class _Hashing(Pump):
    """A pump that shows what goes through it to a hasher."""

    def __init__(self, encoder: Encoder, hasher: Hasher | None) -> None:
        super().__init__(encoder)
        self._hasher = hasher

    def take(self, size: int, rest: int) -> None:
        if self._hasher is not None:
            self._hasher.update(self.room(size)[:size])
        super().take(size, rest)


class _Question:
    """What a worker asks: the key that opens an object, or the one that its record has now."""

    RECORD, SUCCESSOR = range(2)


def _rekeyer(
    store: Store, objects: bytes, keys: StanzaKeys, generation: int, run_id: str, tell: Progress,
    ask: Callable[[tuple[int, bytes]], Any],
) -> Worker:  # fmt: skip
    def record_key(key_id: bytes) -> bytes | None:
        key: bytes | None = ask((_Question.RECORD, key_id))
        return key

    opener = VaultOpener(store, [worker_identity(keys, record_key)])
    buffers = Buffers()
    supplies: dict[bytes, Iterator[Material]] = {}

    def work(task: Wanted) -> Outcome:
        shown = os.fsdecode(task.relative)
        if task.before is not None:
            return Outcome(shown, "skipped", message="encrypted anew before")
        record_id, new_key, dedupe_key = ask((_Question.SUCCESSOR, task.object_id))
        if record_id not in supplies:
            if len(supplies) >= 1024:
                supplies.clear()
            recipient = VaultRecipient(keys.vault_id, generation, keys.keys[generation - 1],
                                       record_id, new_key)
            supplies[record_id] = Envelope({FULL: [recipient]}).supply()
        material = next(supplies[record_id])
        core = material.keys.core
        target = os.path.join(objects, blob_path(core[16:32]))
        with contextlib.closing(opener.take(task)) as found:
            opened = found.container
            with AtomicFile(target, sync=False, run=run_id) as file:
                sink = FileSink(file.raw, buffers.sealed)
                encoder = Encoder(sink, material, method_of(opened),
                                  meta=opened.closing_index().meta, scratch=buffers.scratch)
                hasher = keyed_hasher(dedupe_key) if dedupe_key else None
                pump = _Hashing(encoder, hasher)
                decode(opened, pump, buffers.window)
                pump.finish()
                sink.flush()
                size = sink.position
                file.keep(mode=0o600, mtime_ns=object_mtime(), start_writing=size >= EARLY)
        tell(task.size)
        fields = {"object_id": core[16:32], "object_size": size, "generation": FIRST_GENERATION,
                  "core_digest": hashlib.sha256(core).digest()[:16],
                  "dedupe_digest": hasher.digest() if hasher else None}
        return Outcome(shown, "done", file.path, task.size, size, part=file.part,
                       relative=task.relative, seen=(task.size, task.mtime_ns),
                       object_id=core[16:32], details={"new": (task.object_id, record_id, fields)})

    return Guarded(work, objects, opener.begin)


class _Successors:
    """Which record key takes the place of which."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._found: dict[bytes, bytes] = {}
        #: What a run that was cut short made.
        self._pending = vault.keys.successors()
        #: Identity rows that the catalogue does not have yet.
        self.new: dict[bytes, list[Row]] = {}

    def of(self, key_id: bytes) -> bytes:
        keys = self._vault.keys
        if key_id not in self._found:
            if keys.is_current(key_id):
                self._found[key_id] = key_id
            else:
                self._found[key_id] = self._make(key_id)
        return self._found[key_id]

    def _make(self, key_id: bytes) -> bytes:
        """Find or make the key for what is under this one. Each key's own identity, its first one,
        stays the first: `merges` and deduplication go by it."""
        catalogue, keys = self._vault.catalogue, self._vault.keys
        record = whole_record(catalogue, [key_id])
        own = catalogue.identities(key_id)[:1]
        same = [k for k in record if catalogue.identities(k)[:1] == own]
        found = [k for k in same if keys.is_current(k)]
        found += [self._found[k] for k in same if k in self._found]
        found += [k for one in same for k in self._pending.get(one, ()) if keys.is_current(k)]
        made = found[0] if found else keys.new_record_key(replaces=key_id)[0]
        known = [who.encode() for who in [*catalogue.identities(made), *self.new.get(made, ())]]
        missing = [who for who in identities_of(catalogue, [key_id, *record])
                   if who.encode() not in known]
        if missing:
            self.new.setdefault(made, []).extend(missing)
        return made

    def answer(self, question: tuple[int, bytes]) -> Any:
        kind, found = question
        keys = self._vault.keys
        if kind == _Question.RECORD:
            return keys.record_key(found)
        rows = self._vault.catalogue.object(found)
        made = self.of(rows[0][0])
        digest = any(row.dedupe_digest is not None for _, row in rows)
        return made, keys.record_key(made), keys.dedupe_key(made) if digest else None


def _begin(vault: Vault) -> int:
    """The generation that everything is to have: a new one, or that of a job that was cut short,
    whose remains go."""
    document = vault.keys.document(DOCUMENT)
    if document is not None:
        _sweep(vault, document.get(_OLD, []))
        before: int = document[_GENERATION]
        return before
    with vault.keys.transaction():
        generation = vault.keys.new_generation()
        vault.keys.put_document(DOCUMENT, {_GENERATION: generation, _OLD: []})
    vault.catalogue.reseal()
    vault.write_header()
    return generation


def _forget_copies(vault: Vault) -> None:
    """Delete what a run that was cut short made, and nobody knows of: its journal was lost."""
    from .repairing import read_row

    doubles, catalogue = Doubles(vault), vault.catalogue
    for name in vault.store.list(f"{OBJECTS}/"):
        with contextlib.suppress(DicomcryptError, OSError, ValueError):  # `check` tells of others
            object_id = bytes.fromhex(name[-37:-5])
            if catalogue.object(object_id):
                continue
            record, row, who = read_row(vault, object_id)
            doubles.learn(who, record)
            if doubles.of(who, row) is not None:
                vault.store.delete(name)


def _sweep(vault: Vault, old: list[bytes]) -> None:
    """Delete objects of which no row is left."""
    for object_id in old:
        if not vault.catalogue.object(object_id):
            vault.store.delete(object_name(object_id))


def rewrap_deep(
    vault: Vault, jobs: int = 1, *, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Encrypt every object anew, under new keys and ids; yield an outcome an object.

    The old objects and record keys are deleted. Given again, a job that was killed goes on; while
    it runs, everything can be read. Raises JobBusyError, DiskFullError, WorkerLostError."""
    with (
        vault.lease("vault rewrap") as lease,
        working(vault) as objects,
        Output(objects, objects, [b"vault rewrap", vault.keys.vault_id],
               journal=journal_of(vault, REWRAP, objects)) as output,
    ):
        if vault.keys.document(DOCUMENT) is not None and not output.journal.resumed:
            _forget_copies(vault)
        generation = _begin(vault)
        successors = _Successors(vault)
        tasks, old_keys = {}, {k for k in vault.catalogue.records() if not vault.keys.is_current(k)}
        for key_id, row in vault.catalogue.rows():
            if key_id in old_keys:
                tasks[row.object_id] = wanted(row, blob_path(row.object_id or b""))
        survey = Listed(list(tasks.values()))
        del tasks

        def looking(survey: Listing, done: int) -> None:
            lease.renew()
            if watch is not None:
                watch(survey, done)

        checkpoints = ObjectCheckpoints(vault, output.journal)
        arguments = (vault.store, os.fsencode(objects), vault.stanza_keys(),
                     vault.keys.generation, output.journal.run)
        entries = unfinished(output.tasks(survey, mirror=False), vault)
        whole, waiting = True, []
        try:
            for outcome in run(survey, entries, _rekeyer, arguments, jobs, checkpoints=checkpoints,
                               watch=looking, start_method=start_method,
                               answer=successors.answer):
                if outcome.state != "done":
                    whole = whole and outcome.state != "failed"
                    yield outcome
                    continue
                waiting.append(outcome)
                if len(waiting) >= _ROWS:
                    ready, waiting = waiting, []
                    _replace(vault, successors, ready, generation)
                    yield from ready
        finally:
            with vault.keys.transaction():
                lease.check()
            ready, waiting = waiting, []
            _replace(vault, successors, ready, generation)
        yield from ready
        if whole:
            _end(vault, old_keys)
        output.finish(sync=True, keep_journal=not whole)


def _replace(
    vault: Vault, successors: _Successors, outcomes: list[Outcome], generation: int
) -> None:
    """Let the catalogue name the new objects in the place of the old ones, which go."""
    if not outcomes:
        return
    rows: dict[bytes, list[Row]] = {}
    old = []
    for outcome in outcomes:
        before, record_id, fields = outcome.details.pop("new")
        old.append(before)
        if record_id in successors.new:
            rows.setdefault(record_id, []).extend(successors.new.pop(record_id))
        for key_id, row in vault.catalogue.object(before):
            rows.setdefault(key_id, []).append(row.removed())
            rows.setdefault(record_id, []).append(dataclasses.replace(row, **fields))
    vault.keys.put_document(DOCUMENT, {_GENERATION: generation, _OLD: old})
    vault.catalogue.append(rows)
    _sweep(vault, old)


def heirs(vault: Vault, key_ids: set[bytes]) -> dict[bytes, bytes]:
    """Return which keys of their records take the places of these, if there are some."""
    keys, catalogue, found = vault.keys, vault.catalogue, {}
    for key_id in key_ids:
        own = catalogue.identities(key_id)[:1]
        left = [k for k in whole_record(catalogue, [key_id])
                if k not in key_ids and keys.record_key(k) is not None]
        if left:
            found[key_id] = next((k for k in left if catalogue.identities(k)[:1] == own), left[0])
    return found


def _end(vault: Vault, old_keys: set[bytes]) -> None:
    """Nothing is under the old keys any more: they go, and what they sealed.

    What the key table says of them is said of the new ones in the same transaction. A key of which
    something is said, of a record without any object, stays."""
    keys = vault.keys
    old_keys = old_keys - {key_id for key_id, _ in vault.catalogue.rows(old_keys)}
    with keys.transaction():
        said = {h.record for h in holds(keys)} | retentions(keys).keys()
        said |= {key_id for pair in merges(keys) for key_id in pair}
        named = heirs(vault, old_keys)
        old_keys -= said - named.keys()
        keys.replace_records({old: named.get(old) for old in old_keys})
        named = {old: new for old, new in named.items() if old in said}
        rename_records(keys, named)
        rename_merged(keys, named)
        keys.renew_cache_key()
    vault.catalogue.forget(old_keys)
    vault.catalogue.compact()
    there = set(vault.catalogue.records())
    heirs_of = keys.replaced()
    unused = {made: heirs_of.get(old) for old, found in keys.successors().items() for made in found
              if made not in there}
    with keys.transaction():
        keys.table.delete_document(DOCUMENT)
        keys.replace_records(unused)  # copies of the table may have them
