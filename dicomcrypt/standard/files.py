"""Files and trees of them through attribute confidentiality, one way and back."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from ..errors import NotMeantError
from ..objects.atomic import AtomicFile
from ..trees.checkpoint import Checkpoints
from ..trees.job import Guarded, Output, Shard, Watch, run
from ..trees.names import check_folders
from ..trees.pool import Outcome, Worker
from ..trees.tree import survey_of
from ..trees.walk import Entry
from .cms_envelope import Opening, opening_of
from .dicomfile import DicomFile
from .protect import Protected, Protector, write
from .reveal import reveal


class Change(Protocol):
    """What is done with a file; it goes to workers through a pipe."""

    #: Of what was done before: "protected before".
    before: str

    def __call__(self, file: DicomFile) -> Protected: ...


class Protecting:
    """Protects files."""

    before = "protected before"

    def __init__(self, protector: Protector) -> None:
        self._protector = protector

    def __call__(self, file: DicomFile) -> Protected:
        return self._protector.protect(file)


class Revealing:
    """Reveals files to whoever has one of these private keys and passwords. Raises as
    `cms_envelope.opening_of`."""

    before = "revealed before"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    def __repr__(self) -> str:
        return "Revealing()"

    def __reduce__(self):
        keys = [
            (key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
             key.certificate and key.certificate.public_bytes(Encoding.DER))
            for key in self._opening.keys
        ]  # fmt: skip
        return _revealing_again, (keys, self._opening.passwords)

    def __call__(self, file: DicomFile) -> Protected:
        return reveal(file, self._opening)


def _revealing_again(keys: list[tuple[bytes, bytes | None]], passwords: tuple[bytes, ...]) -> Any:
    from cryptography import x509

    return Revealing(opening_of(
        [load_der_private_key(private, None) for private, _ in keys],
        [x509.load_der_x509_certificate(der) for _, der in keys if der is not None], passwords,
    ))  # fmt: skip


def change_file(
    source: str, target: str | Callable[[Protected], str], change: Change, *, force: bool = False
) -> tuple[str, int, int]:
    """Do it with one file; return the output's path, bytes read and bytes written.

    target: may be a function of what was made. The output is there when it is whole, or not at
    all. Raises NotMeantError, OutputExistsError, what the change raises, OSError."""
    with DicomFile(source) as file:
        made = change(file)
        path = target(made) if callable(target) else target
        with AtomicFile(path, force=force) as output:
            size = write(file, made, output.descriptor)
            output.commit(mode=stat.S_IMODE(file.status.st_mode) & 0o777)
        return path, file.size, size


# ---- trees ---------------------------------------------------------------------


def uid_name(made: Protected) -> bytes:
    """A path that says nothing but new UIDs: the study's folder, the instance's file."""
    return os.fsencode(f"{_name(made.study)}/{_name(made.instance)}.dcm")


def _name(uid: str) -> str:
    if not uid or uid.strip("0123456789."):
        raise NotMeantError("it has no UIDs to be named by")
    return uid


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

    def work(entry: Entry) -> Outcome:
        path = os.path.join(source_root, entry.relative)
        shown = os.fsdecode(path)
        if entry.kind == "link":
            return Outcome(shown, "skipped", message="symbolic link")
        common: dict[str, Any] = {"relative": entry.relative,
                                  "seen": (entry.size, entry.mtime_ns)}
        before, replace = entry.before, False
        if before is not None and common["seen"] == (before.size, before.mtime_ns) and (
            options.names == "keep"
        ):
            target = os.path.join(target_root, entry.relative)
            part = os.path.join(os.path.dirname(target), os.fsencode(before.part))
            if before.part and os.path.lexists(part):
                return Outcome(shown, "done", os.fsdecode(target), entry.size,
                               os.path.getsize(part), part=os.fsdecode(part),
                               replace=before.replace, **common)
            if os.path.lexists(target):
                return Outcome(shown, "skipped", message=change.before)
        try:
            with DicomFile(path) as file:
                made = change(file)
                relative = entry.relative if options.names == "keep" else uid_name(made)
                target = os.path.join(target_root, relative)
                if options.names != "keep":
                    check_folders(target_root, relative)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    if before is not None and os.path.lexists(target):
                        return Outcome(shown, "skipped", message=change.before)
                replace = before is not None
                with AtomicFile(target, force=options.force or replace, sync=False,
                                run=run_id) as output:
                    size = write(file, made, output.descriptor)
                    output.keep(mode=stat.S_IMODE(file.status.st_mode) & 0o777)
                tell(file.size)
                return Outcome(shown, "done", output.path, file.size, size, part=output.part,
                               replace=replace, **common)
        except NotMeantError as error:
            return Outcome(shown, "skipped", message=str(error).removeprefix(f"{shown!r} "))

    return Guarded(work, source_root)


def change_tree(
    root: str, out: str, change: Change, job: Iterable[bytes], options: TreeOptions,
    jobs: int = 1, *, shard: Shard | None = None, journal: str | None = None,
    keep_journal: bool = False, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Do it with every file below `root`, into `out`; yield an outcome an entry.

    What is no DICOM file, or none that this is for, is left out, and so are links. job: what makes
    it this job, for its journal. The rest, and errors, as for `trees.tree.encrypt_tree`.
    """
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

