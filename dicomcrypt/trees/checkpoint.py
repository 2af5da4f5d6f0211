"""Checkpoints: many outputs reach the medium with one sync, then they get their names.

The order is: outputs in progress are whole; sync; the journal says so; rename. So nothing under
a final name can be lost or cut by a failure of power, and a sync of each file, which doubles the
time of a job, is not needed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from threading import Thread

from ..errors import DicomcryptError, DiskFullError
from ..objects.atomic import rename_part, sync_folders, sync_parts, taken_over
from ..objects.files import describe_failure, file_identity
from .journal import Before, Journal
from .pool import Outcome

BYTES = 256 << 20
FILES = 8192
SECONDS = 30.0
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Checkpoints:
    """Collects outputs in progress and gives them their names, many at a time.

    Works in a thread of its own while the job goes on. journal: where it is written down, if
    anywhere. sync: whether outputs are on the medium before they have their names. force: names
    that are taken are replaced. delete_source: sources are removed once their objects have
    their names, for good.
    """

    def __init__(
        self, out: str, journal: Journal | None, *, sync: bool = True, force: bool = False,
        delete_source: bool = False,
    ) -> None:
        self._out, self._journal, self._sync = out, journal, sync
        self._force, self._delete = force, delete_source
        self._waiting: list[Outcome] = []
        self._running: list[Outcome] = []
        self._done: list[Outcome] = []
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        self._bytes = 0
        self._since = time.monotonic()
        #: Bytes read for outputs that got no name, because a checkpoint failed.
        self.lost_bytes = 0

    def add(self, outcome: Outcome) -> None:
        """Take an output in progress that is whole."""
        self._waiting.append(outcome)
        taken_over(outcome.in_progress()[0])
        self._bytes += outcome.bytes_out

    def poll(self) -> Iterator[Outcome]:
        """Begin a checkpoint if one is due; yield what has its name by now."""
        if self._thread is not None and not self._thread.is_alive():
            yield from self._collect()
        if self._thread is None and self._waiting and (
            self._bytes >= BYTES or len(self._waiting) >= FILES
            or time.monotonic() - self._since >= SECONDS
        ):
            self._begin()

    def finish(self) -> Iterator[Outcome]:
        """Give everything its name; yield it."""
        yield from self._collect()
        if self._waiting:
            self._begin()
            yield from self._collect()

    def abandon(self, seconds: float = 1.5) -> None:
        """Remove what has no name yet, after an interrupt; a checkpoint that runs may end."""
        if self._thread is not None:
            self._thread.join(seconds)
        self._drop(self._waiting)
        self._waiting = []

    def _drop(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.lost_bytes += outcome.bytes_in
            with contextlib.suppress(OSError):
                os.unlink(outcome.in_progress()[0])

    def _begin(self) -> None:
        self._running, self._waiting, self._bytes = self._waiting, [], 0
        self._since = time.monotonic()
        # A daemon: an interrupted job does not wait for a slow medium.
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def _collect(self) -> Iterator[Outcome]:
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        done, self._done = self._done, []
        yield from done
        if error is not None:
            self.abandon()
            if isinstance(error, sqlite3.Error) or getattr(error, "errno", None) in FULL:
                reason = describe_failure(error) if isinstance(error, OSError) else error
                raise DiskFullError(
                    f"{self._out!r}: the checkpoint cannot be written ({reason})"
                ) from None
            raise error

    def _work(self) -> None:
        written = False
        try:
            if self._sync:
                parts = [outcome.in_progress()[0] for outcome in self._running]
                sync_parts(parts)
                sync_folders(dict.fromkeys([self._out, *map(os.path.dirname, parts)]))
            if self._journal is not None:
                self._journal.add([
                    (o.relative, Before(*o.seen, os.path.basename(o.in_progress()[0]),
                                        o.object_id, o.replace, self._delete))
                    for o in self._running
                ])  # fmt: skip
            written = True
            for outcome in self._running:
                self._done.append(self._name(outcome))
            if self._delete:
                if self._sync:
                    sync_folders([self._out])
                for outcome in self._done:
                    self._delete_source(outcome)
        except BaseException as error:
            if not written:
                self._drop(self._running)
            self._error = error

    def _give_name(self, outcome: Outcome) -> None:
        part, output = outcome.in_progress()
        rename_part(part, output, force=self._force or outcome.replace)

    def _name(self, outcome: Outcome) -> Outcome:
        try:
            self._give_name(outcome)
        except (DicomcryptError, OSError) as error:
            with contextlib.suppress(OSError):
                os.unlink(outcome.in_progress()[0])
            if self._journal is not None:
                self._journal.forget(outcome.relative)
            return Outcome(outcome.path, "failed", message=describe_failure(error),
                           exit_status=getattr(error, "exit_status", 1))
        outdated = outcome.details.pop("outdated", None)
        if outdated is not None:  # it has another name than what takes its place
            with contextlib.suppress(OSError):
                os.unlink(outdated)
        return outcome

    def _delete_source(self, outcome: Outcome) -> None:
        if outcome.state != "done":
            return
        try:
            if not outcome.source:
                kept = "encrypted by a run that was broken off"
            elif file_identity(os.lstat(outcome.path)) != outcome.source:
                kept = "changed since it was encrypted"
            else:
                os.unlink(outcome.path)
                outcome.details["deleted"] = True
                return
        except OSError as error:
            kept = describe_failure(error)
        outcome.details["source_kept"] = kept
