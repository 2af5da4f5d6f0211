"""A level of the health system: a process of its own, which runs dicomcrypt commands in its folder.

A line of standard input is a command's words as JSON; a line of standard output is [exit status,
what it said]. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from dicomcrypt.cli import main


def run(words: list[str]) -> tuple[int, str]:
    """Run a command as the command line does."""
    said, status = io.StringIO(), 0
    sys.argv = ["dicomcrypt", *words]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, said.getvalue()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            print(json.dumps(run(json.loads(line))), flush=True)
