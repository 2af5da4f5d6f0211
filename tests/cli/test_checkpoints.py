"""Sync, journal, rename: the order of a checkpoint, and what a kill at each of its steps leaves."""

import errno
import os
import re
import signal
import sqlite3
import subprocess
import threading

import pytest
from tree_jobs import Job, in_child, killed_run, killing, states

from dicomcrypt.errors import DiskFullError
from dicomcrypt.objects import atomic
from dicomcrypt.trees import checkpoint
from dicomcrypt.trees.journal import Journal

EACH = 8  # files of a checkpoint


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(checkpoint, "FILES", EACH)


@pytest.fixture
def steps(monkeypatch):
    """What a job does at its checkpoints, in order."""
    seen = []

    def note(place, name, what):
        real = getattr(place, name)

        def noted(*arguments, **named):
            result = real(*arguments, **named)
            seen.append(what(*arguments))
            return result

        monkeypatch.setattr(place, name, noted)

    note(checkpoint, "sync_folders", lambda folders: ("sync",))
    note(Journal, "add", lambda self, rows: ("journal", {before.part for _, before in rows}))
    note(checkpoint, "rename_part", lambda part, path: ("name", os.path.basename(part)))
    note(atomic.AtomicFile, "keep", lambda file: ("whole", os.path.basename(file.part)))
    return seen


@pytest.mark.parametrize("jobs", [1, 2])
def test_whole_then_synced_then_written_down_then_named(job, steps, jobs):
    assert states(job.run(jobs=jobs)) == {"done": len(job.plain)}
    kinds = [step[0] for step in steps]
    assert kinds.count("name") == len(job.plain)
    assert kinds.count("journal") >= len(job.plain) // EACH // 2
    for at, step in enumerate(steps):
        if step[0] != "name":
            continue
        written = max(n for n in range(at) if steps[n][0] == "journal" and step[1] in steps[n][1])
        synced = max(n for n in range(written) if kinds[n] == "sync")
        if jobs == 1:  # what workers do is not seen here
            assert steps.index(("whole", step[1])) < synced
    job.check_done()


def test_without_sync_nothing_is_synced(job, steps):
    job.run({"sync": False})
    assert ("sync",) not in steps
    job.check_done()


def test_the_system_sees_the_same_order(tmp_path, doctor, keys, command, need_command):
    strace = need_command("strace", "strace")
    job = Job(tmp_path, "encrypt", doctor)
    log = tmp_path / "log"
    done = subprocess.run(
        [strace, "-f", "-o", log, "-e", "trace=syncfs,fsync,fdatasync,renameat2", *command.words,
         "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out, "-j", "2"],
        check=False, capture_output=True, env=command.environment(), timeout=100,
    )  # fmt: skip
    if b"ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    calls = re.findall(r"^\d+\s+(?:<\.\.\. )?(\w+)", log.read_text(), re.M)
    calls = [c for c in calls if c in ("syncfs", "fsync", "fdatasync", "renameat2")]
    first = calls.index("renameat2")
    assert "syncfs" in calls[:first]
    after_sync = calls[calls.index("syncfs") : first]
    assert {"fsync", "fdatasync"} & set(after_sync), "the journal's commit"
    assert "syncfs" in calls[len(calls) - calls[::-1].index("renameat2") :], "names are synced, too"


# ---- killed ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [("encrypt", "keep"), ("encrypt", "encrypted"),
                                  ("decrypt", "keep"), ("decrypt", "encrypted")])
@pytest.mark.parametrize(
    ("place", "name", "at", "after", "named", "kept"),
    [
        (checkpoint, "sync_folders", 1, False, 0, 0),
        (checkpoint, "sync_folders", 2, True, EACH, EACH),
        (Journal, "add", 2, False, EACH, EACH),
        (Journal, "add", 2, True, EACH, 2 * EACH),
        (checkpoint, "rename_part", EACH + 1, False, EACH, 2 * EACH),
        (checkpoint, "rename_part", EACH + 3, True, EACH + 3, 2 * EACH),
        (checkpoint, "rename_part", 3 * EACH, True, 3 * EACH, 3 * EACH),
        (Journal, "remove", 1, False, 3 * EACH, 3 * EACH),
    ],
)
def test_a_kill_at_each_step(tmp_path, doctor, monkeypatch, kind, place, name, at, after, named,
                             kept):
    """named: outputs in their places after the kill; kept: what is not done again."""
    job = Job(tmp_path, *kind[:1], doctor, kind[1])
    assert len(job.plain) == 3 * EACH
    # One checkpoint after the other: the work waits for each.
    monkeypatch.setattr(threading.Thread, "start", lambda self: self.run())
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: None)
    killed_run(job, monkeypatch, place, name, at=at, after=after)
    assert job.check_nothing_damaged() == named
    work = job.count_work(monkeypatch)
    assert states(job.run()) == {
        state: count for state, count in (("skipped", named), ("done", len(job.plain) - named))
        if count
    }  # fmt: skip
    assert len(work) == len(job.plain) - kept
    job.check_done()


def test_a_kill_within_the_journals_commit(job, monkeypatch):
    """SQLite's own rollback journal is hot then."""
    class Dying:
        def __init__(self, real):
            self._real = real

        def executemany(self, *arguments):
            self._real.execute("pragma cache_size = 1")
            self._real.executemany(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        def __getattr__(self, name):
            return getattr(self._real, name)

    opened = Journal._open

    def replaced(self, name):
        opened(self, name)
        self._database = Dying(self._database)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_open", replaced)
        assert in_child(job.run) == -signal.SIGKILL
    assert job.check_nothing_damaged() == 0
    assert states(job.run()) == {"done": len(job.plain)}
    job.check_done()


def test_a_job_killed_again_and_again_leaves_nothing_behind(job, monkeypatch):
    for at in (2, 1, 1):
        killed_run(job, monkeypatch, checkpoint, "sync_folders", at=at)
        assert job.parts()
    job.run()
    job.check_done()


def test_a_shard_killed_again_and_again_leaves_nothing_behind(job, monkeypatch):
    for _ in range(3):
        killed_run(job, monkeypatch, checkpoint, "sync_folders", shard=(1, 2))
    stale = {path.name for path in job.parts()}
    job.run(shard=(1, 2))
    assert stale
    assert job.parts() == []


# ---- what changed between the kill and the resumed job ----------------------------


@pytest.mark.parametrize("at", [1, EACH + 1], ids=["no name yet", "has its name"])
def test_a_source_changed_after_the_kill_is_done_anew(job, monkeypatch, at):
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=at)
    name = min(job.in_place(), default=min(job.plain))
    job.change(name, b"other contents")
    job.run()
    job.check_done()


@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_an_outdated_object_stays_until_another_takes_its_place(tmp_path, doctor, monkeypatch,
                                                                names):
    job = Job(tmp_path, "encrypt", doctor, names)
    killed_run(job, monkeypatch, Journal, "remove")
    name = min(job.plain)
    old = job.plain[name]
    job.change(name, b"other contents")

    def fail(*arguments, **named):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(*job.step, fail)
        assert states(job.run()) == {"failed": 1, "skipped": len(job.plain) - 1}
    assert job.in_place()[name] == old
    job.run()
    job.check_done()


def test_a_changed_source_whose_job_is_killed_again(job, monkeypatch):
    """The new output lacks its name, which the old one still has."""
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=EACH, after=True)
    name = min(job.in_place())
    job.change(name, b"other contents")
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=1)
    job.run()
    job.check_done()


@pytest.mark.parametrize("at", [1, 4])
def test_force_and_a_kill_before_old_outputs_are_replaced(job, monkeypatch, at):
    job.run()
    for name in job.plain:
        job.change(name, b"new " + name.encode())
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=at, options={"force": True})
    job.run({"force": True})
    job.check_done()


def test_a_followed_link_to_a_changed_file_is_done_anew(tmp_path, doctor, monkeypatch):
    job = Job(tmp_path, "encrypt", doctor, count=2)
    (tmp_path / "target").write_bytes(b"first")
    os.symlink(tmp_path / "target", job.root / "link")
    job.plain["link"] = b"second"
    killed_run(job, monkeypatch, Journal, "remove", options={"links": "follow"})
    (tmp_path / "target").write_bytes(b"second")
    os.utime(tmp_path / "target", ns=(10**18, 10**18))
    job.run({"links": "follow"})
    job.check_done()


# ---- steps that fail ----------------------------------------------------------------


def test_an_output_that_cannot_get_its_name_fails_alone(job, monkeypatch):
    real, refused = checkpoint.rename_part, []

    def refuse(part, path, *, force):
        if not refused:
            refused.append(path)
            raise PermissionError(errno.EACCES, "Permission denied")
        real(part, path, force=force)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "rename_part", refuse)
        outcomes = job.run()
    assert states(outcomes) == {"done": len(job.plain) - 1, "failed": 1}
    (failed,) = (o for o in outcomes if o.state == "failed")
    assert failed.message == "permission denied"
    assert failed.path in map(str, job.sources().values())
    assert job.parts() == []
    assert job.journal.exists()
    assert states(job.run()) == {"skipped": len(job.plain) - 1, "done": 1}
    job.check_done()


def test_a_name_that_somebody_took_meanwhile_is_left_to_them(job, monkeypatch):
    real = checkpoint.rename_part

    def take(part, path, *, force):
        if not os.path.exists(job.out / "theirs"):
            (job.out / "theirs").touch()
            with open(path, "wb") as file:
                file.write(b"precious")
            take.path = path
        real(part, path, force=force)

    monkeypatch.setattr(checkpoint, "rename_part", take)
    outcomes = job.run()
    assert states(outcomes) == {"done": len(job.plain) - 1, "failed": 1}
    with open(take.path, "rb") as file:
        assert file.read() == b"precious"
    assert job.parts() == []


def test_a_sync_that_fails_gives_no_names(job, monkeypatch):
    def fail(folders):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync_folders", fail)
        with pytest.raises(OSError, match="Input/output"):
            job.run()
    assert job.in_place() == {}
    assert job.parts() == []
    job.run()
    job.check_done()


def test_a_journal_for_which_no_room_is_left_stops_the_job_cleanly(job, monkeypatch):
    def full(self, rows):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", full)
        with pytest.raises(DiskFullError, match=r"database or disk is full.*MB are still to be"):
            job.run()
    assert job.in_place() == {}
    assert job.parts() == []
    job.run()
    job.check_done()


def test_a_file_system_without_exchange_of_names(job, monkeypatch):
    """Linked and unlinked instead; a kill between leaves both names."""
    monkeypatch.setattr(atomic._system, "rename_new", lambda old, new: False)
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "link", killing(os.link, at=3, after=True))
        assert in_child(job.run) == -signal.SIGKILL
    job.check_nothing_damaged()
    job.run()
    job.check_done()


def test_an_interrupt_does_not_wait_for_a_slow_medium(job, monkeypatch):
    released = threading.Event()

    def slow(folders):
        released.wait(60)
        raise OSError(errno.EIO, "the medium is gone")

    monkeypatch.setattr(checkpoint, "sync_folders", slow)
    real = getattr(*job.step)
    calls = 0

    def interrupted(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == EACH + 5:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(*job.step, interrupted)
        with pytest.raises(KeyboardInterrupt):  # not what is wrong with the medium
            job.run()
    released.set()
    assert job.in_place() == {}
