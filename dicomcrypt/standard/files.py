"""Files and trees of them through what the standard defines, one way and back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import NotMeantError, SourceChangedError, UsageError
from ..objects.atomic import AtomicFile, default_mode
from ..trees.checkpoint import Checkpoints
from ..trees.job import Guarded, Output, Shard, Watch, run
from ..trees.names import check_folders
from ..trees.pool import Outcome, Worker
from ..trees.tree import survey_of
from ..trees.walk import Entry
from .changes import Change, Made, Tell


def _write(made: Made, output: AtomicFile, tell: Tell) -> tuple[str, dict[str, Any]]:
    """Write an output whole; raises SourceChangedError if its input was written to meanwhile."""
    said = made.write(output, tell)
    after = os.fstat(made.descriptor)
    if (after.st_size, after.st_mtime_ns) != (made.status.st_size, made.status.st_mtime_ns):
        raise SourceChangedError("the file changed while it was read: give it again")
    return said


def change_file(
    source: str, target: str, change: Change, *, force: bool = False,
    tell: Tell = lambda _: None,
) -> Outcome:
    """Do it with one file. The output is there when it is whole, or not at all.

    Nobody may read it who may not read the input. Raises NotMeantError, OutputExistsError, what
    the change raises, OSError."""
    with change(source) as made, AtomicFile(target, force=force) as output:
        message, details = _write(made, output, tell)
        size = os.fstat(output.descriptor).st_size
        output.commit(mode=stat.S_IMODE(made.status.st_mode) & default_mode())
    return Outcome(source, "done", target, made.status.st_size, size, message, details=details)


# ---- trees ---------------------------------------------------------------------


def uid_name(uids: tuple[str, str]) -> bytes:
    """A path that says nothing but new UIDs: the study's folder, the instance's file."""
    for uid in uids:
        if not uid or uid.strip("0123456789."):
            raise NotMeantError("it has no UIDs to be named by")
    return os.fsencode("{}/{}.dcm".format(*uids))


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """names: "keep" or "uid", which takes the study's new UID for a folder and the instance's for a
    file. force: outputs are overwritten. sync: they are on the medium before they have names."""

    names: str = "keep"
    force: bool = False
    sync: bool = True


def _changer(
    root: str, out: str, change: Change, options: TreeOptions, run_id: str, tell: Any
) -> Worker:
    source_root, target_root = os.fsencode(root), os.fsencode(out)
    keep_names, mask = options.names == "keep", default_mode()

    def work(entry: Entry) -> Outcome:
        path = os.path.join(source_root, entry.relative)
        shown = os.fsdecode(path)
        if entry.kind == "link":
            return Outcome(shown, "skipped", message="symbolic link")
        common: dict[str, Any] = {"relative": entry.relative,
                                  "seen": (entry.size, entry.mtime_ns)}
        before, target = entry.before, b""
        if keep_names:
            folder = os.path.join(target_root, os.path.dirname(entry.relative))
            target = os.path.join(folder, change.name(path))
            if before is not None and common["seen"] == (before.size, before.mtime_ns):
                part = os.path.join(folder, os.fsencode(before.part))
                if before.part and os.path.lexists(part):
                    return Outcome(shown, "done", os.fsdecode(target), entry.size,
                                   os.path.getsize(part), part=os.fsdecode(part),
                                   replace=before.replace, **common)
                if os.path.lexists(target):
                    return Outcome(shown, "skipped", message=change.before)
        try:
            with change(path) as made:
                if not keep_names:
                    relative = uid_name(made.uids)
                    target = os.path.join(target_root, relative)
                    check_folders(target_root, relative)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    if before is not None and os.path.lexists(target):
                        return Outcome(shown, "skipped", message=change.before)
                replace = before is not None
                with AtomicFile(target, force=options.force or replace, sync=False,
                                run=run_id) as output:
                    message, details = _write(made, output, tell)
                    size = os.fstat(output.descriptor).st_size
                    output.keep(mode=stat.S_IMODE(made.status.st_mode) & mask)
                return Outcome(shown, "done", output.path, made.status.st_size, size, message,
                               details=details, part=output.part, replace=replace, **common)
        except NotMeantError as error:
            return Outcome(shown, "skipped", message=str(error).removeprefix(f"{shown!r} "))

    return Guarded(work, source_root)


def change_tree(
    root: str, out: str, change: Change, job: Iterable[bytes], options: TreeOptions,
    jobs: int = 1, *, shard: Shard | None = None, journal: str | None = None,
    keep_journal: bool = False, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Do it with every file below `root`, into `out`; yield an outcome an entry.

    What the change is not for is left out, and so are links. job: what makes it this job, for its
    journal. The rest, and errors, as for `trees.tree.encrypt_tree`; UsageError if `out` is `root`.
    """
    if os.path.realpath(root) == os.path.realpath(out):
        raise UsageError(f"{out!r} is the input: a job that is broken off could not tell what is "
                         "done; give another folder")
    how = repr((options.names,)).encode()
    with Output(root, out, [change.before.encode(), how, *job], shard=shard,
                journal=journal) as output:
        mirror = options.names == "keep"
        survey = survey_of(root, output, shard, mirror=mirror)
        checkpoints = Checkpoints(out, output.journal, sync=options.sync, force=options.force)
        whole = True
        for outcome in run(survey, output.tasks(survey, mirror=mirror), _changer,
                           (root, out, change, options, output.journal.run), jobs,
                           checkpoints=checkpoints, watch=watch, start_method=start_method):
            whole = whole and outcome.state != "failed"
            yield outcome
        output.finish(sync=options.sync, keep_journal=keep_journal or not whole)
