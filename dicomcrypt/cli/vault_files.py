"""`dicomcrypt vault add`, `get`, `cat`, `verify` and `share`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click

from ..errors import UsageError
from . import auditing
from . import options as opt
from .vault import (
    Selecting,
    Unlocking,
    about,
    open_vault,
    selected,
    selection,
    tell_missing,
    unlocking,
)

if TYPE_CHECKING:
    from ..vault.rows import Row

#: Objects that are named where one is to be chosen.
MOST = 20


@click.command(epilog="""\b
Examples:
  dicomcrypt vault add archive/ ward3/ -i doctor.key
  dicomcrypt vault add archive/ a.dcm b.dcm --prefix incoming -i doctor.key
  dicomcrypt vault add archive/ ward3/ --verify --login service --passphrase-file secret
  dicomcrypt vault add archive/ ward3/ -i doctor.key --engine dask --scheduler tls://head:8786
""")
@unlocking
@click.argument("paths", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--prefix", metavar="PATH", help="What stands before the paths in the vault; by "
              "default a folder's own name, nothing for a file.")
@click.option("--method", type=click.Choice(opt.METHODS), default="randomized",
              show_default=True, help="Block layer below the authenticated encryption.")
@click.option("--links", type=click.Choice(["keep", "follow", "skip"]), default="keep",
              show_default=True, help="Symbolic links in a folder; follow: those to files.")
@click.option("--verify", is_flag=True,
              help="Read every object back from the medium and compare it with its source.")
@click.option("--no-dedupe", is_flag=True,
              help="Store a file again that its patient's record has already.")
@opt.jobs
@opt.engine
@opt.no_sync
@opt.output_style
def add(
    folder: str, paths: tuple[str, ...], prefix: str | None, method: str, links: str, verify: bool,
    no_dedupe: bool, jobs: int | None, no_sync: bool, as_json: bool, quiet: bool, verbose: bool,
    **how: Unpack[Unlocking],
) -> None:
    """Encrypt files into a vault; originals stay as they are.

    Each patient's files are under a key of their own. A file that the same patient's record has
    already is stored once. A folder's files keep their paths below its name, named files their
    names alone. Empty folders, and modes and times of folders, are not kept. A job that
    was interrupted or killed goes on when the same command is given again.
    """
    from ..ciphers.transform import method_number
    from ..trees.pool import default_jobs
    from ..vault.adding import AddOptions, add_files, add_tree
    from . import cluster
    from .console import Report, run

    remote = cluster.wanted(paths, jobs=jobs)
    options = AddOptions(method_number(method), links, verify, not no_dedupe, not no_sync)
    with open_vault(folder, how) as opened:
        with Report("add", as_json=as_json, quiet=quiet, verbose=verbose,
                    **about("add", opened)) as report:
            workers = jobs or default_jobs()
            files = [path for path in paths if not os.path.isdir(path)]
            if files:
                run(report, add_files(opened, files, options, workers, prefix=prefix or "",
                                      watch=report.watch))
            with cluster.vault_pool(opened, report) if remote else contextlib.nullcontext() as pool:
                for path in paths:
                    if path not in files:
                        run(report, add_tree(opened, path, options, workers, prefix=prefix,
                                             watch=report.watch, pool=pool))
        opened.catalogue.save_cache()
    sys.exit(report.exit_status())


@click.command(epilog="""\b
Examples:
  dicomcrypt vault get archive/ --patient 4711 -i doctor.key -o back/
  dicomcrypt vault get archive/ --series 1.2.840.1.7 -i doctor.key -o back/
  dicomcrypt vault get archive/ ward3/monday ward3/x.dcm -i doctor.key -o back/
  dicomcrypt vault get archive/ --all -i doctor.key -o back/
""")
@unlocking
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@selection
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where the files go.")
@click.option("--unsafe-links", is_flag=True, help="Restore links that point out of the tree.")
@click.option("--resume", is_flag=True, help="Leave out what was restored before.")
@opt.jobs
@opt.journal
@opt.no_sync
@opt.force
@opt.output_style
def get(
    folder: str, paths: tuple[str, ...], output: str, unsafe_links: bool, resume: bool,
    jobs: int | None, journal: str | None, no_sync: bool, force: bool, as_json: bool, quiet: bool,
    verbose: bool, **how: Unpack[Selecting],
) -> None:
    """Restore files under the paths that they had when they were added.

    A file appears under its name when its last byte was verified, or not at all.
    """
    from ..trees.pool import default_jobs
    from ..trees.tree import DecryptOptions
    from ..vault.getting import get as restore
    from .console import Report, run

    options = DecryptOptions("all", force, resume, unsafe_links, not no_sync)
    with open_vault(folder, how) as opened:
        rows = selected(opened, how, paths)
        lost = tell_missing(opened)
        with Report("get", as_json=as_json, quiet=quiet, verbose=verbose,
                    **about("get", opened)) as report:
            run(report, restore(opened, rows, output, options, jobs or default_jobs(),
                                journal=journal, watch=report.watch))
    sys.exit(report.exit_status() or lost)


@click.command(epilog="""\b
Examples:
  dicomcrypt vault cat archive/ ward3/x.dcm -i doctor.key | dcmdump -
  dicomcrypt vault cat archive/ --object 0123456789abcdef0123456789abcdef -i doctor.key > x.dcm
  dicomcrypt vault cat archive/ ward3/x.dcm --latest -i doctor.key > x.dcm
""")
@unlocking
@click.argument("paths", nargs=-1, metavar="[PATH]")
@selection
@click.option("--latest", is_flag=True, help="Of several that match, the one that was added last.")
def cat(folder: str, paths: tuple[str, ...], latest: bool, **how: Unpack[Selecting]) -> None:
    """Write one file to standard output.

    A file that was added again with other content is there several times under its path: name one
    with --object, or take the --latest.

    Chunks go out as they are authenticated; that a later one is damaged is told by the exit
    status.
    """
    from ..vault.getting import cat as write
    from .pipes import standard_output

    with open_vault(folder, how) as opened:
        rows = selected(opened, how, paths)
        rows = _one_object(rows, latest)
        with auditing.job(**about("cat", opened)):
            write(opened, rows, standard_output())


def _one_object(rows: Sequence[Row], latest: bool) -> list[Row]:
    """Return the rows of one object; of several, say which there are. Raises UsageError."""
    from .console import say, size_text
    from .vault_backups import moment

    found = {row.object_id: row for row in sorted(rows, key=lambda row: row.added_ns or 0)}
    *others, last = found.values()
    if not others or latest:
        return [last]
    for row in [*others, last][-MOST:]:
        say(f"{(row.object_id or b'').hex()}  added {moment((row.added_ns or 0) / 1e9)}, "
            f"{size_text(row.size or 0)}, {os.fsdecode(row.path or b'')}")
    raise UsageError(f"{len(found)} objects match: say which with --object ID, or give --latest "
                     "for the one that was added last")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault verify archive/ -i doctor.key
  dicomcrypt vault verify archive/ --patient 4711 -i doctor.key --json
""")
@unlocking
@selection
@opt.jobs
@opt.output_style
def verify(
    folder: str, jobs: int | None, as_json: bool, quiet: bool, verbose: bool,
    **how: Unpack[Selecting],
) -> None:
    """Authenticate every byte of all objects, or of some, without writing anything.

    Objects that stand in another's place, and headers that were put back to older ones, are
    noticed too.
    """
    from ..trees.pool import default_jobs
    from ..vault.checking import keyless
    from ..vault.getting import verify as authenticate
    from .console import Report, complain, run

    how["everything"] |= not any(how[name] for name in ("patient", "issuer", "study", "series",
                                                        "objects"))
    with open_vault(folder, how) as opened:
        lost = keyless(opened)
        rows = selected(opened, how)
        with Report("verify", as_json=as_json, quiet=quiet, verbose=verbose,
                    **about("verify", opened)) as report:
            run(report, authenticate(opened, rows, jobs or default_jobs(), watch=report.watch))
    if lost:
        complain(lost)
    sys.exit(report.exit_status(expect_some=True) or (4 if lost else 0))


@click.command(epilog="""\b
Examples:
  dicomcrypt vault share archive/ --patient 4711 --to colleague.pub -i doctor.key -o for-them/
  dicomcrypt decrypt for-them/ -i colleague.key -o files/            as the colleague does it
""")
@unlocking
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@selection
@click.option("--to", "recipient_files", multiple=True, required=True, metavar="FILE",
              help="Recipient file of who gets them; repeatable.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where the objects go.")
@opt.classical
@opt.jobs
@opt.no_sync
@opt.force
@opt.output_style
def share(
    folder: str, paths: tuple[str, ...], recipient_files: tuple[str, ...], output: str,
    allow_classical: bool, allow_mixed: bool, jobs: int | None, no_sync: bool, force: bool,
    as_json: bool, quiet: bool, verbose: bool, **how: Unpack[Selecting],
) -> None:
    """Give objects to somebody: copies that he opens with his own key, and nothing else.

    Nothing is decrypted: each object's own key is wrapped for him, and no key of the vault leaves
    it. The names of the copies tell nothing; the paths are inside. What was given away cannot be
    taken back, nor erased.
    """
    from ..trees.pool import default_jobs
    from ..vault.sharing import share as copy
    from .console import Report, run

    recipients = opt.load_recipient_files(recipient_files)
    with open_vault(folder, how) as opened:
        rows = selected(opened, how, paths)
        lost = tell_missing(opened)
        with Report("share", as_json=as_json, quiet=quiet, verbose=verbose,
                    **about("share", opened)) as report:
            run(report, copy(opened, rows, output, recipients, jobs or default_jobs(), force=force,
                             sync=not no_sync, allow_classical=allow_classical,
                             allow_mixed=allow_mixed, watch=report.watch))
    sys.exit(report.exit_status() or lost)
