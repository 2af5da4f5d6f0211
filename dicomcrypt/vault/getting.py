"""Files out of a vault, and its objects verified, at the speed of trees."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ..container.reader import Container
from ..errors import OutputExistsError, UsageError
from ..objects.atomic import AtomicFile
from ..objects.decoder import FileOutput, decode
from ..objects.files import (
    Buffers,
    Progress,
    decrypted_before,
    plain_mode,
    plain_streams,
    verify_opened,
)
from ..objects.signing import unlock
from ..trees.checkpoint import Checkpoints
from ..trees.job import Guarded, Output, Watch, run
from ..trees.names import check_folders, safe_relative
from ..trees.pool import Outcome, Worker
from ..trees.tree import DECRYPTED_BEFORE, EARLY, DecryptOptions, links_last
from .reading import (
    Ask,
    Listed,
    VaultOpener,
    Wanted,
    check_object,
    each_object,
    open_object,
    wanted,
    worker_identity,
)
from .rows import Row
from .stanza import StanzaKeys
from .store import Store
from .vault import Vault


def _getter(
    store: Store, out: bytes, keys: StanzaKeys, options: DecryptOptions, run_id: str,
    tell: Progress, ask: Ask,
) -> Worker:
    buffers = Buffers()
    opener = VaultOpener(store, [worker_identity(keys, ask)], decrypt=not options.resume)
    checked: bytes | None = None

    def place(relative: bytes) -> bytes:
        nonlocal checked
        folder = safe_relative(relative).rpartition(b"/")[0]
        if folder != checked:
            check_folders(out, relative)
            os.makedirs(os.path.join(out, folder), exist_ok=True)
            checked = folder
        return os.path.join(out, relative)

    def work(task: Wanted) -> Outcome:
        shown = os.fsdecode(task.relative)
        found = opener.take(task)
        with contextlib.closing(found):
            target = place(task.relative)
            if (before := task.taken_up(target, DECRYPTED_BEFORE)) is not None:
                return before
            if options.resume and task.before is None:
                try:
                    if decrypted_before(target, found.index):
                        return Outcome(shown, "skipped", message=DECRYPTED_BEFORE)
                except OutputExistsError:
                    if not options.force:
                        raise
            if found.meta.link is not None:
                return Outcome(
                    shown, "link", os.fsdecode(target),
                    details={"relative": task.relative, "link": found.meta.link,
                             "time": found.meta.mtime_ns},
                )  # fmt: skip
            streams, meta = plain_streams(found.container, "all")
            with AtomicFile(target, force=options.force, sync=False, run=run_id) as output:
                size = found.write(output, streams, buffers, tell)
                output.keep(mode=plain_mode(meta), mtime_ns=meta.mtime_ns,
                            start_writing=options.sync and size >= EARLY)
            return Outcome(shown, "done", output.path, found.file.size(), size, part=output.part,
                           relative=task.relative, seen=task.seen)

    return Guarded(work, b"", opener.begin)


def places(rows: Iterable[Row]) -> list[Wanted]:
    """One task a path. Where several objects have one path, the one that was added last gets it,
    and the others have the beginning of their ids behind it."""
    found: dict[bytes, list[Row]] = {}
    for row in rows:
        found.setdefault(row.path or b"", []).append(row)
    tasks = []
    for path, several in found.items():
        several.sort(key=lambda row: row.added_ns or 0)
        tasks.append(wanted(several.pop(), path))
        tasks += [wanted(row, path + b"." + (row.object_id or b"").hex()[:8].encode())
                  for row in several]
    tasks.sort()
    return tasks


def get(
    vault: Vault, rows: Iterable[Row], out: str, options: DecryptOptions, jobs: int = 1, *,
    journal: str | None = None, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Restore files under their paths below `out`; yield an outcome a file.

    A file appears under its name when its last byte was verified. Nothing is written outside
    `out`. Given again, a job that was killed goes on. Raises as `decrypt_tree` does.
    """
    vault.refuse_inside(out)
    tasks = places(rows)
    job = [b"vault get", vault.keys.vault_id, *(t.relative + t.object_id for t in tasks)]
    with Output(vault.workplace, out, job, journal=journal) as output:
        survey = Listed(tasks)
        checkpoints = Checkpoints(out, output.journal, sync=options.sync, force=options.force)
        arguments = (vault.store, os.fsencode(out), vault.stanza_keys(), options,
                     output.journal.run)
        outcomes = run(survey, output.tasks(survey, mirror=False), _getter, arguments, jobs,
                       checkpoints=checkpoints, watch=watch, start_method=start_method,
                       answer=vault.keys.record_key)
        whole = True
        for outcome in links_last(outcomes, out, options, output.journal.resumed):
            whole = whole and outcome.state != "failed"
            yield outcome
        if os.path.isdir(out):
            output.finish(sync=options.sync, keep_journal=not whole)


def _verifier(store: Store, keys: StanzaKeys, tell: Progress, ask: Ask) -> Worker:
    buffers, opener = Buffers(), VaultOpener(store, [worker_identity(keys, ask)])

    def work(task: Wanted) -> Outcome:
        found = opener.take(task)
        with contextlib.closing(found):
            size, _ = verify_opened(found.container, buffers, tell)
        return Outcome(os.fsdecode(task.relative), "done", bytes_in=task.size, bytes_out=size)

    return Guarded(work, b"", opener.begin)


def verify(
    vault: Vault, rows: Iterable[Row], jobs: int = 1, *, watch: Watch | None = None,
    start_method: str | None = None,
) -> Iterator[Outcome]:
    """Authenticate every byte of objects, and that they are what the catalogue says; yield an
    outcome an object."""
    survey = Listed(each_object(rows))
    yield from run(survey, iter(survey), _verifier, (vault.store, vault.stanza_keys()), jobs,
                   watch=watch, start_method=start_method, answer=vault.keys.record_key)


def cat(vault: Vault, rows: Iterable[Row], out: BinaryIO) -> int:
    """Write one file; chunks as they are authenticated, and an error ends it. Return its bytes.

    Raises UsageError unless the rows are one object's."""
    tasks = each_object(rows)
    if len(tasks) != 1:
        raise UsageError(f"{len(tasks)} objects match: one is needed; give --object ID")
    source = open_object(vault.store, tasks[0].object_id)
    with contextlib.closing(source):
        container = Container(source)
        check_object(container, tasks[0])
        opened = unlock(container, [vault.identity])
        plain_streams(opened, "all")
        return decode(opened, FileOutput(out), bytearray())
