"""What starting costs: the least of many processes."""

import subprocess
import sys

from dicomcrypt.cli.measure import best

BARE = [sys.executable, "-c", "pass"]


def least(command, rounds):
    def work():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return best(work, rounds)


def record(command, short, bare=0.0):
    rounds = 8 if short else 40
    return max(0.0, least(command, rounds) - bare)


def test_import(keep, short):
    bare = record(BARE, short)
    seconds = record([sys.executable, "-c", "import dicomcrypt"], short, bare)
    row = keep("import dicomcrypt, over the bare interpreter", seconds, at_most_us=60e3,
               note=f"the interpreter alone: {bare * 1e3:.1f} ms")
    assert row.seconds < 30
    code = "import dicomcrypt; dicomcrypt.Batch; dicomcrypt.Identity"
    keep("import and first use of Batch, Identity",
         record([sys.executable, "-c", code], short, bare))


def test_version(keep, short):
    command = [sys.executable, "-m", "dicomcrypt", "--version"]
    from dicomcrypt import __version__

    assert __version__ in subprocess.run(command, capture_output=True, text=True).stdout
    keep("dicomcrypt --version, the whole process", record(command, short), at_most_us=120e3)
