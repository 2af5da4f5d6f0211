"""A medium that is full: the job stops cleanly, says what is missing, and goes on.

On a small file system in memory, in a mount namespace of its own. Run with -s for transcripts.
"""

import errno
import os
import re
import shlex

import pytest
from tree_jobs import Job, states

from dicomcrypt.errors import DiskFullError

BALLAST = 200 << 10  # KiB that are taken away again to make room
MOUNT = ("mount -t tmpfs -o size={size}k tmpfs {place} && "
         f"head -c {BALLAST}k /dev/zero > {{place}}/ballast")
MORE = "rm {place}/ballast"


LOOK = 'find {place} -name "*.part" | sed "s/^/part: /"; find {place} -type f -name "*.d*" | wc -l'


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
@pytest.mark.parametrize(
    ("count", "size", "room", "beside", "jobs"),
    [(12, 1 << 20, 5 << 10, True, "2"), (600, 10, 600, False, "1")],
    ids=["large files into a folder", "small files into the mount itself"],
)
def test_a_full_file_system(tmp_path, doctor, keys, command, namespace, verb, count, size, room,
                            beside, jobs):
    job = Job(tmp_path, verb, doctor, count=count, size=size)
    place = tmp_path / "mount"
    place.mkdir()
    out = place / "out" if beside else place
    key = ["-r", keys / "doctor.pub"] if verb == "encrypt" else ["-i", keys / "doctor.key"]
    words = shlex.join(map(str, [*command.words, verb, job.source, *key, "-o", out, "-j", jobs]))
    look = LOOK.format(place=place)
    done = namespace(
        f"{MOUNT.format(size=BALLAST + room, place=place)} || exit 99\n"
        f"{words} 2>&1; echo status $?; {look}\n"
        f"echo again; {words} 2>&1; echo status $?; {look}\n"
        f"{MORE.format(place=place)}; echo room; {words} 2>&1; echo status $?; {look}\n"
        f"cp -r {place} {tmp_path / 'copy'}",
        env=command.environment(),
    )
    print("\n" + done.stdout)
    first, _, rest = done.stdout.partition("again\n")
    second, _, third = rest.partition("room\n")
    for text in (first, second):
        assert "status 1\n" in text, done.stdout + done.stderr
        assert "no space left" in text or "disk is full" in text
        assert "are still to be written: make room, then give the same command again" in text
        assert "part: " not in text
        assert "Traceback" not in text
    assert "status 0\n" in third, done.stdout + done.stderr
    assert "part: " not in third
    assert third.rstrip().endswith(str(count))
    if size > 1000:  # what fitted is in its place and is not done again
        assert re.search(r"[1-9]\d* skipped", second)
    job.out = tmp_path / "copy" / "out" if beside else tmp_path / "copy"
    assert job.in_place() == job.plain


def megabytes(error):
    return float(str(error).split(" about ")[1].split(" MB")[0])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_is_missing_gets_less_from_time_to_time(job, monkeypatch, number):
    """And what was done before the medium was full has its name."""
    real, missing = getattr(*job.step), []
    for files in (10, 5):
        calls = []

        def full(*arguments, calls=calls, files=files, **named):
            calls.append(1)
            if len(calls) > files:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **named)

        monkeypatch.setattr(*job.step, full)
        with pytest.raises(DiskFullError, match=os.strerror(number).lower()) as caught:
            job.run()
        missing.append(megabytes(caught.value))
    assert job.check_nothing_damaged() == 15
    assert job.parts() == []
    total = sum(path.stat().st_size for path in job.sources().values()) / 1e6
    assert missing[0] == pytest.approx(total * 14 / 24, abs=0.01)
    assert missing[1] == pytest.approx(total * 9 / 24, abs=0.01)
    monkeypatch.setattr(*job.step, real)
    assert states(job.run()) == {"skipped": 15, "done": 9}
    job.check_done()


def test_what_is_missing_is_the_shards(job, monkeypatch):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*job.step, full)
    missing = []
    for shard in ((1, 2), (2, 2)):
        with pytest.raises(DiskFullError) as caught:
            job.run(shard=shard)
        missing.append(megabytes(caught.value))
    total = sum(path.stat().st_size for path in job.sources().values()) / 1e6
    assert sum(missing) == pytest.approx(total, abs=0.02)
    assert max(missing) < total * 0.8


def test_one_file_on_a_full_medium(tmp_path, keys, command, namespace):
    (tmp_path / "mount").mkdir()
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    words = shlex.join(map(str, [*command.words, "encrypt", tmp_path / "file", "-r",
                                 keys / "doctor.pub", "-o", tmp_path / "mount" / "file.dcmx"]))
    mount = MOUNT.format(size=BALLAST + 1024, place=tmp_path / "mount")
    done = namespace(f"{mount}\n{words}; echo $?\n"
                     f"ls -A {tmp_path / 'mount'}", env=command.environment())
    assert done.stdout == "1\nballast\n"
    assert "no space left on device" in done.stderr
