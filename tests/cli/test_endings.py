"""How the process ends that is interrupted as it starts, or that nobody listens to any more."""

import os
import subprocess
import sys

import pytest

#: Runs the command line; SIGINT comes when the module of the first argument is looked for.
INTERRUPTED = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Interruption())
runpy.run_module("dicomcrypt", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", [
    "dicomcrypt.cli", "click", "dicomcrypt.cli.auditing", "dicomcrypt.cli.keygen",
    "dicomcrypt.keys.keyfile",
])  # fmt: skip
def test_an_interruption_while_modules_are_imported_ends_as_any_other(
    command, tmp_path, module
):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "keygen", "-o", tmp_path / "a.key"],
        env=command.environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == "dicomcrypt: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def deaf(command):
    """Run the command line with a standard output that nobody reads: `| head -0`."""

    def run(*words):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            return command(*words, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
        finally:
            os.close(writer)

    return run


@pytest.fixture(scope="module")
def vault(command, keys, dicom, tmp_path_factory):
    place = tmp_path_factory.mktemp("deaf") / "vault"
    assert command("vault", "create", place, "-r", keys / "doctor.pub").returncode == 0
    done = command("vault", "add", place, dicom, "-i", keys / "doctor.key")
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("words", [
    ("--help",), ("policy", "show"), ("vault", "ls", "VAULT", "-i", "KEY"),
    ("vault", "ls", "VAULT", "-i", "KEY", "--json"),
    ("vault", "cat", "VAULT", "--all", "-i", "KEY"),
], ids=" ".join)  # fmt: skip
def test_a_reader_who_goes_away_is_no_cause_for_a_traceback(deaf, vault, keys, words):
    places = {"VAULT": vault, "KEY": keys / "doctor.key"}
    done = deaf(*(places.get(word, word) for word in words))
    assert (done.returncode, done.stderr) == (1, b"")
