"""What is broken off leaves nothing half-done under a final name, and the same command completes
it."""

import os
import pathlib
import signal
import time

import pytest

from dicomcrypt.objects import atomic
from dicomcrypt.objects.atomic import AtomicFile

COUNT, SIZE = 120, 3 << 20


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    for number in range(COUNT):
        with open(root / f"{number:03}", "wb") as file:
            file.write(b"%d" % number)
            file.truncate(SIZE)
    return root


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    return None


def begun(folder, process):
    assert wait_for(lambda: (folder.is_dir() and len(os.listdir(folder)) >= 3)
                    or process.poll() is not None)
    assert process.poll() is None, "the tree was too small to interrupt"


def check_and_resume(verb, source, out, more, command, keys):
    """What is there is whole; the same command does the rest."""
    if verb == "encrypt":
        there = sorted(out.glob("[0-9]*.dcmx"))
        assert all(path.stat().st_size > SIZE for path in there)
        if there:
            done = command("verify", *there, "-i", keys / "doctor.key")
            assert done.returncode == 0, done.stderr
    else:
        assert {path.stat().st_size for path in out.glob("[0-9]*")} <= {SIZE}
    done = command(verb, source, *more, "-o", out)
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("[0-9]*"))) == COUNT


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_gives_130_and_leaves_nothing_half_done(
    tmp_path, tree, keys, start, command, leftovers, jobs
):
    out, more = tmp_path / "safe", ["-r", keys / "doctor.pub"]
    process = start("encrypt", tree, *more, "-o", out, "-j", jobs)
    begun(out, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert b"the same command" in err
    assert b"Traceback" not in err
    assert leftovers(out) == []
    check_and_resume("encrypt", tree, out, more, command, keys)
    assert leftovers(out) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupt_while_the_output_is_made_leaves_nothing(tmp_path, monkeypatch, moment):
    """A signal is handled as soon as os.open returns, before anybody has its result."""
    real = os.open

    def interrupted(*arguments):
        if moment == "after":
            os.close(real(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt), AtomicFile(tmp_path / "out") as file:
        file.commit()
    assert os.listdir(tmp_path) == []


def test_an_interrupted_json_document_is_whole(tmp_path, tree, keys, start):
    import json

    process = start("encrypt", tree, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "1",
                    "--json")
    begun(tmp_path / "safe", process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert json.loads(out)["summary"]["exit_status"] == 130


@pytest.fixture
def killed(tmp_path, tree, keys, start):
    """A folder in which an encryption was killed, and a whole process group with it."""
    process = start("encrypt", tree, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "2")
    begun(tmp_path / "safe", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return tmp_path / "safe"


def test_a_killed_encryption_leaves_no_damaged_object(killed, tmp_path, tree, keys, command):
    check_and_resume("encrypt", tree, killed, ["-r", keys / "doctor.pub"], command, keys)


def test_a_tree_completed_after_a_kill_decrypts_without_failures(
    killed, tmp_path, tree, keys, command, forge
):
    forge(killed, file=b".dcmx-0123456789ab.part")  # at least one, cut off as a kill does it
    os.truncate(killed / ".dcmx-0123456789ab.part", 3000)
    done = command("encrypt", tree, "-r", keys / "doctor.pub", "-o", killed)
    assert done.returncode == 0
    done = command("decrypt", killed, "-i", keys / "doctor.key", "-o", tmp_path / "back")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "back").glob("[0-9]*"))) == COUNT


def test_a_killed_decryption_leaves_no_cut_file(tmp_path, tree, keys, start, command):
    safe, back, more = tmp_path / "safe", tmp_path / "back", ["-i", keys / "doctor.key"]
    done = command("encrypt", tree, "-r", keys / "doctor.pub", "-o", safe, "--method", "none")
    assert done.returncode == 0
    process = start("decrypt", safe, *more, "-o", back, "-j", "2")
    begun(back, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    check_and_resume("decrypt", safe, back, more, command, keys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_with_keys_outlives_the_command(tmp_path, tree, keys, start, number):
    process = start("encrypt", tree, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "2")
    begun(tmp_path / "safe", process)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.send_signal(number)
    process.wait(100)

    def left():
        return [pid for pid in children if os.path.exists(f"/proc/{pid}")
                and pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"]

    wait_for(lambda: not left(), 8)
    assert left() == []


def test_a_killed_worker_is_an_error_of_one_line(tmp_path, tree, keys, start):
    """The kernel kills one when memory is short."""
    process = start("encrypt", tree, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "2")
    begun(tmp_path / "safe", process)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert b"Traceback" not in err


def test_the_same_command_twice_at_once_is_refused_and_harms_nothing(
    tmp_path, tree, keys, start, command, leftovers
):
    out = tmp_path / "safe"
    # every object is read back, so that the first is still there when the second begins
    words = ["encrypt", tree, "-r", keys / "doctor.pub", "-o", out, "-j", "1", "--verify"]
    first = start(*words)
    begun(out, first)
    second = start(*words)
    _, err = second.communicate(timeout=100)
    assert second.returncode == 1
    assert b"another job" in err
    assert first.wait(100) == 0
    assert len(list(out.glob("*.dcmx"))) == COUNT
    assert leftovers(out) == []
    done = command("verify", out, "-i", keys / "doctor.key")
    assert done.returncode == 0, done.stderr


def test_resume_with_encrypted_names_encrypts_nothing_twice(tmp_path, keys, call):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"content")
    words = ["encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j",
             "1", "--names", "encrypted", "--resume"]
    if call(*words).status == 2:
        return  # refused as what cannot be done
    assert call(*words).status in (0, 2)
    assert len(os.listdir(tmp_path / "safe")) == 1
