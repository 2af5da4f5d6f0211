"""Verify the objects of a tree, or change their recipients, where they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..container.reader import Container
from ..container.stanza import BATCH, BATCH_SCOPE, FULL, Identity, Recipient
from ..objects.buffers import FileSource
from ..objects.files import Buffers, Progress, verify_opened
from ..objects.rewrap import rewrap_path
from ..objects.signing import NO_DEMANDS, SignaturePolicy, verified_note
from .job import Guarded, Shard, Watch, run
from .opening import Opener
from .pool import Outcome, Worker
from .tree import entries_of, is_object
from .walk import Entry, Survey, in_shard

if TYPE_CHECKING:
    from ..keys.signing import Signer


def _objects(survey: Survey, shard: Shard | None) -> Iterator[Entry]:
    for entry in survey:
        if entry.kind != "folder" and in_shard(entry.relative, shard):
            yield entry


def _verifier(
    root: str, identities: Sequence[Identity], policy: SignaturePolicy, tell: Progress
) -> Worker:
    source_root = os.fsencode(root)
    buffers, opener = Buffers(), Opener(source_root, identities, policy)

    def work(entry: Entry) -> Outcome:
        source = os.path.join(source_root, entry.relative)
        shown = os.fsdecode(source)
        if entry.kind == "link":
            return Outcome(shown, "skipped", message="symbolic link")
        found = opener.take(entry)
        if found is None:
            return Outcome(shown, "skipped", message="not a DCMX object")
        with contextlib.closing(found):
            size, whole = verify_opened(found.container, buffers, tell)
            signature = policy.facts(found.container)
        return Outcome(
            shown, "done", bytes_in=entry.size, bytes_out=size,
            message=verified_note(whole, signature),
            details={"signature": signature} if signature else None,
        )  # fmt: skip

    return Guarded(work, source_root, opener.begin)


def verify_tree(
    root: str, identities: Sequence[Identity], jobs: int = 1, *, shard: Shard | None = None,
    watch: Watch | None = None, start_method: str | None = None,
    policy: SignaturePolicy = NO_DEMANDS,
) -> Iterator[Outcome]:
    """Authenticate every object below `root`; yield an outcome an entry."""
    survey = Survey(lambda: entries_of(root), shard)
    return run(survey, _objects(survey, shard), _verifier, (root, identities, policy), jobs,
               watch=watch, start_method=start_method)


@dataclass(frozen=True, slots=True)
class RewrapOptions:
    """Who is added and removed. resume: objects of which that is true already are left out."""

    add: tuple[Recipient, ...] = ()
    remove: tuple[Recipient | bytes, ...] = ()
    keep_key: bool = False
    allow_classical: bool = False
    allow_mixed: bool = False
    resume: bool = False
    signer: Signer | None = None
    drop_signature: bool = False


def rewrap_one(
    path: str, identities: Sequence[Identity], options: RewrapOptions
) -> Outcome:
    """Change the recipients of one object."""
    asked = options.add or options.remove
    if options.resume and asked and _rewrapped_before(path, options):
        return Outcome(path, "skipped", message="has these recipients already")
    done = rewrap_path(
        path, identities, add=options.add, remove=options.remove, keep_key=options.keep_key,
        allow_classical=options.allow_classical, allow_mixed=options.allow_mixed,
        signer=options.signer, drop_signature=options.drop_signature,
    )  # fmt: skip
    size = os.path.getsize(path)
    message = "encrypted anew" if options.remove and not options.keep_key else "header only"
    return Outcome(path, "done", bytes_in=size, bytes_out=size, message=message,
                   details={"rewritten": done["rewritten"]})


def _rewrapped_before(path: str, options: RewrapOptions) -> bool:
    file = FileSource(path)
    try:
        found = Container(file).slots[0].stanzas
    finally:
        file.close()
    stanzas = [s for s in found if s.type != BATCH]
    # Only who opens the object knows which of several batch keys a recipient has.
    full = {FULL, BATCH_SCOPE} if all(s.scope == FULL for s in found if s.type == BATCH) else {FULL}
    hints = {s.hint for s in stanzas}
    gone = {r if isinstance(r, bytes) else r.hint for r in options.remove}
    there = {(s.type, s.hint) for s in stanzas if s.scope in full}
    return not gone & hints and all((r.stanza_type, r.hint) in there for r in options.add)


def _rewrapper(
    root: str, identities: Sequence[Identity], options: RewrapOptions, tell: Progress
) -> Worker:
    source_root = os.fsencode(root)

    def work(entry: Entry) -> Outcome:
        path = os.fsdecode(os.path.join(source_root, entry.relative))
        if entry.kind == "link":
            return Outcome(path, "skipped", message="symbolic link")
        if not is_object(path):
            return Outcome(path, "skipped", message="not a DCMX object")
        return rewrap_one(path, identities, options)

    return Guarded(work, source_root)


def rewrap_tree(
    root: str, identities: Sequence[Identity], options: RewrapOptions, jobs: int = 1, *,
    shard: Shard | None = None, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Change the recipients of every object below `root`; yield an outcome an entry.

    Each object is changed as one step, so a job that was broken off is finished with
    `options.resume`."""
    survey = Survey(lambda: entries_of(root), shard)
    return run(survey, _objects(survey, shard), _rewrapper, (root, identities, options), jobs,
               watch=watch, start_method=start_method)
