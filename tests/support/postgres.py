"""A PostgreSQL server of the tests' own: a new cluster in a temporary folder, reached by a socket
in it alone. PostgreSQL refuses to run as root; then it runs as `nobody`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

USER = "otp"


def programs() -> pathlib.Path | None:
    """Return the folder of `initdb` and `postgres`, the newest version's."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    return pathlib.Path(path).parent if path else None


@contextlib.contextmanager
def serve(folder: pathlib.Path) -> Iterator[str]:
    """Run a server with the programs in folder; yield SQLAlchemy's URL of its first database."""
    as_nobody = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    home = tempfile.mkdtemp(prefix="dcx-pg-")
    try:
        if as_nobody:
            shutil.chown(home, *as_nobody.values())
        data = f"{home}/data"
        _run([folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8",
              "--locale=C"], home, as_nobody)
        options = {"unix_socket_directories": home, "listen_addresses": "", "fsync": "off"}
        command = [folder / "postgres", "-D", data]
        command += [word for item in options.items() for word in ("-c", "=".join(item))]
        with open(f"{home}/log", "wb") as log, subprocess.Popen(
            command, cwd=home, stdout=log, stderr=subprocess.STDOUT, **as_nobody
        ) as server:
            try:
                _wait(server, pathlib.Path(home))
                yield f"postgresql+psycopg://{USER}@/postgres?host={home}"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(home)


def _run(command: list, home: str, as_nobody: dict) -> None:
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, **as_nobody)
    assert done.returncode == 0, done.stderr


def _wait(server: subprocess.Popen, home: pathlib.Path) -> None:
    end = time.monotonic() + 60
    while "ready to accept connections" not in (home / "log").read_text():
        alive = server.poll() is None and time.monotonic() < end
        assert alive, (home / "log").read_text()
        time.sleep(0.05)
