"""A real pcscd with two virtual readers (vpcd), in network and mount namespaces of its own.

Nothing of the machine's card service is touched, and vpcd's ports, which anybody could use, are
reached from inside alone. Clients find it by PCSCLITE_CSOCK_NAME.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from card_readers import NAMES, find_pcscd, missing, write_configuration
from pcscd_room import PORTS

__all__ = ["NAMES", "Room", "available", "serve"]


class Room:
    """A running pcscd."""

    def __init__(self, folder: str, process: subprocess.Popen) -> None:
        self.folder, self.process = folder, process

    @property
    def socket(self) -> str:
        return f"{self.folder}/run/pcscd.comm"

    def log(self) -> str:
        return pathlib.Path(self.folder, "log").read_text(errors="replace")

    def connect(self, slot: int) -> socket.socket:
        """Return a connection to a virtual reader: what a card emulator would make itself. A reader
        whose card was just taken out needs a moment until it waits for another."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as asker:
                asker.settimeout(5)
                asker.connect(f"{self.folder}/cards")
                asker.sendall(bytes((slot,)))
                said, fds, _, _ = socket.recv_fds(asker, 1, 1)
            if said == b".":
                return socket.socket(fileno=fds[0])
            time.sleep(0.05)
        raise RuntimeError(f"reader {slot} takes no card: {self.log()}")

    def command(self, *words: str) -> list[str]:
        """What runs a command inside: it can reach the readers' ports."""
        how = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        return ["nsenter", "-t", str(self.process.pid), *how, "-n", *words]


def available() -> str | None:
    """Return what is missing, None if nothing is."""
    packages = missing()
    return f"{packages[0]} missing: apt-get install {packages[0]}" if packages else None


@functools.cache
def name() -> str:
    """What PCSCLITE_CSOCK_NAME is in this process, always (tests/conftest.py): the library reads it
    once. It is a link to the socket of the pcscd that runs, if one does."""
    return f"{tempfile.gettempdir()}/hpjc-{os.getpid()}-{secrets.token_hex(8)}/socket"


def _point_to(target: str | None) -> None:
    folder = os.path.dirname(name())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name())
        os.rmdir(folder)
    if target is not None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.symlink(target, name())


@contextlib.contextmanager
def serve() -> Iterator[Room]:
    """Run a pcscd; PCSCLITE_CSOCK_NAME leads to it as long as it runs."""
    folder = tempfile.mkdtemp(prefix="hpjc")
    outer = os.readlink(name()) if os.path.islink(name()) else None
    try:
        os.mkdir(f"{folder}/run")
        write_configuration(pathlib.Path(folder, "readers"))
        how = "-nm" if os.geteuid() == 0 else "-rnm"
        with open(f"{folder}/log", "ab") as log:
            process = subprocess.Popen(
                ["unshare", how, sys.executable, pathlib.Path(__file__).with_name("pcscd_room.py"),
                 folder, find_pcscd()], stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            room = Room(folder, process)
            _await(room)
            _point_to(room.socket)
            yield room
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
    finally:
        _point_to(outer)
        shutil.rmtree(folder, ignore_errors=True)


def _await(room: Room) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and room.process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(room.socket)
            room.connect(len(PORTS) - 1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"pcscd does not run: {room.log()}")
