"""Worker processes: spawned as well as forked, keys through pipes only, and what ends them."""

import base64
import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from tree_jobs import Job, states

from dicomcrypt.errors import WorkerLostError
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.keys.passphrase import Passphrase
from dicomcrypt.trees import tree
from dicomcrypt.trees.tree import DecryptOptions, EncryptOptions, decrypt_tree, encrypt_tree

SECRET = "a passphrase that is nowhere to be seen"  # noqa: S105


def children():
    text = pathlib.Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def what_the_system_shows(pids):
    shown = b""
    for pid in pids:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                shown += pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    return shown


def secrets_of(identity):
    """Every form in which a key could be shown."""
    from dicomcrypt.keys.keyfile import identity_text

    text = identity_text(identity)
    body = [line for line in text.splitlines() if line and not line.startswith("#")]
    raw = [value for value in vars(identity).values() if isinstance(value, bytes)] if hasattr(
        identity, "__dict__") else []
    forms = [line.encode() for line in body] + raw
    return [form for value in forms for form in (value, value.hex().encode(),
                                                 base64.b64encode(value)) if len(form) >= 16]


@pytest.mark.parametrize(("verb", "key"), [("encrypt", "identity"), ("decrypt", "identity"),
                                           ("decrypt", "passphrase")])
def test_keys_reach_spawned_workers_and_nobody_else(tmp_path, doctor, verb, key):
    job = Job(tmp_path, "encrypt", doctor)
    identity = doctor if key == "identity" else Passphrase(SECRET, kdf="scrypt")
    recipient = doctor.recipient if key == "identity" else identity
    envelope = Envelope({1: [recipient]}, batch=True)
    before, shown, seen = set(children()), b"", set()

    def watch(survey, done):
        nonlocal shown
        now = set(children()) - before
        if now - seen:
            seen.update(now)
            shown += what_the_system_shows(now)

    objects = tmp_path / "objects"
    if verb == "decrypt":
        list(encrypt_tree(str(job.root), str(objects), envelope, EncryptOptions()))
        outcomes = decrypt_tree(str(objects), str(job.out), [identity], DecryptOptions(), 2,
                                start_method="spawn", watch=watch)
    else:
        outcomes = encrypt_tree(str(job.root), str(job.out), envelope, EncryptOptions(), 2,
                                start_method="spawn", watch=watch)
    assert states(outcomes) == {"done": len(job.plain)}
    assert len(seen) >= 2
    assert b"spawn_main" in shown
    secrets = secrets_of(doctor) if key == "identity" else [SECRET.encode()]
    assert secrets
    assert not [form for form in secrets if form in shown]


def test_the_commands_processes_show_no_keys(tmp_path, doctor, keys, command):
    job = Job(tmp_path, "encrypt", doctor, count=40, size=400_000)
    process = subprocess.Popen(
        [*command.words, "encrypt", job.source, "--passphrase-file", "-", "--kdf", "scrypt", "-o",
         job.out, "-j", "2"],
        env=command.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write((keys / "passphrase").read_bytes())
    process.stdin.close()
    shown, most = b"", 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            most = max(most, len(text.split()))
            shown += what_the_system_shows([process.pid, *text.split()])
        time.sleep(0.02)
    assert process.returncode == 0, process.stderr.read()
    process.stderr.close()
    assert most >= 2
    assert b"passphrase-file" in shown
    assert (keys / "passphrase").read_bytes().strip() not in shown


def test_nothing_at_load_is_of_posix_alone():
    """Windows has neither fcntl nor termios; the parts that need them do without."""
    code = (
        "import sys\n"
        "for name in ('fcntl', 'termios', 'pty', 'resource', 'grp', 'pwd', 'tty'):\n"
        "    sys.modules[name] = None\n"
        "import dicomcrypt.trees.tree, dicomcrypt.trees.inplace, dicomcrypt.cli.crypt\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True,
                          text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


# ---- what ends them -----------------------------------------------------------------


def test_a_killed_worker_ends_the_job_which_goes_on_later(job, monkeypatch):
    real, parent = getattr(*job.step), os.getpid()
    flag = job.folder / "killed"

    def deadly(*arguments, **named):
        if os.getpid() != parent:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    monkeypatch.setattr(*job.step, deadly)
    with pytest.raises(WorkerLostError, match="the same command goes on where it stopped"):
        job.run(jobs=2, start_method="fork")
    assert flag.exists()
    job.check_nothing_damaged()
    assert multiprocessing.active_children() == []
    assert set(states(job.run(jobs=2))) <= {"done", "skipped"}
    job.check_done()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_an_interrupt_between_an_output_and_whoever_knows_it(tmp_path, doctor, keys, call,
                                                             monkeypatch, verb, jobs):
    """It may come between any two steps, in the worker and in the job's own process."""
    job = Job(tmp_path, verb, doctor)
    real, calls = tree.AtomicFile.keep, []

    def keep(file, **more):
        real(file, **more)
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(tree.AtomicFile, "keep", keep)
    # Workers fork, so that they have it, whatever threads other tests have left in this process.
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    key = ["-r", keys / "doctor.pub"] if verb == "encrypt" else ["-i", keys / "doctor.key"]
    done = call(verb, job.source, *key, "-o", job.out, "-j", jobs)
    assert done.status == (130 if jobs == "1" else 1)
    assert job.parts() == []
    monkeypatch.undo()
    job.run()
    job.check_nothing_damaged()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "process"])
def test_ctrl_c_does_not_wait_for_large_files(tmp_path, keys, start, jobs, whole_group):
    """Files of gigabytes are being read; neither is there afterwards."""
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    for number in range(2):
        with open(root / f"large{number}", "wb") as file:
            file.truncate(40 << 30)
    process = start("encrypt", root, "-r", keys / "doctor.pub", "-o", out, "-j", jobs, "--method",
                    "none")
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a part may go while it is looked at
            if [p for p in out.glob(".dcmx-*.part") if p.stat().st_size > 1 << 20]:
                break
        time.sleep(0.01)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert b"interrupted: the same command goes on where it stopped" in err
    assert b"Traceback" not in err
    assert [name for name in os.listdir(out) if not name.startswith(".dcmx-journal")] == []


def test_ctrl_c_while_workers_start_shows_no_traceback(tmp_path, doctor, keys, start):
    job = Job(tmp_path, "encrypt", doctor)
    for pause in (0.2, 0.3):
        process = start("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "8",
                        "--force")
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=100)
        if job.out.exists():  # it had begun
            assert b"Traceback" not in err, err
    job.check_nothing_damaged()
