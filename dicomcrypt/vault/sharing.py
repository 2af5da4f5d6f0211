"""Objects for somebody else: self-contained copies, whose streams are not touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

from ..container.header import Unlocked, default_capacity, pack_slot
from ..container.layout import PREFIX_SIZE, TRAILER_SIZE, pack_capacity, pack_trailer
from ..container.reader import Container
from ..container.stanza import FULL, Recipient
from ..container.streams import Source
from ..errors import NoIdentityError
from ..keys.batch import check_recipients
from ..objects.atomic import AtomicFile
from ..objects.buffers import FileSource, write_all
from ..objects.files import Progress
from ..objects.signing import unlock
from ..trees.checkpoint import Checkpoints
from ..trees.job import Guarded, Output, Watch, run
from ..trees.pool import Outcome, Worker
from ..trees.tree import ENCRYPTED_BEFORE
from .reading import (
    Ask,
    Listed,
    Wanted,
    check_object,
    each_object,
    open_object,
    worker_identity,
)
from .rows import Row
from .stanza import StanzaKeys
from .store import Store
from .vault import Vault

_PIECE = 1 << 20


def _copy(source: Source, target: AtomicFile, start: int, end: int, tell: Progress) -> None:
    """Copy a range behind what was written, in the kernel where it can."""
    descriptor = source.fileno() if isinstance(source, FileSource) else None
    copier = getattr(os, "copy_file_range", None)
    while start < end:
        size = min(end - start, _PIECE * 8)
        if copier is not None and descriptor is not None:
            try:
                done: int = copier(descriptor, target.descriptor, size, offset_src=start)
            except OSError:  # between file systems, or one that cannot
                copier = None
                continue
        else:
            piece = source.read_range(start, min(size, _PIECE))
            write_all(target.raw, memoryview(piece))
            done = len(piece)
        if done == 0:
            raise OSError("the object is shorter than it was")
        start += done
        tell(done)


def write_copy(
    container: Container, unlocked: Unlocked, recipients: Iterable[Recipient], out: AtomicFile,
    tell: Progress,
) -> int:  # fmt: skip
    """Write an object for other recipients, with the same streams, into an open output; return its
    bytes. Raises NoIdentityError if not all of it was unlocked."""
    prefix, keys = container.prefix, unlocked.keys
    if unlocked.object_key is None:
        raise NoIdentityError("only a part of the object is open to who shares it")
    stanzas = [one.wrap(unlocked.object_key, FULL, prefix.core) for one in recipients]
    capacity, generation = default_capacity(stanzas), container.slots[0].generation
    slot = pack_slot(prefix.core, capacity, generation, stanzas, keys)
    slots = (slot, bytes(capacity)) if generation % 2 == 0 else (bytes(capacity), slot)
    write_all(out.raw, memoryview(b"".join([prefix.core, pack_capacity(capacity), *slots])))
    shift = PREFIX_SIZE + 2 * capacity - prefix.streams_offset
    _copy(container.source, out, prefix.streams_offset, container.size - TRAILER_SIZE, tell)
    places = {sid: (offset + shift, n) for sid, (offset, n) in container.streams.items()}
    write_all(out.raw, memoryview(pack_trailer(places, container.size + shift)))
    return container.size + shift


def _sharer(
    store: Store, out: bytes, keys: StanzaKeys, recipients: Sequence[Recipient], force: bool,
    run_id: str, tell: Progress, ask: Ask,
) -> Worker:
    identity = worker_identity(keys, ask)

    def work(task: Wanted) -> Outcome:
        shown = os.fsdecode(task.relative)
        name = task.object_id.hex().encode() + b".dcmx"
        target = os.path.join(out, name)
        if (before := task.taken_up(target, ENCRYPTED_BEFORE)) is not None:
            return before
        with contextlib.closing(open_object(store, task.object_id)) as source:
            container = Container(source)
            check_object(container, task)
            unlocked = unlock(container, [identity]).unlocked
            with AtomicFile(target, force=force, sync=False, run=run_id) as file:
                size = write_copy(container, unlocked, recipients, file, tell)
                file.keep(mode=0o600)
        return Outcome(shown, "done", file.path, task.size, size, part=file.part,
                       relative=task.relative, seen=task.seen)

    return Guarded(work, b"")


def share(
    vault: Vault, rows: Iterable[Row], out: str, recipients: Sequence[Recipient], jobs: int = 1, *,
    force: bool = False, sync: bool = True, allow_classical: bool = False,
    allow_mixed: bool = False, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Write copies of objects that these recipients open by themselves; yield an outcome each.

    Each has its own key, wrapped for them, and nothing of the vault: no record key leaves it.
    Nothing is decrypted, so nothing is verified either but the headers. Raises UsageError for
    recipients that may not stand together, JobBusyError, DiskFullError, WorkerLostError.
    """
    vault.refuse_inside(out)
    check_recipients({FULL: recipients}, allow_classical=allow_classical, allow_mixed=allow_mixed)
    survey = Listed(each_object(rows))
    who = sorted(b"%d " % r.stanza_type + r.hint for r in recipients)
    with Output(vault.workplace, out, [b"vault share", vault.keys.vault_id, *who]) as output:
        checkpoints = Checkpoints(out, output.journal, sync=sync, force=force)
        whole = True
        arguments = (vault.store, os.fsencode(out), vault.stanza_keys(), tuple(recipients), force,
                     output.journal.run)
        for outcome in run(survey, output.tasks(survey, mirror=False), _sharer, arguments, jobs,
                           checkpoints=checkpoints, watch=watch, start_method=start_method,
                           answer=vault.keys.record_key):
            whole = whole and outcome.state != "failed"
            yield outcome
        output.finish(sync=sync, keep_journal=not whole)
