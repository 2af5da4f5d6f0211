"""Media that fail, files that vanish, change or cannot be read: tried again, named at the end, and
the rest is done."""

import errno
import os
import shlex
import stat
import subprocess
import time

import pytest
from tree_jobs import Job, states

from dicomcrypt import regular
from dicomcrypt.objects import buffers
from dicomcrypt.trees import sealing


@pytest.fixture
def job(tmp_path, doctor):
    return Job(tmp_path, "encrypt", doctor)


@pytest.fixture
def failing(monkeypatch):
    """Let reads of a file fail so many times: failing(name, times) gives a list of the failures."""
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    def arrange(name, times):
        failures = []

        class Trouble:
            def __getattr__(self, attribute):
                return getattr(os, attribute)

            def _read(self, call, descriptor, *more):
                if (os.readlink(f"/proc/self/fd/{descriptor}").endswith(name)
                        and len(failures) < times):
                    failures.append(1)
                    raise OSError(errno.EIO, "Input/output error")
                return call(descriptor, *more)

            def readv(self, *more):
                return self._read(os.readv, *more)

        monkeypatch.setattr(regular, "os", Trouble())
        return failures

    arrange.pauses = pauses
    return arrange


def test_a_medium_that_fails_now_and_then_is_read_again(job, failing):
    failures = failing(min(job.plain), 3)
    assert states(job.run()) == {"done": len(job.plain)}
    assert len(failures) == 3
    assert len(failing.pauses) == 3
    job.check_done()


def test_a_medium_that_keeps_failing_is_named_and_the_rest_is_done(job, failing, keys, call):
    name = min(job.plain)
    failing(name, 1000)
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "1")
    assert done.status == 1
    assert f"failed: {job.root / name}: input/output error" in done.err
    assert f"{len(job.plain) - 1} done, 0 skipped, 1 failed" in done.err
    failing(name, 0)
    assert states(job.run()) == {"skipped": len(job.plain) - 1, "done": 1}
    job.check_done()


def test_an_error_that_is_not_the_mediums_is_not_tried_again(failing):
    calls = []

    def read():
        calls.append(1)
        raise OSError(errno.EINVAL, "no")

    with pytest.raises(OSError, match="no"):
        buffers.patiently(read)
    assert len(calls) == 1


def test_a_folder_that_cannot_be_listed_is_named(job, monkeypatch):
    from dicomcrypt.trees import walk

    real = os.scandir

    def scandir(path):
        if os.fsencode(path).endswith(b"series1"):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)
    outcomes = job.run()
    failed = [o for o in outcomes if o.state == "failed"]
    assert {os.path.basename(o.path) for o in failed} == {"series1"}
    assert {o.message for o in failed} == {"input/output error"}
    monkeypatch.undo()
    assert job.check_nothing_damaged() == sum("series1" not in name for name in job.plain)


def test_an_object_on_a_failing_medium_is_named_and_the_rest_is_done(tmp_path, doctor, monkeypatch):
    job = Job(tmp_path, "decrypt", doctor)
    name, real = min(job.plain), os.pread

    def pread(descriptor, *more):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(f"{name}.dcmx"):
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, *more)

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "pread", pread)
    outcomes = job.run()
    assert states(outcomes) == {"failed": 1, "done": len(job.plain) - 1}
    (failed,) = (o for o in outcomes if o.state == "failed")
    assert (failed.path, failed.message) == (str(job.sources()[name]), "input/output error")


def test_an_object_that_can_be_read_at_the_third_time_is_decrypted(tmp_path, doctor, monkeypatch):
    job = Job(tmp_path, "decrypt", doctor)
    failures, real = [], os.pread

    def pread(descriptor, *more):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith(".dcmx") and len(failures) < 2:
            failures.append(name)
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, *more)

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "pread", pread)
    assert states(job.run()) == {"done": len(job.plain)}
    assert len(failures) == 2
    job.check_done()


# ---- files that do not hold still -------------------------------------------------------


def vanish(path):
    path.unlink()


def grow(path):
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path):
    os.truncate(path, 10)


def rewrite(path):
    path.write_bytes(path.read_bytes()[::-1])


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def become_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [vanish, become_a_folder, become_a_pipe])
def test_a_file_that_is_gone_when_its_turn_comes(job, monkeypatch, change, call, keys):
    """Between the walk and the work; workers may be behind by hundreds of files."""
    name, real = min(job.plain), sealing.SourceFile

    def source(path, **more):
        if os.fsdecode(path) == str(job.root / name):
            change(job.root / name)
        return real(path, **more)

    monkeypatch.setattr(sealing, "SourceFile", source)
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "1")
    assert done.status == 1 if change is vanish else done.status in (1, 2)
    assert f"failed: {job.root / name}: " in done.err
    assert f"{len(job.plain) - 1} done, 0 skipped, 1 failed" in done.err
    assert job.check_nothing_damaged() == len(job.plain) - 1
    assert job.parts() == []


@pytest.mark.parametrize("size", [3000, 300_000])
@pytest.mark.parametrize("change", [grow, shrink, rewrite])
def test_a_file_that_changes_while_it_is_read(job, monkeypatch, change, size, call, keys):
    """Small ones are read some at a time, ahead of their turn."""
    name = min(job.plain)
    job.plain[name] = bytes(size)
    (job.root / name).write_bytes(job.plain[name])

    class Changing(sealing.SourceFile):
        def reader(self):
            read = super().reader()

            def once(view):
                got = read(view)
                if self.shown == str(job.root / name):
                    change(job.root / name)
                    os.utime(job.root / name, ns=(10**18, 10**18))
                return got

            return once

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "SourceFile", Changing)
        done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "1")
    assert done.status == 1
    assert f"{str(job.root / name)!r} changed while it was read: encrypt it again" in done.err
    assert job.check_nothing_damaged() == len(job.plain) - 1
    assert job.parts() == []
    # The same command does it when it holds still.
    job.plain[name] = (job.root / name).read_bytes()
    assert states(job.run()) == {"skipped": len(job.plain) - 1, "done": 1}
    job.check_done()


# ---- sources are only read ------------------------------------------------------------------


def test_no_source_is_opened_for_writing_or_touched(job, monkeypatch, snapshot):
    before, opened, real = snapshot(job.folder), [], os.open

    def noting(path, flags, *more, **named):
        if isinstance(path, str | bytes) and os.fsdecode(path).startswith(str(job.source)):
            opened.append(flags)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", noting)
    job.run({"verify": True})
    assert opened
    assert not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) for flags in opened)
    after = snapshot(job.folder)
    assert {name: what for name, what in after.items() if name.startswith(b"in")} == {
        name: what for name, what in before.items() if name.startswith(b"in")}


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_a_medium_that_is_mounted_read_only(tmp_path, doctor, keys, command, need_command, verb):
    unshare = need_command("unshare", "util-linux")
    job = Job(tmp_path, verb, doctor)
    key = ["-r", keys / "doctor.pub"] if verb == "encrypt" else ["-i", keys / "doctor.key"]
    words = shlex.join(map(str, [*command.words, verb, job.source, *key, "-o", job.out]))
    place = shlex.quote(str(job.source))
    script = (f"mount --bind {place} {place} && mount -o remount,bind,ro {place} || exit 99\n"
              f"touch {place}/x 2>/dev/null && exit 98\n{words}")
    done = subprocess.run([unshare, "-rm", "sh", "-c", script], check=False, timeout=100,
                          capture_output=True, env=command.environment())
    if done.returncode == 99 or b"unshare" in done.stderr:
        pytest.skip("no namespace in which a folder can be mounted read-only")
    assert done.returncode == 0, done.stderr
    job.check_done()


def test_folders_that_are_closed_for_writing_come_back_closed(job):
    folders = [p for p in job.root.rglob("*") if p.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    assert states(job.run()) == {"done": len(job.plain)}
    made = [p for p in job.out.rglob("*") if p.is_dir()]
    assert {stat.S_IMODE(p.stat().st_mode) for p in made} == {0o555}
    for folder in (*folders, *made):
        folder.chmod(0o755)
