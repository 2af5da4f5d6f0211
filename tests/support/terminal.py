"""The command line in a process of its own, on a terminal: asked, or looked at."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import subprocess
import sys

import dicomcrypt as dc

_PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """This process's, in which Python finds the package."""
    places = [str(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def on_terminal(folder: pathlib.Path, question: str, answer: bytes, *words: object):
    """Run the command line on a terminal, answer each such question; return its exit status and
    what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", *map(str, words)], cwd=folder, env=environment(),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, answered = b"", 0
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
            if shown.count(question.encode()) > answered and shown.rstrip().endswith(b":"):
                answered += 1
                os.write(ours, answer + b"\n")
    finally:
        os.close(ours)
        status = process.wait(60)
    return status, shown.decode(errors="replace")


def screen(words: list[str], environment: dict[str, str], folder=".") -> tuple[int, bytes]:
    """Run a command on a terminal of its own; return its exit status and what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(os.fspath(folder))
        os.execvpe(words[0], words, environment)  # noqa: S606
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown
