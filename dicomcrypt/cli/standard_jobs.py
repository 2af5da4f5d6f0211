"""Files and trees through a change of `standard`: what its commands have in common."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import click

from ..errors import UsageError
from . import options as opt
from .outcome import single
from .targets import pair

if TYPE_CHECKING:
    from ..standard.changes import Change


class Common(TypedDict):
    """What the options of `tree` give."""

    jobs: int | None
    shard: tuple[int, int] | None
    journal: str | None
    no_sync: bool
    force: bool
    as_json: bool
    quiet: bool
    verbose: bool


#: Options of every command that changes files and trees.
tree = opt.shared(opt.jobs, opt.shard, opt.journal, opt.no_sync, opt.force, opt.output_style)
output = click.option("-o", "--output", required=True, metavar="FILE|FOLDER", help="Where it goes.")


def certificates(recipients: Sequence[Any]) -> list[bytes]:
    """What tells a job's recipients from another job's; passwords do not count."""
    from cryptography.hazmat.primitives import hashes

    return sorted(r.certificate.fingerprint(hashes.SHA256()) for r in recipients
                  if getattr(r, "certificate", None) is not None)


def run_changes(
    verb: str, inputs: Sequence[str], output: str | None, change: Change, job: list[bytes],
    *, jobs: int | None, shard: tuple[int, int] | None, journal: str | None, no_sync: bool,
    force: bool, as_json: bool, quiet: bool, verbose: bool, names: str = "keep",
    name: Callable[[str], str] = lambda path: path, action: str | None = None,
) -> int:
    """Do it with all inputs; return the exit status.

    job: what tells it from other jobs. names: of `TreeOptions`; name: a file's output name from its
    own; action: for the audit log, if it is not the verb. The rest: the options of `tree`."""
    from ..standard.files import TreeOptions, change_file, change_tree
    from ..trees.pool import default_jobs
    from .console import Report, run
    from .crypt import remove_journals

    if "-" in inputs or output == "-":
        raise UsageError("DICOM files are read and written in pieces: standard input and output "
                         "will not do")
    targets = pair(inputs, output, name, verb)
    several = len(targets) > 1
    if several and journal is not None:
        raise UsageError("--journal is for one tree: each has a journal of its own")
    options = TreeOptions(names, force, not no_sync)
    with Report(verb, as_json=as_json, quiet=quiet, verbose=verbose,
                action=action or verb) as report:
        for source, target in targets:
            if os.path.isdir(source):
                run(report, change_tree(source, target, change, job, options,
                                        jobs or default_jobs(), shard=shard, journal=journal,
                                        keep_journal=several, watch=report.watch))
            else:
                run(report, single(source, functools.partial(
                    change_file, source, target, change, force=force,
                    tell=report.follow(source))))
    if several and not report.exit_status():
        remove_journals(targets, shard, journal)
    return report.exit_status()
