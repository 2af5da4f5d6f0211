"""A Dask cluster of separate processes on loopback, and what makes its workers slow.

As a preload of `dask worker` this module makes checkpoints frequent, and files slow as long as
the test wants that: it can then kill a worker in the middle of a shard.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import dicomcrypt

#: Where the package that is under test was imported from.
PACKAGE = pathlib.Path(dicomcrypt.__file__).parents[1]
#: Files of a checkpoint, and seconds that a file takes while SLOW lies in the workers' folder.
FEW, SECONDS, SLOW = 4, 0.08, "slow"


def dask_setup(worker) -> None:
    """Called by `dask worker --preload`."""
    from dicomcrypt.trees import checkpoint
    from dicomcrypt.trees.sealing import Sealing

    real = Sealing.write

    def write(*arguments):
        if os.path.exists(SLOW):
            pathlib.Path(f"busy-{os.getpid()}").touch()
            time.sleep(SECONDS)
        return real(*arguments)

    checkpoint.FILES, Sealing.write = FEW, write


class DaskCluster:
    """A scheduler and workers; `address` for clients. security: options of dask's for TLS."""

    def __init__(self, folder: pathlib.Path, workers: int = 2, security=()) -> None:
        self.folder, self.security = folder, [*map(str, security)]
        self.file = folder / "scheduler.json"
        self._running: list[subprocess.Popen] = []
        protocol = ["--protocol", "tls"] if security else []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                    "--scheduler-file", self.file, *protocol)
        self.address = self._wait(lambda: json.loads(self.file.read_text())["address"])
        self.workers = [self.start_worker() for _ in range(workers)]

    def _start(self, what: str, *arguments) -> subprocess.Popen:
        log = open(self.folder / f"{what}-{len(self._running)}.log", "wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", what, *map(str, arguments), *self.security],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": os.fspath(PACKAGE)},
            )  # fmt: skip
        process.log = pathlib.Path(log.name)
        self._running.append(process)
        return process

    def start_worker(self) -> subprocess.Popen:
        """Start a worker; it may join a moment later."""
        return self._start(
            "worker", "--scheduler-file", self.file, "--nthreads", "1", "--no-nanny",
            "--no-dashboard", "--host", "127.0.0.1", "--local-directory", self.folder,
            "--preload", __file__, "--memory-limit", "0",
        )  # fmt: skip

    def kill_busy(self) -> None:
        """Kill the worker that began a file last, while they are slow; another one takes its
        place."""
        began = {p.stat().st_mtime_ns: p.name for p in self.folder.glob("busy-*")}
        lost = next(p for p in self.workers if began[max(began)] == f"busy-{p.pid}")
        lost.send_signal(signal.SIGKILL)
        assert lost.wait() == -signal.SIGKILL
        self.workers.remove(lost)
        self.workers.append(self.start_worker())

    @contextlib.contextmanager
    def slow(self):
        """Workers take their time with every file that they encrypt."""
        (self.folder / SLOW).touch()
        try:
            yield
        finally:
            (self.folder / SLOW).unlink()
            for path in self.folder.glob("busy-*"):
                path.unlink()

    def wait_joined(self, process: subprocess.Popen) -> None:
        self._wait(lambda: "Registered to" in process.log.read_text() or None)

    def logs(self) -> str:
        return "".join(p.log.read_text() for p in self._running)

    @staticmethod
    def _wait(look, seconds: float = 60.0):
        end = time.monotonic() + seconds
        while True:
            try:
                if (found := look()) is not None:
                    return found
            except (OSError, ValueError):
                pass
            assert time.monotonic() < end, "the cluster does not start"
            time.sleep(0.05)

    def __enter__(self) -> DaskCluster:
        for process in self.workers:
            self.wait_joined(process)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
