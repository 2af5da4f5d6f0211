"""Encrypt and decrypt a tree of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..container.layout import looks_like_object
from ..container.stanza import Identity
from ..errors import (
    AlreadyEncryptedError,
    DicomcryptError,
    OutputExistsError,
    UnsafePathError,
    UsageError,
)
from ..keys.batch import Envelope
from ..objects.atomic import AtomicFile
from ..objects.buffers import patiently
from ..objects.files import (
    SUFFIX,
    Buffers,
    Progress,
    decrypted_before,
    encrypted_before,
    plain_mode,
    plain_streams,
)
from ..objects.readback import read_back
from ..objects.signing import NO_DEMANDS, SignaturePolicy
from ..regular import open_regular
from .checkpoint import Checkpoints
from .job import Guarded, Output, Shard, Watch, failed, run
from .names import check_folders, check_link, object_name, plain_name, safe_relative
from .opening import Opener
from .pool import Outcome, Worker
from .sealing import Sealer
from .walk import Entry, Survey, in_shard, walk

if TYPE_CHECKING:
    from ..keys.signing import Signer

_SUFFIX = SUFFIX.encode()
#: An output of this size begins its way to the medium when it is whole; smaller ones wait for
#: the checkpoint, which takes many of them at a time.
EARLY = 256 << 10
ENCRYPTED_BEFORE, DECRYPTED_BEFORE = "encrypted before", "decrypted before"


def is_object(path: bytes | str) -> bool:
    """Whether a file begins as an object does; raises OSError if it cannot be read."""
    with open(open_regular(path), "rb", buffering=0) as file:
        return looks_like_object(patiently(lambda: file.read(8)))


def entries_of(
    root: str, exclude: Sequence[str] = (), *, fold_case: bool = False
) -> Iterator[Entry]:
    """The tree's entries without the files and folders of `exclude` that lie in it."""
    base = os.path.realpath(root)
    inside: list[bytes] = []
    for path in exclude:
        relative = os.path.relpath(os.path.realpath(path), base).replace(os.sep, "/")
        if relative != ".." and not relative.startswith("../"):
            inside.append(os.fsencode(relative))
    for entry in walk(root, fold_case=fold_case):
        for left_out in inside:
            if entry.relative == left_out or entry.relative.startswith(left_out + b"/"):
                break
        else:
            yield entry


def survey_of(root: str, output: Output, shard: Shard | None, *, mirror: bool = True) -> Survey:
    journal = output.journal.path
    exclude = (os.fsdecode(output.out), journal, journal + "-journal")
    fold = mirror and output.folds_case
    return Survey(lambda: entries_of(root, exclude, fold_case=fold), shard)


# ---- encrypt ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncryptOptions:
    """How a tree is encrypted. names: "keep" or "encrypted"; links: "keep", "follow", "skip".

    verify: every object is read back and compared with its source before it has its name;
    delete_source: then the source is removed. sync: objects are on the medium before they have
    their names. signer: who signs every object.
    """

    method: int | None = -1
    names: str = "keep"
    links: str = "keep"
    force: bool = False
    resume: bool = False
    force_scopes: bool = False
    verify: bool = False
    delete_source: bool = False
    sync: bool = True
    signer: Signer | None = None


def _under_id(folder: bytes, object_id: bytes) -> bytes:
    """Where an object lies that bears its id for a name."""
    return os.path.join(folder, object_id.hex().encode() + _SUFFIX)


def _encryptor(
    root: str, out: str, envelope: Envelope, options: EncryptOptions, run_id: str, tell: Progress
) -> Worker:
    source_root, target_root = os.fsencode(root), os.fsencode(out)
    mirrored = options.names == "keep"

    def stored_name(relative: bytes) -> bytes | None:
        base = relative.rpartition(b"/")[2]
        if mirrored:
            return base if object_name(base) is None else None
        return relative

    sealer = Sealer(source_root, envelope, options.method, stored_name=stored_name,
                    force_scopes=options.force_scopes, signer=options.signer,
                    ahead=not options.resume, tell=tell)

    def work(entry: Entry) -> Outcome:
        relative = entry.relative
        path = os.path.join(source_root, relative)
        shown = os.fsdecode(path)
        if entry.kind == "link" and options.links == "skip":
            return Outcome(shown, "skipped", message="symbolic link")
        seen = entry.size, entry.mtime_ns
        if entry.kind == "link" and options.links == "follow":
            status = os.stat(path)
            seen = status.st_size, status.st_mtime_ns
        parent, _, base = relative.rpartition(b"/")
        folder = os.path.join(target_root, parent) if mirrored and parent else target_root
        made = object_name(base) if mirrored else None
        target = os.path.join(folder, made) if made is not None else None
        replace, before, outdated = False, entry.before, None
        if before is not None:
            named = target or _under_id(folder, before.object_id or b"")
            part = os.path.join(folder, before.part.encode())
            if seen != (before.size, before.mtime_ns):
                # The source was changed since. Where the job may have removed it, this is
                # another file of its name, and the object is the only copy of that one.
                replace = not before.gone
                outdated = named if target is None and replace else None
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
            elif before.part and os.path.lexists(part):
                # Before its name is looked at: that may be taken by what it replaces.
                return Outcome(shown, "done", os.fsdecode(named), entry.size,
                               os.path.getsize(part), part=os.fsdecode(part),
                               object_id=before.object_id, replace=before.replace,
                               relative=relative, seen=seen)
            elif os.path.lexists(named):
                kept = {"source_kept": "encrypted by a run that was broken off"}
                return Outcome(shown, "skipped", message=ENCRYPTED_BEFORE,
                               details=kept if options.delete_source else None)
        elif options.resume and target is not None:
            try:
                if encrypted_before(path, target, envelope, signed=options.signer is not None):
                    return Outcome(shown, "skipped", message=ENCRYPTED_BEFORE)
            except OutputExistsError:
                if not options.force:
                    raise
        link = entry.kind == "link" and options.links == "keep"
        try:
            sealing = sealer.take(entry, link=link)
        except AlreadyEncryptedError:
            return Outcome(shown, "skipped", message="a DCMX object already")
        with sealing:
            source, material = sealing.source, sealing.keys()
            object_id = None
            if target is None:
                object_id = material.keys.core[16:32]
                target = _under_id(folder, object_id)
            details: dict[str, Any] = {}
            if entry.hard_links > 1:
                details["hard_links"] = entry.hard_links
            with AtomicFile(target, force=options.force or replace, sync=False,
                            run=run_id) as file:
                read, size = sealing.write(file)
                if options.verify:
                    os.fsync(file.descriptor)
                    details["verified"] = read_back(file.part, source, material, sealer.buffers)
                file.keep(mode=source.mode, start_writing=options.sync and size >= EARLY)
            if outdated is not None:
                details["outdated"] = outdated
            return Outcome(shown, "done", file.path, read, size, details=details,
                           part=file.part, source=source.identity(), object_id=object_id,
                           replace=replace, relative=relative, seen=seen)

    return Guarded(work, source_root, sealer.begin)


def encrypt_tree(
    root: str, out: str, envelope: Envelope, options: EncryptOptions, jobs: int = 1, *,
    shard: Shard | None = None, journal: str | None = None, keep_journal: bool = False,
    watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Encrypt every file below `root` into `out`; yield an outcome an entry.

    The tree is mirrored, `.dcmx` added to each name; with names="encrypted" all objects lie
    in `out` under their ids and keep their places inside. shard: (k, n), the part of the files
    that this job does. journal: its path, by default beside `out`; it stays with keep_journal, and
    where files failed. A job that was killed or interrupted goes on when it is given again.

    Raises JobBusyError, DiskFullError, WorkerLostError, UsageError.
    """
    if options.delete_source and not (options.verify and options.sync):
        raise UsageError("sources are deleted only if their objects are verified and synced")
    if options.resume and options.names == "encrypted":
        raise UsageError("--resume cannot tell which files are done under encrypted names; a job "
                         "that was broken off goes on without it")
    how = options.method, options.names, options.links, options.force_scopes
    identity = [b"encrypt", repr(how).encode(), *envelope.rights]
    if options.signer is not None:
        identity.append(options.signer.public_key)
    with Output(root, out, identity, shard=shard, journal=journal) as output:
        mirror = options.names == "keep"
        if not (mirror or shard or options.force or output.journal.resumed):
            _refuse_second_job(out)
        survey = survey_of(root, output, shard, mirror=mirror)
        tasks = output.tasks(survey, mirror=mirror)
        checkpoints = Checkpoints(out, output.journal, sync=options.sync, force=options.force,
                                  delete_source=options.delete_source)
        whole = True
        for outcome in run(survey, tasks, _encryptor,
                           (root, out, envelope, options, output.journal.run), jobs,
                           checkpoints=checkpoints, watch=watch, start_method=start_method):
            whole = whole and outcome.state != "failed"
            yield outcome
        output.finish(sync=options.sync, keep_journal=keep_journal or not whole)


def _refuse_second_job(out: str) -> None:
    with os.scandir(out) as found:
        if any(entry.name.endswith(SUFFIX) for entry in found):
            raise UsageError(
                f"{out!r} holds objects, and encrypted names do not tell of which files: a job "
                "that is done would be done twice; give another folder, or --force to add to it"
            )


def plan_encryption(
    root: str, out: str, options: EncryptOptions, *, shard: Shard | None = None
) -> Iterator[Outcome]:
    """Say what `encrypt_tree` would do, an outcome an entry, and write nothing."""

    def work(entry: Entry) -> Outcome:
        path = os.path.join(os.fsencode(root), entry.relative)
        shown = os.fsdecode(path)
        if entry.kind == "link" and options.links == "skip":
            return Outcome(shown, "skipped", message="symbolic link")
        if entry.kind == "file" and is_object(path):
            return Outcome(shown, "skipped", message="a DCMX object already")
        parent, _, base = entry.relative.rpartition(b"/")
        made = object_name(base) if options.names == "keep" else None
        target = None
        if made is not None:
            target = os.path.join(os.fsencode(out), parent, made)
            if os.path.lexists(target) and not options.force:
                if options.resume:
                    return Outcome(shown, "skipped", message="encrypted before, as it seems")
                raise OutputExistsError(f"{os.fsdecode(target)!r} exists: give --force to "
                                        "overwrite it, or --resume to leave it out")
        output = None if target is None else os.fsdecode(target)
        return Outcome(shown, "planned", output, entry.size)

    plan = Guarded(work, os.fsencode(root))
    for entry in entries_of(root, [out]):
        if entry.kind != "folder" and in_shard(entry.relative, shard):
            yield plan(entry)


# ---- decrypt ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecryptOptions:
    """How a tree is decrypted."""

    part: str = "all"
    force: bool = False
    resume: bool = False
    unsafe_links: bool = False
    sync: bool = True
    policy: SignaturePolicy = NO_DEMANDS


def _decryptor(
    root: str, out: str, identities: Sequence[Identity], options: DecryptOptions, run_id: str,
    tell: Progress,
) -> Worker:
    source_root, target_root = os.fsencode(root), os.fsencode(out)
    buffers = Buffers()
    opener = Opener(source_root, identities, options.policy,
                    decrypt=options.part == "all" and not options.resume)
    checked: bytes | None = None

    def place(relative: bytes) -> bytes:
        """The target of a file; its folder is made, and no link leads out of the tree."""
        nonlocal checked
        folder = relative.rpartition(b"/")[0]
        if folder != checked:
            check_folders(target_root, relative)
            os.makedirs(os.path.join(target_root, folder), exist_ok=True)
            checked = folder
        return os.path.join(target_root, relative)

    def work(entry: Entry) -> Outcome:
        path = os.path.join(source_root, entry.relative)
        shown = os.fsdecode(path)
        if entry.kind == "link":
            return Outcome(shown, "skipped", message="symbolic link")
        found = opener.take(entry)
        if found is None:
            return Outcome(shown, "skipped", message="not a DCMX object")
        with contextlib.closing(found):
            opened, index, meta = found.container, found.index, found.meta
            relative = plain_name(entry.relative, meta.name, opened.container.prefix.object_id)
            target = place(relative)
            seen = entry.size, entry.mtime_ns
            signature = options.policy.facts(opened)
            details = None if signature is None else {"signature": signature}
            replace, before = False, entry.before
            if before is not None:
                part = os.path.join(os.path.dirname(target), before.part.encode())
                if seen != (before.size, before.mtime_ns):
                    replace = True
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part)
                elif before.part and os.path.lexists(part):
                    return Outcome(shown, "done", os.fsdecode(target), entry.size,
                                   os.path.getsize(part), part=os.fsdecode(part),
                                   replace=before.replace, details=details,
                                   relative=entry.relative, seen=seen)
                elif os.path.lexists(target):
                    return Outcome(shown, "skipped", message=DECRYPTED_BEFORE)
            elif options.resume and options.part == "all":
                try:
                    if decrypted_before(target, index):
                        return Outcome(shown, "skipped", message=DECRYPTED_BEFORE)
                except OutputExistsError:
                    if not options.force:
                        raise
            if meta.link is not None:
                return Outcome(
                    shown, "link", os.fsdecode(target),
                    details={"relative": relative, "link": meta.link, "time": meta.mtime_ns},
                )  # fmt: skip
            streams, meta = plain_streams(opened, options.part)
            with AtomicFile(target, force=options.force or replace, sync=False,
                            run=run_id) as output:
                size = found.write(output, streams, buffers, tell)
                output.keep(mode=plain_mode(meta), mtime_ns=meta.mtime_ns,
                            start_writing=options.sync and size >= EARLY)
            return Outcome(shown, "done", output.path, found.file.size(), size, part=output.part,
                           replace=replace, details=details, relative=entry.relative, seen=seen)

    return Guarded(work, source_root, opener.begin)


def links_last(
    outcomes: Iterable[Outcome], out: str, options: DecryptOptions, resumed: bool
) -> Iterator[Outcome]:
    """Yield outcomes; symbolic links that workers found in objects are made after all else."""
    links = []
    for outcome in outcomes:
        if outcome.state == "link":
            links.append(outcome)
        else:
            yield outcome
    for link in links:
        yield _restore_link(out, link, options, resumed)


def _restore_link(out: str, outcome: Outcome, options: DecryptOptions, resumed: bool) -> Outcome:
    """Make a symbolic link that a worker found in an object; raises nothing."""
    relative, link = outcome.details["relative"], outcome.details["link"]
    try:
        if not link or b"\0" in link:
            raise UnsafePathError("the object holds a link that no file system can hold")
        if not options.unsafe_links:
            check_link(relative, link)
        safe_relative(relative)
        target = os.path.join(os.fsencode(out), relative)
        check_folders(os.fsencode(out), relative)
        if resumed and os.path.islink(target) and os.readlink(target) == link:
            return Outcome(outcome.path, "skipped", message=DECRYPTED_BEFORE)
        if options.force:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
        os.symlink(link, target)
        if outcome.details["time"] is not None:
            times = (outcome.details["time"],) * 2
            os.utime(target, ns=times, follow_symlinks=False)
    except FileExistsError:
        return failed(outcome.path, OutputExistsError(
            f"{outcome.output!r} exists: give --force to overwrite it"))
    except (DicomcryptError, OSError) as error:
        return failed(outcome.path, error)
    return Outcome(outcome.path, "done", outcome.output)


def decrypt_tree(
    root: str, out: str, identities: Sequence[Identity], options: DecryptOptions, jobs: int = 1, *,
    shard: Shard | None = None, journal: str | None = None, keep_journal: bool = False,
    watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Decrypt every object below `root` into `out`; yield an outcome an entry.

    Nothing is written outside `out`, nor through a symbolic link in it. Links are made last.
    shard, journal, keep_journal, errors: as for `encrypt_tree`.
    """
    identity = [b"decrypt", options.part.encode(), *options.policy.demands]
    with Output(root, out, identity, shard=shard, journal=journal) as output:
        survey = survey_of(root, output, shard)
        tasks = output.tasks(survey, mirror=True)
        checkpoints = Checkpoints(out, output.journal, sync=options.sync, force=options.force)
        outcomes = run(survey, tasks, _decryptor,
                       (root, out, identities, options, output.journal.run), jobs,
                       checkpoints=checkpoints, watch=watch, start_method=start_method)
        whole = True
        for outcome in links_last(outcomes, out, options, output.journal.resumed):
            whole = whole and outcome.state != "failed"
            yield outcome
        output.finish(sync=options.sync, keep_journal=keep_journal or not whole)
