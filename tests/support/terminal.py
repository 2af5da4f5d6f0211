"""The command line in a process of its own, on a terminal."""

from __future__ import annotations

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
