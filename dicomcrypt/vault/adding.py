"""Files into a vault: a tree's job whose outputs get rows in the catalogue."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import (
    AlreadyEncryptedError,
    DamagedError,
    DiskFullError,
    UnsafePathError,
    UsageError,
)
from ..objects.atomic import AtomicFile, taken_over
from ..objects.files import Progress
from ..objects.readback import read_back
from ..trees.checkpoint import FULL
from ..trees.job import Guarded, Output, Watch, run
from ..trees.names import safe_relative
from ..trees.pool import Factory, Outcome, Worker
from ..trees.tree import EARLY, entries_of
from ..trees.walk import Entry, Listing, Survey
from . import reserve
from .facts import Owner, owner_of
from .merging import renamed
from .placing import ObjectCheckpoints, discard, journal_of, object_mtime, working
from .reading import blob_path
from .records import Grant, Records
from .rows import Row
from .sealing import VaultSealer
from .vault import Vault

ADDED_BEFORE, DUPLICATE = "added before", "the same file is in its record already"
#: Rows that are put into the catalogue at a time, and how long one waits.
_ROWS, _SECONDS = 8192, 30.0


class MakeWriters(Protocol):
    """Makes a pool, as `trees.pool.MakePool` does, of workers who write into `folder`; sync: what
    they wrote is on the medium when they say that it is done."""

    def __call__(
        self, factory: Factory, arguments: tuple[Any, ...], answer: Any, *, folder: str, sync: bool
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How files are added. method, links, verify, sync: as of EncryptOptions. dedupe: a file
    that its record has already is not stored again."""

    method: int | None = -1
    links: str = "keep"
    verify: bool = False
    dedupe: bool = True
    sync: bool = True


# ---- in the worker ---------------------------------------------------------


def _adder(
    root: bytes, objects: bytes, prefix: bytes, named: bool, vault: tuple[bytes, int, bytes],
    options: AddOptions, run_id: str, tell: Progress, ask: Callable[[list[Owner]], list[Grant]],
) -> Worker:
    def stored(relative: bytes) -> bytes:
        return prefix + (os.path.basename(relative) if named else relative)

    sealer = VaultSealer(root, *vault, options.method, stored_name=stored, dedupe=options.dedupe,
                         tell=tell, ask=ask)

    def work(entry: Entry) -> Outcome:
        path = os.path.join(root, entry.relative)
        shown = os.fsdecode(path)
        if entry.kind == "link" and options.links == "skip":
            return Outcome(shown, "skipped", message="symbolic link")
        if entry.before is not None:
            return Outcome(shown, "skipped", message=ADDED_BEFORE)
        seen = entry.size, entry.mtime_ns
        if entry.kind == "link" and options.links == "follow":
            status = os.stat(path)
            seen = status.st_size, status.st_mtime_ns
        try:
            sealing = sealer.take(entry, link=entry.kind == "link" and options.links == "keep")
        except AlreadyEncryptedError:
            return Outcome(shown, "skipped", message="a DCMX object already")
        with sealing:
            name = stored(entry.relative)
            if sealing.duplicate:
                size = sealing.source.status.st_size
                tell(size)
                return Outcome(shown, "done", bytes_in=size, relative=entry.relative, seen=seen,
                               details={"row": sealing.row(name, 0)})
            material = sealing.keys()
            object_id = material.keys.core[16:32]
            target = os.path.join(objects, blob_path(object_id))
            details: dict[str, Any] = {}
            with AtomicFile(target, sync=False, run=run_id) as file:
                read, size = sealing.write(file)
                details["row"] = sealing.row(name, size)
                if options.verify:
                    os.fsync(file.descriptor)
                    details["verified"] = read_back(file.part, sealing.source, material,
                                                    sealer.buffers)
                file.keep(mode=0o600, mtime_ns=object_mtime(),
                          start_writing=options.sync and size >= EARLY)
            return Outcome(shown, "done", file.path, read, size, details=details, part=file.part,
                           relative=entry.relative, seen=seen, object_id=object_id)

    return Guarded(work, root, sealer.begin)


# ---- in the job's process --------------------------------------------------


class _Checkpoints(ObjectCheckpoints):
    """Checkpoints that drop the object of a file that its record has, or gets, from elsewhere.

    A duplicate is final when the first one has its name."""

    def __init__(self, records: Records, vault: Vault, *arguments: Any, **options: Any) -> None:
        super().__init__(vault, *arguments, **options)
        self._records = records
        #: Duplicates by the object id of a first one that has no name yet.
        self._pending: dict[bytes, list[Outcome]] = {}
        self._final: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        digest = outcome.details["row"][1].get("dedupe_digest")
        if digest is not None and self.claimed(outcome, digest[:16]):
            part, _ = outcome.in_progress()
            with contextlib.suppress(OSError):
                os.unlink(part)
            taken_over(part)
            outcome.part = outcome.output = None
            outcome.bytes_out = 0
            return
        self._pending[outcome.object_id or b""] = []
        super().add(outcome)

    def claimed(self, outcome: Outcome, digest: bytes) -> bool:
        """Whether an object with this digest is there, or on its way; then the outcome gets it."""
        fields = outcome.details["row"][1]
        first = self._records.claims.setdefault(digest, outcome.object_id or b"")
        if first == outcome.object_id:
            return False
        outcome.object_id = fields["object_id"] = first
        if first in self._pending:
            self._pending[first].append(outcome)
        else:
            self._final.append(outcome)
        return True

    def poll(self) -> Iterator[Outcome]:
        for outcome in super().poll():
            yield from self._settled(outcome)
        yield from self._take_final()

    def finish(self) -> Iterator[Outcome]:
        for outcome in super().finish():
            yield from self._settled(outcome)
        yield from self._take_final()

    def _take_final(self) -> Iterator[Outcome]:
        final, self._final = self._final, []
        yield from final

    def _settled(self, outcome: Outcome) -> Iterator[Outcome]:
        yield outcome
        for waiting in self._pending.pop(outcome.object_id or b"", ()):
            if outcome.state == "failed":
                waiting = Outcome(waiting.path, "failed", exit_status=1, message="the same file "
                                  "under another path could not be stored: add it again")
            yield waiting

    def _name(self, outcome: Outcome) -> Outcome:
        named = super()._name(outcome)
        if named is not outcome:
            named.object_id = outcome.object_id
            digest = outcome.details["row"][1].get("dedupe_digest")
            if digest is not None:
                self._records.claims.pop(digest[:16], None)
        return named


class _Book:
    """Puts rows into the catalogue, many at a time; outcomes are final after that."""

    def __init__(self, vault: Vault, records: Records, check: Callable[[], None]) -> None:
        self._vault, self._records, self._check = vault, records, check
        self._rows: dict[bytes, list[Row]] = {}
        self._waiting: list[Outcome] = []
        self._since = time.monotonic()

    def take(self, outcome: Outcome) -> Iterator[Outcome]:
        entry = outcome.details.pop("row", None)
        if entry is None or outcome.state != "done":
            yield outcome
            return
        record_id, fields = entry
        if outcome.output is None:  # a duplicate
            if self._records.there(fields["object_id"], fields["path"]):
                yield Outcome(outcome.path, "skipped", message=ADDED_BEFORE)
                return
            first = self._original(fields["object_id"])
            fields |= first
            outcome.message = DUPLICATE
        row, shown = Row(**fields), self._records.shown.get(owner_of(fields))
        self._rows.setdefault(record_id, []).append(row if shown is None else renamed(row, shown))
        self._waiting.append(outcome)
        if len(self._waiting) >= _ROWS or time.monotonic() - self._since >= _SECONDS:
            yield from self.flush()

    def _original(self, object_id: bytes) -> dict[str, Any]:
        """What a duplicate's row has from the object that is there."""
        for rows in self._rows.values():
            for row in reversed(rows):
                if row.object_id == object_id:
                    return _object_fields(row)
        found = self._vault.catalogue.object(object_id)
        if not found:
            raise DamagedError("the catalogue lost an object while files were added")
        return _object_fields(found[0][1])

    def save(self) -> None:
        """Put all rows into the catalogue that it does not have."""
        rows, self._rows = self._rows, {}
        self._since = time.monotonic()
        if rows:
            self._check()
            for record_id, identity in self._records.identities(set(rows)).items():
                rows[record_id].insert(0, identity)
            self._vault.catalogue.append(rows)

    def flush(self) -> Iterator[Outcome]:
        self.save()
        waiting, self._waiting = self._waiting, []
        yield from waiting


def _object_fields(row: Row) -> dict[str, Any]:
    return {"object_size": row.object_size, "core_digest": row.core_digest,
            "generation": row.generation}


def unfinished(tasks: Iterator[Entry], vault: Vault) -> Iterator[Entry]:
    """Tasks, without what an earlier run knew of those whose objects have no row.

    Their objects go: between their names and their rows the job was killed."""
    for entry in tasks:
        before = entry.before
        if before is None:
            yield entry
            continue
        found = before.object_id and vault.catalogue.object(before.object_id)
        if not found:
            discard(vault, before.object_id or bytes(16), before.part)
        if not found or (entry.size, entry.mtime_ns) != (before.size, before.mtime_ns):
            entry = entry._replace(before=None)
        yield entry


def add_tree(
    vault: Vault, root: str, options: AddOptions, jobs: int = 1, *, prefix: str | None = None,
    watch: Watch | None = None, start_method: str | None = None,
    pool: MakeWriters | None = None,
) -> Iterator[Outcome]:
    """Add a file, or every file below a folder; yield an outcome an entry.

    prefix: what stands before the paths in the vault, by default a folder's name. A job that
    was killed goes on when it is given again. pool: makes the workers, as of `trees.job.run`, told
    `folder`, into which they write, and `sync` besides. Raises JobBusyError, DiskFullError,
    WorkerLostError.
    """
    folder = os.path.abspath(root)
    if not os.path.isdir(folder):
        yield from add_files(vault, [root], options, jobs, prefix=prefix or "", watch=watch,
                             start_method=start_method)
        return
    if prefix is None:
        prefix = os.path.basename(os.path.realpath(root))
    _refuse_private(vault, root)
    yield from _add(vault, folder, (), _stored_prefix(prefix), options,
                    lambda private: entries_of(folder, private), jobs, watch, start_method, pool)


def add_files(
    vault: Vault, paths: Sequence[str], options: AddOptions, jobs: int = 1, *, prefix: str = "",
    watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Add files, as one job, under their names without folders; as `add_tree` otherwise."""
    for path in paths:
        _refuse_private(vault, path)
    places = list(dict.fromkeys(map(os.path.abspath, paths)))
    folder = os.path.commonpath(map(os.path.dirname, places))
    names = [os.fsencode(os.path.relpath(path, folder)) for path in places]
    yield from _add(vault, folder, names, _stored_prefix(prefix), options,
                    lambda _: (_named(folder, name) for name in names), jobs, watch, start_method)


def _stored_prefix(prefix: str) -> bytes:
    before = os.fsencode(prefix.strip("/")) + b"/" if prefix.strip("/") else b""
    if before:
        try:
            safe_relative(before[:-1])
        except UnsafePathError:
            raise UsageError(f"--prefix {prefix!r}: a path without empty parts, . and ..") from None
    return before


def _refuse_private(vault: Vault, path: str) -> None:
    real = os.path.realpath(path)
    private = [os.path.realpath(found) for found in vault.private_paths]
    if real in private or real.startswith(private[0] + os.sep):
        raise UsageError(f"{path!r} is the vault itself, or a part of it")


def _named(folder: str, name: bytes) -> Entry:
    path = os.path.join(os.fsencode(folder), name)
    try:
        status = os.lstat(path)
    except OSError as error:
        return Entry(name, "error", error=(error.strerror or "").lower())
    if os.path.islink(path):
        return Entry(name, "link", 0, status.st_mtime_ns)
    if not os.path.isfile(path):
        return Entry(name, "other")
    return Entry(name, "file", status.st_size, status.st_mtime_ns, status.st_nlink)


def _add(
    vault: Vault, folder: str, names: Sequence[bytes], prefix: bytes, options: AddOptions,
    entries: Callable[[tuple[str, ...]], Iterator[Entry]], jobs: int, watch: Watch | None,
    start_method: str | None, pool: MakeWriters | None = None,
) -> Iterator[Outcome]:
    """Add what is in a folder, under one lease and with one journal.

    names: of files that were named, relative to the folder; they are stored without theirs."""
    how = options.method, options.links, options.dedupe
    job = [b"vault add", repr(how).encode(), prefix, *names, vault.keys.vault_id]
    named = hashlib.blake2b(b"\0".join(names), digest_size=16).hexdigest() if names else ""
    journal = journal_of(vault, f"add{named}", folder)
    with (
        vault.lease("vault add") as lease,
        working(vault) as objects,
        Output(folder, objects, job, journal=journal) as output,
    ):
        reserve.fill(vault.keys_path)
        private = (*vault.private_paths, output.journal.path, f"{output.journal.path}-journal")
        survey = Survey(lambda: entries(private))
        place = os.fsencode(os.path.realpath(folder)) + b"\0" + prefix
        records = Records(vault, dedupe=options.dedupe, place=place)
        checkpoints = _Checkpoints(records, vault, output.journal, sync=options.sync)

        def check() -> None:
            with vault.keys.transaction():
                lease.check()

        def looking(survey: Listing, done: int) -> None:
            lease.renew()
            if watch is not None:
                watch(survey, done)

        book = _Book(vault, records, check)
        g = vault.keys.generation
        keys = vault.keys.vault_id, g, vault.keys.derive(g, "stanza")
        arguments = (os.fsencode(folder), os.fsencode(objects), prefix,
                     bool(names), keys, options, output.journal.run)
        whole = True
        made = None if pool is None else functools.partial(pool, folder=objects, sync=options.sync)
        tasks = unfinished(output.tasks(survey, mirror=False), vault)
        try:
            for outcome in run(survey, tasks, _adder, arguments, jobs, checkpoints=checkpoints,
                               watch=looking, start_method=start_method, answer=records.answer,
                               pool=made):
                whole = whole and outcome.state != "failed"
                for final in _through(checkpoints, outcome):
                    yield from book.take(final)
            for outcome in checkpoints.finish():
                yield from book.take(outcome)
            yield from book.flush()
        except BaseException as error:
            with contextlib.suppress(Exception):
                book.save()
            if isinstance(error, OSError) and error.errno in FULL:
                raise DiskFullError(
                    f"{vault.beside!r}: no room is left for the catalogue: make room, then "
                    "give the same command again, which goes on from here"
                ) from None
            raise
        finally:
            with contextlib.suppress(Exception):
                records.close()
            if pool is not None:  # lost workers, on other machines, cannot clear up
                vault.remove_parts()
        output.finish(sync=options.sync, keep_journal=not whole)


def _through(checkpoints: _Checkpoints, outcome: Outcome) -> list[Outcome]:
    """What a worker found to be a duplicate waits for the first one, as other duplicates do."""
    row = outcome.details.get("row")
    if row is None or outcome.object_id is not None or outcome.state != "done":
        return [outcome]
    digest = row[1]["dedupe_digest"][:16]
    if not checkpoints.claimed(outcome, digest):
        raise DamagedError("a worker found a duplicate of a file that is not there")
    return []
