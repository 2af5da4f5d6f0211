"""Folders' jobs on a Dask cluster: what `--engine dask` and its options mean."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import options as opt

if TYPE_CHECKING:
    from ..cluster.connection import Cluster
    from ..cluster.jobs import WorkerKeys
    from ..vault.vault import Vault
    from .console import Report

_OPTIONS = {"scheduler": "--scheduler", "dask_ca": "--dask-ca", "dask_cert": "--dask-cert",
            "dask_key": "--dask-key", "secrets_in_clear": "--secrets-in-clear",
            "shards": "--shards", "worker_identity": "--worker-identity"}


def wanted(inputs: Sequence[str], **local: Any) -> bool:
    """Whether a cluster does the job. local: options, by name, that only this machine knows.

    Raises UsageError for what does not stand together."""
    if opt.kept("engine") != "dask":
        for name, option in _OPTIONS.items():
            if opt.kept(name):
                raise UsageError(f"{option} is of use with --engine dask only")
        return False
    if opt.kept("scheduler") is None:
        raise UsageError("--engine dask needs --scheduler tcp://HOST:PORT or tls://HOST:PORT")
    for name, value in local.items():
        if value is not None:
            raise UsageError(f"--{name} is for --engine local: a cluster's job is in shards, each "
                             "with a journal of its own, one a worker thread at a time")
    for path in inputs:
        if not os.path.isdir(path):
            raise UsageError(f"--engine dask is for folders, and {path!r} is none")
    return True


def load_keys(
    identity_files: tuple[str, ...], ask: bool, passphrase_file: str | None
) -> WorkerKeys:
    """Return the identities for the workers: sent, or read by each of them."""
    from ..cluster.jobs import WorkerKeys

    files = [os.path.abspath(path) for path in opt.kept("worker_identity")]
    if files and (opt.by_identity(identity_files) or ask or passphrase_file is not None):
        raise UsageError("--worker-identity and another identity: give one of them")
    sent = () if files else opt.load_identity_files(identity_files, ask, passphrase_file)
    return WorkerKeys(sent, files)


def connect(*, secret: bool) -> Cluster:
    """Return the connection to the cluster, closed by `with`. secret: whether keys will be sent."""
    from ..cluster.connection import Cluster, Place

    found = Cluster(Place(opt.kept("scheduler"), opt.kept("dask_ca"), opt.kept("dask_cert"),
                          opt.kept("dask_key")))
    try:
        if secret:
            found.check_private(opt.kept("secrets_in_clear"))
    except BaseException:
        found.__exit__()
        raise
    return found


def warner(report: Report) -> Callable[[str], None]:
    """Return what tells of warnings that come up while a job runs."""
    from .console import complain

    def warn(text: str) -> None:
        report.warnings.append(text)
        if not (report.as_json or report.quiet):
            complain(text)

    return warn


@contextlib.contextmanager
def vault_pool(vault: Vault, report: Report) -> Iterator[Callable[..., Any]]:
    """What makes the workers of a job that adds to a vault; keys are sent to them."""
    from ..cluster.pool import ClusterPool
    from ..vault.store import is_local

    if not is_local(vault.store):
        raise UsageError("--engine dask adds to vaults in a folder that all machines share")
    with connect(secret=True) as cluster:
        yield functools.partial(ClusterPool, cluster, warner(report))


def run_trees(report: Report, jobs: Sequence[Any]) -> None:
    """Do the jobs (`cluster.jobs`) of a command, one after another."""
    from ..cluster import shards
    from .console import run

    warn = warner(report)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connect(secret=any(job.secret for job in jobs)))
        probes = [stack.enter_context(shards.holding(job)) for job in jobs]
        counts = [shards.shard_count(job.out, opt.kept("shards"), cluster.slots) for job in jobs]
        for job, count, probe in zip(jobs, counts, probes, strict=True):
            run(report, shards.run_shards(cluster, job, count, probe, watch=report.watch,
                                          tell=warn))
        if not report.exit_status():
            for job, count in zip(jobs, counts, strict=True):
                if job.out is not None:
                    shards.remove_journals(job.out, count)
