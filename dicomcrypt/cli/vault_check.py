"""`dicomcrypt vault check|repair`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import click

from . import auditing
from . import options as opt
from .vault import Unlocking, about, open_vault, unlocking
from .vault_keep import tell_ended

if TYPE_CHECKING:
    from ..vault.checking import Finding



@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is told (done, total); on a terminal it shows a bar."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("objects", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _default_jobs(jobs: int | None) -> int:
    from ..trees.pool import default_jobs

    return jobs or default_jobs()


@click.command(epilog="""\b
Examples:
  dicomcrypt vault check safe/ -i doctor.key
  dicomcrypt vault check safe/ -i doctor.key --json

\b
Exit status: 0 all fits, 4 something is wrong (`vault repair` may help).
""")
@unlocking
@opt.jobs
@opt.as_json
@opt.quiet
def check(
    folder: str, jobs: int | None, as_json: bool, quiet: bool, **how: Unpack[Unlocking],
) -> None:
    """Look whether objects, catalogue and key table fit each other; nothing is changed.

    Headers are opened, contents are not: `vault verify` reads every byte.
    """
    from ..vault.checking import Check
    from .console import print_json, printable, say

    with open_vault(folder, how, catalogue=False) as vault, _progress(not quiet) as progress:
        looked = Check(vault, jobs=_default_jobs(jobs), progress=progress)
        with auditing.job(**about("check", vault)) as facts:
            found = list(looked.run())
            facts |= {"done": looked.checked, "failed": sum(f.wrong for f in found)}
    wrong = [finding for finding in found if finding.wrong]
    if as_json:
        print_json({
            "whole": not wrong, "objects": len(looked.objects), "checked": looked.checked,
            "findings": [finding_facts(finding) for finding in found],
        })  # fmt: skip
    else:
        for finding in found:
            place = f"{finding.name}: " if finding.name else ""
            path = f" ({os.fsdecode(finding.path)})" if finding.path else ""
            if finding.wrong or not quiet:
                click.echo(printable(f"{finding.kind}: {place}{finding.message}{path}"),
                           err=finding.wrong)
        if not quiet or wrong:
            say(f"{len(looked.objects)} objects, {len(wrong)} things wrong")
    if wrong:
        sys.exit(4)


def finding_facts(finding: Finding) -> dict[str, Any]:
    """Return what --json has of a finding."""
    facts: dict[str, Any] = {"kind": finding.kind, "wrong": finding.wrong,
                             "message": finding.message}
    if finding.name:
        facts["name"] = finding.name
    if finding.path:
        facts["path"] = os.fsdecode(finding.path)
    return facts


def _names(ids: Sequence[str]) -> list[str]:
    from ..errors import UsageError
    from ..vault.vault import object_name

    try:
        return [object_name(bytes.fromhex(found)) for found in ids]
    except ValueError:
        raise UsageError("--damaged takes an object's id, in hexadecimal") from None


@click.command(epilog="""\b
Examples:
  dicomcrypt vault repair safe/ -i doctor.key
  dicomcrypt vault repair safe/ -i doctor.key --rebuild
  dicomcrypt vault repair safe/ -i doctor.key --aside /mnt/damaged --drop-missing
""")
@unlocking
@click.option("--aside", metavar="FOLDER",
              help="Where damaged objects go; by default damaged/ in the vault.")
@click.option("--rebuild", is_flag=True, help="Write the catalogue anew, from the objects alone.")
@click.option("--drop-missing", is_flag=True, help="Take away rows of objects that are gone.")
@click.option("--remove-erased", is_flag=True,
              help="Delete objects of erased records, which nobody can read.")
@click.option("--accept-old", is_flag=True, help="Take objects with older headers as they are.")
@click.option("--damaged", multiple=True, metavar="ID",
              help="Object that is not whole, as `vault verify` found; repeatable.")
@opt.jobs
@opt.as_json
@opt.quiet
def repair(
    folder: str, aside: str | None, rebuild: bool, drop_missing: bool, remove_erased: bool,
    accept_old: bool, damaged: tuple[str, ...], jobs: int | None, as_json: bool, quiet: bool,
    **how: Unpack[Unlocking],
) -> None:
    """Put a vault in order: damaged objects aside, rows for objects that have none.

    Unasked it deletes only what killed jobs left, and of an object without a row the second copy
    of the same bytes under the same path of the same record. What is damaged is set aside, and its
    rows are taken away.
    """
    from ..vault.repairing import repair as repair_vault
    from .console import complain, print_json, say

    with (
        open_vault(folder, how, catalogue=False) as vault, _progress(not quiet) as progress,
        auditing.job(**about("repair", vault)) as facts,
        vault.lease("vault repair", finish=False),
    ):  # fmt: skip
        done = repair_vault(
            vault, aside=aside, rebuild=rebuild, drop_missing=drop_missing,
            remove_erased=remove_erased, accept_old=accept_old, damaged=_names(damaged),
            jobs=_default_jobs(jobs), progress=progress,
        )  # fmt: skip
        tell_ended(vault)
        facts |= {"done": done.adopted + done.rebuilt, "skipped": len(done.aside),
                  "failed": len(done.left)}
    if as_json:
        print_json({"aside": done.aside, "adopted": done.adopted, "rows_taken_away": done.dropped,
                    "removed": done.removed, "keys_erased_again": done.buried,
                    "rebuilt": done.rebuilt, "unreadable": done.unreadable,
                    "left": [finding_facts(finding) for finding in done.left]})
    else:
        for place in done.aside:
            say(f"set aside: {place}")
        for finding in done.left:
            say(f"left: {finding.kind}: {finding.name or ''} {finding.message}")
        if not quiet:
            say(f"{done.rebuilt} rows rebuilt, {done.adopted} objects got rows, {done.dropped} "
                f"rows taken away, {len(done.aside)} objects set aside, {done.removed} deleted")
    if not rebuild and any(finding.kind in ("head", "segment") for finding in done.left):
        complain("--rebuild writes the catalogue anew, from the objects that are there")
    if done.left:
        sys.exit(4)
