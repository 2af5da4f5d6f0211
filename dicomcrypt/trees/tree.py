"""Encrypt, decrypt and verify a tree of files."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..container.header import BatchKeyCache
from ..container.layout import looks_like_object
from ..container.reader import Container
from ..container.stanza import Identity
from ..errors import DamagedError, DicomcryptError, OutputExistsError, UnsafePathError
from ..keys.batch import Envelope
from ..objects.buffers import FileSource, open_regular
from ..objects.files import (
    SUFFIX,
    Buffers,
    decrypted_before,
    describe_failure,
    encrypt_path,
    encrypted_before,
    object_meta,
    verify_path,
    write_plain,
)
from .jobs import Outcome, run
from .walk import (
    Entry,
    check_folders,
    check_link,
    plain_name,
    safe_relative,
    walk,
)


def _failed(path: str, error: BaseException) -> Outcome:
    status = error.exit_status if isinstance(error, DicomcryptError) else 1
    return Outcome(path, "failed", message=describe_failure(error), exit_status=status)


def _guard(work: Callable[[Entry], Outcome], shown: Callable[[Entry], str]):
    """Turn what may go wrong with one file into its outcome; the rest of the tree goes on."""

    def guarded(entry: Entry) -> Outcome:
        if entry.kind == "error":
            return Outcome(shown(entry), "failed", message=entry.error, exit_status=1)
        if entry.kind == "other":
            return Outcome(shown(entry), "skipped", message="neither file, folder nor link")
        try:
            return work(entry)
        except Exception as error:
            # Whatever one file brings about, the others are still to be done.
            return _failed(shown(entry), error)

    return guarded


def is_object(path: bytes | str) -> bool:
    """Whether a file begins as an object does; raises OSError if it cannot be read."""
    with open(open_regular(path), "rb", buffering=0) as file:
        return looks_like_object(file.read(8))


def entries_of(root: str, exclude: str | None) -> Iterator[Entry]:
    """The tree's entries without those of an output folder that lies in it."""
    inside = None
    if exclude is not None:
        relative = os.path.relpath(os.path.realpath(exclude), os.path.realpath(root))
        if relative != ".." and not relative.startswith("../"):
            inside = os.fsencode(relative)
    for entry in walk(root):
        if inside is not None and (
            entry.relative == inside or entry.relative.startswith(inside + b"/")
        ):
            continue
        yield entry


def _with_folders(
    entries: Iterable[Entry], source: str, out: str | None, made: list[bytes]
) -> Iterator[Entry]:
    """Make the folders of `out` before what goes into them is handed to a worker.

    They are open to nobody whom the source's folder is closed to; `made` collects them."""
    for entry in entries:
        if entry.kind != "folder":
            yield entry
        elif out is not None:
            root = os.fsencode(out)
            target = os.path.join(root, entry.relative)
            try:
                check_folders(root, entry.relative + b"/")
                status = os.stat(os.path.join(os.fsencode(source), entry.relative))
                if not os.path.isdir(target):
                    os.mkdir(target, stat.S_IMODE(status.st_mode) & 0o777 | 0o700)
                    made.append(entry.relative)
            except (UnsafePathError, OSError) as error:
                yield Entry(entry.relative, "error", error=describe_failure(error))


def _finish_folders(source: str, out: str, made: list[bytes]) -> None:
    """Give the folders that were made the modes and times of the source's, and let all that was
    written reach the medium."""
    for relative in reversed(made):
        target = os.path.join(os.fsencode(out), relative)
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(os.fsencode(source), relative))
            os.chmod(target, stat.S_IMODE(status.st_mode) & 0o777)
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    os.sync()


# ---- encrypt ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncryptOptions:
    """How a tree is encrypted. names: "keep" or "encrypted"; links: "keep", "follow", "skip"."""

    method: int | None = -1
    names: str = "keep"
    links: str = "keep"
    force: bool = False
    resume: bool = False
    force_scopes: bool = False


def _encryptor(root: str, out: str, envelope: Envelope, options: EncryptOptions):
    source_root, target_root = os.fsencode(root), os.fsencode(out)
    buffers = Buffers()

    def shown(entry: Entry) -> str:
        return os.fsdecode(os.path.join(source_root, entry.relative))

    def work(entry: Entry) -> Outcome:
        source = os.path.join(source_root, entry.relative)
        target = os.path.join(target_root, entry.relative)
        if entry.kind == "link" and options.links == "skip":
            return Outcome(shown(entry), "skipped", message="symbolic link")
        if entry.kind == "file" and is_object(source):
            return Outcome(shown(entry), "skipped", message="a DCMX object already")
        name = None
        if options.names == "encrypted":
            name = entry.relative
            target = os.path.join(target_root, os.urandom(16).hex().encode())
        target += SUFFIX.encode()
        if options.resume and encrypted_before(source, target, envelope):
            return Outcome(shown(entry), "skipped", message="encrypted before")
        read, size = encrypt_path(
            source, target, envelope, options.method, name=name, force=options.force,
            force_scopes=options.force_scopes, follow_links=options.links == "follow",
            sync=False, buffers=buffers,
        )  # fmt: skip
        if options.names == "encrypted":
            target = _rename_to_id(target, target_root)
        return Outcome(shown(entry), "done", os.fsdecode(target), read, size)

    return _guard(work, shown)


def _rename_to_id(target: bytes, root: bytes) -> bytes:
    """Give an object its own id for a name, which tells nothing and finds it again."""
    source = FileSource(target)
    try:
        object_id = Container(source, need_trailer=False).prefix.object_id
    finally:
        source.close()
    final = os.path.join(root, object_id.hex().encode() + SUFFIX.encode())
    os.rename(target, final)
    return final


def encrypt_tree(
    root: str, out: str, envelope: Envelope, options: EncryptOptions, jobs: int = 1
) -> Iterator[Outcome]:
    """Encrypt every file below `root` into `out`; yield an outcome an entry.

    The tree is mirrored, `.dcmx` added to each name; with names="encrypted" all objects lie
    in `out` under their ids and keep their places inside.
    """
    os.makedirs(out, exist_ok=True)
    made: list[bytes] = []
    mirror = out if options.names == "keep" else None
    tasks = _with_folders(entries_of(root, out), root, mirror, made)
    yield from run(tasks, _encryptor, (root, out, envelope, options), jobs)
    _finish_folders(root, out, made)


# ---- decrypt ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecryptOptions:
    """How a tree is decrypted."""

    part: str = "all"
    force: bool = False
    resume: bool = False
    unsafe_links: bool = False


def _decryptor(root: str, out: str, identities: Sequence[Identity], options: DecryptOptions):
    source_root, target_root = os.fsencode(root), os.fsencode(out)
    buffers, cache = Buffers(), BatchKeyCache()

    def shown(entry: Entry) -> str:
        return os.fsdecode(os.path.join(source_root, entry.relative))

    def work(entry: Entry) -> Outcome:
        source = os.path.join(source_root, entry.relative)
        if entry.kind == "link":
            return Outcome(shown(entry), "skipped", message="symbolic link")
        if not is_object(source):
            if entry.relative.endswith(SUFFIX.encode()):
                raise DamagedError("not a DCMX object: damaged or forged")
            return Outcome(shown(entry), "skipped", message="not a DCMX object")
        file = FileSource(source)
        try:
            opened = Container(file).unlock(identities, cache)
            index, meta = object_meta(opened)
            relative = plain_name(
                entry.relative, meta.name, opened.container.prefix.object_id
            )
            target = os.path.join(target_root, relative)
            check_folders(target_root, relative)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if options.resume and options.part == "all" and decrypted_before(target, index):
                return Outcome(shown(entry), "skipped", message="decrypted before")
            if meta.link is not None:
                return Outcome(
                    shown(entry), "link", os.fsdecode(target),
                    details={"relative": relative, "link": meta.link, "time": meta.mtime_ns},
                )  # fmt: skip
            size = write_plain(opened, target, part=options.part, force=options.force,
                               sync=False, buffers=buffers)
            return Outcome(shown(entry), "done", os.fsdecode(target), file.size(), size)
        finally:
            file.close()

    return _guard(work, shown)


def _restore_link(out: str, outcome: Outcome, options: DecryptOptions) -> Outcome:
    relative, link = outcome.details["relative"], outcome.details["link"]
    try:
        if not link or b"\0" in link:
            raise UnsafePathError("the object holds a link that no file system can hold")
        if not options.unsafe_links:
            check_link(relative, link)
        safe_relative(relative)
        target = os.path.join(os.fsencode(out), relative)
        check_folders(os.fsencode(out), relative)
        if options.force:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
        os.symlink(link, target)
        if outcome.details["time"] is not None:
            times = (outcome.details["time"],) * 2
            os.utime(target, ns=times, follow_symlinks=False)
    except FileExistsError:
        return _failed(outcome.path, OutputExistsError(
            f"{outcome.output!r} exists: give --force to overwrite it"))
    except (DicomcryptError, OSError) as error:
        return _failed(outcome.path, error)
    return Outcome(outcome.path, "done", outcome.output)


def decrypt_tree(
    root: str, out: str, identities: Sequence[Identity], options: DecryptOptions, jobs: int = 1
) -> Iterator[Outcome]:
    """Decrypt every object below `root` into `out`; yield an outcome an entry.

    Nothing is written outside `out`, nor through a symbolic link in it. Links are made last.
    """
    os.makedirs(out, exist_ok=True)
    links: list[Outcome] = []
    made: list[bytes] = []
    tasks = _with_folders(entries_of(root, out), root, out, made)
    for outcome in run(tasks, _decryptor, (root, out, identities, options), jobs):
        if outcome.state == "link":
            links.append(outcome)
        else:
            yield outcome
    for outcome in links:
        yield _restore_link(out, outcome, options)
    _finish_folders(root, out, made)


# ---- verify -------------------------------------------------------------


def _verifier(root: str, identities: Sequence[Identity]):
    source_root = os.fsencode(root)
    buffers, cache = Buffers(), BatchKeyCache()

    def shown(entry: Entry) -> str:
        return os.fsdecode(os.path.join(source_root, entry.relative))

    def work(entry: Entry) -> Outcome:
        source = os.path.join(source_root, entry.relative)
        if entry.kind == "link":
            return Outcome(shown(entry), "skipped", message="symbolic link")
        if not is_object(source):
            if entry.relative.endswith(SUFFIX.encode()):
                raise DamagedError("not a DCMX object: damaged or forged")
            return Outcome(shown(entry), "skipped", message="not a DCMX object")
        size, whole = verify_path(source, identities, cache=cache, buffers=buffers)
        return Outcome(
            shown(entry), "done", bytes_in=os.path.getsize(source), bytes_out=size,
            message="" if whole else "only the identity's scope was verified",
        )  # fmt: skip

    return _guard(work, shown)


def verify_tree(root: str, identities: Sequence[Identity], jobs: int = 1) -> Iterator[Outcome]:
    """Authenticate every object below `root`; yield an outcome an entry."""
    tasks = _with_folders(entries_of(root, None), root, None, [])
    return run(tasks, _verifier, (root, identities), jobs)


def exit_status(outcomes_failed: Sequence[int]) -> int:
    """The exit status of a tree: 0, the common cause's status, or 1 for mixed causes."""
    causes = set(outcomes_failed)
    if not causes:
        return 0
    return causes.pop() if len(causes) == 1 else 1
