"""Files and trees of them whose digital signatures are verified, under a policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..errors import DamagedError, NotMeantError, PolicyError, UnsignedError
from ..objects.signing import SignaturePolicy
from ..regular import open_regular
from ..trees.job import Guarded, Shard, Watch, failed, run
from ..trees.pool import Outcome, Worker
from ..trees.tree import entries_of
from ..trees.walk import Entry, Survey, in_shard
from . import signatures
from .signing import archives_correct


def verify_file(
    path: str | bytes, policy: SignaturePolicy, *, require_all: bool = False
) -> Outcome:
    """Verify the signatures in a file; what is demanded of them and of what they cover is in the
    outcome's details: signatures (facts of each, its "trust" too), not_covered (names, those first
    that archives do not correct), and archives_correct (how many of these they do).

    Raises NotMeantError for what is no DICOM file if nothing is demanded; UnsignedError,
    DamagedError, PolicyError, OSError."""
    try:
        with open(open_regular(path), "rb") as file:
            found, size = signatures.verify(file), os.fstat(file.fileno()).st_size
    except NotMeantError:
        policy.accept_unsigned()
        raise
    accepted, refused = [], None
    facts: list[dict[str, Any]] = []
    for signature in found.signatures:
        told = {**signature.facts(), "trust": "not checked"}
        try:
            policy.accept(signature.made)
            accepted.append(signature)
            if policy.check or policy.signers:
                told["trust"] = "checked"
        except PolicyError as error:
            refused = refused or error
            told["trust"] = f"refused: {error}"
        facts.append(told)
    if not any(not one.place for one in accepted):
        if refused is not None:
            raise refused
        policy.accept_unsigned()
    left = found.unsigned(accepted)
    usual = [one for one in left if isinstance(one, int) and archives_correct(one)]
    unsigned = signatures.unsigned_names([*(one for one in left if one not in usual), *usual])
    if require_all and unsigned:
        raise DamagedError(f"no signature covers {len(unsigned)} elements, such as {unsigned[0]}")
    return Outcome(
        os.fsdecode(path), "done", bytes_in=size,
        message=f"{len(accepted)} signatures" if facts else "not signed",
        details={"signatures": facts, "not_covered": unsigned, "archives_correct": len(usual)},
    )


def _verifier(root: str, policy: SignaturePolicy, require_all: bool, tell: Any) -> Worker:
    source_root = os.fsencode(root)

    def work(entry: Entry) -> Outcome:
        path = os.path.join(source_root, entry.relative)
        if entry.kind == "link":
            return Outcome(os.fsdecode(path), "skipped", message="symbolic link")
        try:
            outcome = verify_file(path, policy, require_all=require_all)
        except NotMeantError as error:
            return Outcome(os.fsdecode(path), "skipped", message=str(error))
        tell(entry.size)
        return outcome

    return Guarded(work, source_root)


def verify_tree(
    root: str, policy: SignaturePolicy, jobs: int = 1, *, require_all: bool = False,
    shard: Shard | None = None, watch: Watch | None = None, start_method: str | None = None,
) -> Iterator[Outcome]:
    """Verify every DICOM file below `root` as `verify_file` does; yield an outcome an entry.

    Where a signature is demanded, nothing is left out: links and what is no DICOM file fail, so
    that nobody makes a file pass by making it another thing. Raises WorkerLostError."""
    survey = Survey(lambda: entries_of(root), shard)
    entries = (e for e in survey if e.kind != "folder" and in_shard(e.relative, shard))
    for outcome in run(survey, entries, _verifier, (root, policy, require_all), jobs, watch=watch,
                       start_method=start_method):
        if outcome.state == "skipped":
            try:
                policy.accept_unsigned()
            except UnsignedError:
                outcome = failed(outcome.path, UnsignedError(
                    f"{outcome.message}: nobody signed it, and a signature is required"))
        yield outcome
