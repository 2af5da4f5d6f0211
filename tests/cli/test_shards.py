"""Shards: parts of a tree that are stable, apart, and together the whole."""

import os
import stat
import subprocess

import pytest
from tree_jobs import killed_run, states

from dicomcrypt.trees import checkpoint
from dicomcrypt.trees.walk import in_shard, walk

COUNT = 3


def test_the_union_is_the_whole_and_no_file_is_in_two(job):
    done = []
    for number in range(1, COUNT + 1):
        outcomes = job.run(shard=(number, COUNT))
        assert set(states(outcomes)) == {"done"}
        done += [o.path for o in outcomes]
        job.check_nothing_damaged()
    assert sorted(done) == sorted(map(str, job.sources().values()))
    job.check_done()


def test_files_stay_in_their_shards_when_others_come_and_go(job):
    def parts():
        return {e.relative: [k for k in (1, 2, 3) if in_shard(e.relative, (k, 3))]
                for e in walk(str(job.source)) if e.kind == "file"}

    before = parts()
    assert all(len(found) == 1 for found in before.values())
    assert {found[0] for found in before.values()} == {1, 2, 3}
    for number in range(50):
        (job.source / f"0{number}").write_bytes(b"new")
    os.unlink(job.source / os.fsdecode(min(before)))
    after = parts()
    assert len(after) == len(before) + 49
    assert all(after[name] == found for name, found in before.items() if name in after)
    # And for ever: other machines, other versions.
    assert [in_shard(b"study/image%d" % n, (1, 2)) for n in range(8)] == [
        True, True, True, True, True, True, True, True]


def test_a_killed_shard_goes_on_beside_a_finished_one(job, monkeypatch):
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=3, shard=(1, 2))
    journal = job.out.with_name("out.dcmx-journal-1-of-2")
    assert journal.exists()
    parts = {path.name for path in job.parts()}
    assert parts
    job.run(shard=(2, 2))
    assert {path.name for path in job.parts()} == parts, "another shard's"
    assert journal.exists()
    assert not job.out.with_name("out.dcmx-journal-2-of-2").exists()
    found = states(job.run(shard=(1, 2)))
    assert found["skipped"] == 2
    assert not journal.exists()
    job.check_done()


@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_shards_at_once_in_one_output(tmp_path, job, keys, command, names):
    if job.verb == "decrypt" and names == "encrypted":
        pytest.skip("decrypt has no --names")
    key = ["-r", keys / "doctor.pub", "--names", names] if job.verb == "encrypt" else [
        "-i", keys / "doctor.key"]
    words = [*command.words, job.verb, job.source, *key, "-o", job.out, "-j", "1", "--shard"]
    running = [
        subprocess.Popen([*map(str, words), f"{k}/3"], stderr=subprocess.PIPE,
                         env=command.environment())
        for k in (1, 2, 3)
    ]  # fmt: skip
    for process in running:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    job.names = names
    job.check_done()
    assert list(job.folder.glob("*journal*")) == []


def test_folders_get_their_modes_and_times_though_another_shard_came_later(job):
    folders = [p for p in job.source.rglob("*") if p.is_dir()]
    (job.source / "empty").mkdir()
    for folder in (*folders, job.source / "empty"):
        folder.chmod(0o550)
        os.utime(folder, ns=(10**18, 10**18))
    for number in (1, 2, 3):
        assert set(states(job.run(shard=(number, 3)))) == {"done"}
    made = [p for p in job.out.rglob("*") if p.is_dir()]
    assert len(made) == len(folders) + 1
    for folder in made:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o550
        assert folder.stat().st_mtime_ns == 10**18
    for folder in (*folders, *made):
        folder.chmod(0o700)
    job.check_done()


@pytest.mark.parametrize("word", ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", "1/2/3", "1/9999999999"])
def test_what_is_no_shard_is_refused(tmp_path, keys, call, word):
    done = call("encrypt", tmp_path, "-r", keys / "doctor.pub", "-o", tmp_path / "o", "--shard",
                word)
    assert done.status == 2
    assert not (tmp_path / "o").exists()


def test_a_shard_of_verify_and_rewrap(tmp_path, doctor, keys, call):
    from tree_jobs import Job

    job = Job(tmp_path, "decrypt", doctor)
    for verb, more in (("verify", ()), ("rewrap", ("--add", keys / "other.pub"))):
        done = 0
        for shard in ("1/2", "2/2"):
            words = (verb, job.source, "-i", keys / "doctor.key", *more, "-j", "1", "--shard")
            found = call(*words, shard, "--json")
            assert found.status == 0
            done += found.out.count('"state": "done"')
        assert done == len(job.plain)
