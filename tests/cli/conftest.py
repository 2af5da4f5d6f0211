"""Key files, and two ways to call the command line: as a process, and in this one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import signal
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tree_jobs import Job

import dicomcrypt as dc
from dicomcrypt import cli as command_line
from dicomcrypt.container.index import Meta
from dicomcrypt.keys import keyfile
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.objects.buffers import GrowingSink
from dicomcrypt.objects.drivers import encode_memory
from dicomcrypt.objects.encoder import Encoder

#: Where the package that is under test was imported from.
PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "dicomcrypt"]
PASSPHRASE = "corr\u00e8ct horse \u96fb\u6c60"  # noqa: S105


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def command():
    """Start the command line as a process: command(*arguments, **options of run)."""

    def start(*arguments, **options):
        options = {"capture_output": True, "timeout": 100, "env": environment(), **options}
        if not {"input", "stdin"} & set(options):
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run([*COMMAND, *map(os.fspath, arguments)], check=False, **options)

    start.words = COMMAND
    start.environment = environment
    return start


@pytest.fixture
def start(command):
    """Start a command in a session of its own; end what is left of it."""
    running = []

    def begin(*arguments):
        process = subprocess.Popen(
            [*command.words, *map(os.fspath, arguments)], env=command.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
            # A test run in the background inherits an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def namespace(need_command):
    """Run a shell script where it may mount; skip where nobody may."""
    words = [need_command("unshare", "util-linux"), "-rm", "sh", "-c"]
    done = subprocess.run([*words, "mount -t tmpfs -o size=1m tmpfs /mnt"], check=False,
                          capture_output=True, timeout=100)
    if done.returncode:
        pytest.skip("no namespace in which a file system can be mounted: "
                    + done.stderr.decode(errors="replace").strip())

    def run(script, **options):
        return subprocess.run([*words, script], check=False, capture_output=True, text=True,
                              timeout=100, **options)

    return run


@pytest.fixture
def call(monkeypatch):
    """Run the command line in this process; what `main` lets escape is a test's failure.

    entered: what stands on standard input."""

    def invoke(*arguments, entered=None):
        words = [os.fspath(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["dicomcrypt", *words])
        status = None
        with CliRunner().isolation(input=entered) as streams:
            try:
                command_line.main()
            except SystemExit as end:
                status = end.code
            out, err = (stream.getvalue().decode() for stream in streams[:2])
        return SimpleNamespace(status=status, out=out, err=err)

    return invoke


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Key pairs by name: NAME.key and NAME.pub in a folder, and a passphrase file."""
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("doctor", "mlkem768-x25519"), ("other", "mlkem768-x25519"),
                       ("index", "mlkem768-x25519"), ("study", "mlkem768-x25519"),
                       ("classical", "x25519")):
        identity = keyfile.ALGORITHMS[kind].generate()
        (folder / f"{name}.key").write_text(keyfile.identity_text(identity))
        (folder / f"{name}.pub").write_text(keyfile.recipient_text(identity.recipient))
    (folder / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    (folder / "wrong").write_text("another passphrase\n")
    return folder


@pytest.fixture(scope="session")
def doctor(keys):
    return dc.load_identities(keys / "doctor.key")[0]


@pytest.fixture(params=["encrypt", "decrypt"])
def job(request, tmp_path, doctor):
    """A small tree's job, in both directions."""
    return Job(tmp_path, request.param, doctor)


@pytest.fixture(scope="session")
def dicom(corpus):
    """A file with tags, native pixel data and a name that tells nothing."""
    return next(path for path in corpus if path.name == "CT_small.dcm")


@pytest.fixture(scope="session")
def forge(doctor):
    """Make an object with any metadata, as a sender with bad intent would."""

    def make(folder, payload=b"payload", *, file=None, **meta):
        sink = GrowingSink()
        envelope = Envelope({1: [doctor.recipient]})
        encoder = Encoder(sink, envelope.material(), None, meta=Meta(**meta))
        encode_memory(encoder, memoryview(payload))
        blob = sink.value()
        path = os.path.join(os.fsencode(folder), file or blob[16:32].hex().encode() + b".dcmx")
        with open(path, "wb") as out:
            out.write(blob)
        return path

    return make


def _snapshot(root) -> dict[bytes, tuple]:
    """What is below a folder: kind, and mode, time and digest of files, target of links."""
    root, found = os.fsencode(root), {}
    for base, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                what = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                what = ("folder",)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                what = ("file", stat.S_IMODE(status.st_mode), status.st_mtime_ns, digest)
            else:
                what = ("other",)
            found[os.path.relpath(path, root)] = what
    return found


@pytest.fixture(scope="session")
def snapshot():
    return _snapshot


@pytest.fixture(scope="session")
def leftovers():
    """Names below a folder that a finished or refused command must not leave behind."""
    return lambda folder: [path for path in _snapshot(folder) if path.endswith(b".part")]
