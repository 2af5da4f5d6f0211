"""--verify reads back and says from where; --delete-source removes what is verified, synced, and
unchanged; nothing else ever removes an original."""

import json
import os
import subprocess

import pytest
from tree_jobs import Job, killed_run, states

from dicomcrypt.errors import DamagedError, UsageError
from dicomcrypt.objects import readback
from dicomcrypt.trees import checkpoint, tree

VERIFIED = {"verify": True}
DELETING = {"verify": True, "delete_source": True}


@pytest.fixture(params=["keep", "encrypted"])
def job(request, tmp_path, doctor):
    return Job(tmp_path, "encrypt", doctor, request.param)


# ---- what is read back ------------------------------------------------------------


def test_it_says_where_it_was_read_from(job, keys, call):
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "1",
                "--names", job.names, "--verify")
    assert done.status == 0
    assert "verified: read back from " in done.err
    assert "the medium" in done.err or "the system's cache" in done.err
    job.check_done()


@pytest.mark.parametrize("forgets", [True, False])
def test_medium_or_cache_is_what_the_system_did(job, monkeypatch, keys, call, forgets):
    monkeypatch.setattr(readback, "forget_pages", lambda path: forgets)
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "1",
                "--names", job.names, "--verify", "--json")
    rows = json.loads(done.out)["files"]
    assert {row["verified"] for row in rows} == {"medium" if forgets else "cache"}


def test_pages_that_stay_in_the_cache_are_noticed(tmp_path, monkeypatch):
    """As on a file system in memory, which has no medium."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    monkeypatch.setattr(readback.os, "posix_fadvise", lambda *arguments: None)
    path.read_bytes()
    assert readback.forget_pages(str(path)) is False


def test_a_file_system_in_memory_is_called_cache(tmp_path, keys, command):
    if not os.path.isdir("/dev/shm") or not os.access("/dev/shm", os.W_OK):  # noqa: S108
        pytest.skip("no file system in memory at /dev/shm")
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        os.mkdir(os.path.join(place, "in"))
        with open(os.path.join(place, "in", "file"), "wb") as file:
            file.write(b"content" * 1000)
        done = command("encrypt", os.path.join(place, "in"), "-r", keys / "doctor.pub", "-o",
                       os.path.join(place, "out"), "--verify", "-j", "1")
    assert done.returncode == 0
    assert b"the system's cache" in done.stderr


@pytest.mark.parametrize("where", [10, 100, -100, -1])
def test_what_the_medium_changed_gets_no_name(job, monkeypatch, where):
    """A byte that is written and comes back as another."""
    real, spoilt = readback.read_back, []

    def spoil(part, *more):
        if not spoilt:
            spoilt.append(part)
            with open(part, "r+b") as file:
                file.seek(where, os.SEEK_SET if where > 0 else os.SEEK_END)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
        return real(part, *more)

    monkeypatch.setattr(tree, "read_back", spoil)
    outcomes = job.run(DELETING)
    assert states(outcomes) == {"failed": 1, "done": len(job.plain) - 1}
    (failed,) = (o for o in outcomes if o.state == "failed")
    assert os.path.exists(failed.path)
    assert failed.exit_status == DamagedError.exit_status
    assert job.check_nothing_damaged() == len(job.plain) - 1
    assert job.parts() == []


def test_it_is_compared_with_the_source_and_not_only_authenticated(job, monkeypatch):
    """An object that authenticates and holds something else."""
    real = tree.read_back

    def other_source(part, source, *more):
        with open(source.shown, "r+b") as file:
            file.seek(5)
            file.write(b"\0\1")
        return real(part, source, *more)

    monkeypatch.setattr(tree, "read_back", other_source)
    outcomes = job.run(VERIFIED)
    assert states(outcomes) == {"failed": len(job.plain)}
    assert {o.message for o in outcomes} == {"what was read back is not what was encrypted"}


# ---- what is removed -----------------------------------------------------------------


def left(job):
    return {os.path.relpath(os.path.join(base, name), job.root)
            for base, _, files in os.walk(job.root) for name in files}


def test_sources_are_removed_and_the_objects_are_whole(job):
    outcomes = job.run(DELETING)
    assert all(o.details["deleted"] for o in outcomes)
    assert left(job) == set()
    job.check_done()


def test_without_the_option_no_source_is_removed(job):
    job.run(VERIFIED)
    assert left(job) == set(job.plain)


@pytest.mark.parametrize("options", [{"delete_source": True}, {**DELETING, "sync": False}])
def test_it_needs_verification_and_syncs(job, options):
    with pytest.raises(UsageError, match="verified and synced"):
        job.run(options)
    assert left(job) == set(job.plain)


@pytest.mark.parametrize("words", [["--delete-source"], ["--delete-source", "--verify",
                                                         "--no-sync"]])
def test_the_command_line_needs_them_too(job, keys, call, words):
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, *words)
    assert done.status == 2
    assert left(job) == set(job.plain)


def test_every_name_is_synced_before_its_source_goes(job, monkeypatch):
    monkeypatch.setattr(checkpoint, "FILES", 8)
    order = []

    def note(place, name, what):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, **k: (order.append((what, a)), real(*a, **k)))

    note(checkpoint, "sync_folders", "sync")
    note(checkpoint, "rename_part", "name")
    real_unlink = os.unlink

    def unlink(path, *more, **named):
        order.append(("unlink", (os.fsdecode(path),)))
        return real_unlink(path, *more, **named)

    monkeypatch.setattr(checkpoint.os, "unlink", unlink)
    job.run(DELETING)
    removed = [n for n, (what, a) in enumerate(order)
               if what == "unlink" and a[0].startswith(str(job.root))]
    assert len(removed) == len(job.plain)
    for at in removed:
        before = [what for what, _ in order[:at] if what in ("sync", "name")]
        assert before[-1] == "sync"


def test_a_source_that_changed_after_it_was_read_is_kept(job, monkeypatch):
    real = checkpoint.sync_folders
    name = min(job.plain)

    def change(folders):
        with open(job.root / name, "ab") as file:
            file.write(b"more")
        real(folders)

    monkeypatch.setattr(checkpoint, "sync_folders", change)
    outcomes = job.run(DELETING)
    assert left(job) == {name}
    (kept,) = (o for o in outcomes if "deleted" not in o.details)
    assert kept.details["source_kept"] == "changed since it was encrypted"


def test_a_source_that_was_replaced_is_kept(job, monkeypatch):
    """By a file of the same size and time, but another one."""
    real = checkpoint.sync_folders
    path = job.root / min(job.plain)

    def replace(folders):
        status = path.stat()
        if path.read_bytes().strip(b"\0"):
            (job.root / "new").write_bytes(bytes(status.st_size))
            os.utime(job.root / "new", ns=(status.st_mtime_ns, status.st_mtime_ns))
            os.replace(job.root / "new", path)
        real(folders)

    monkeypatch.setattr(checkpoint, "sync_folders", replace)
    job.run(DELETING)
    assert left(job) == {min(job.plain)}
    assert set(path.read_bytes()) == {0}


def test_an_object_without_its_name_keeps_its_source(job, monkeypatch):
    real = checkpoint.rename_part
    refused = []

    def refuse(part, path, *, force):
        if not refused:
            refused.append(path)
            raise PermissionError(13, "Permission denied")
        real(part, path, force=force)

    monkeypatch.setattr(checkpoint, "rename_part", refuse)
    outcomes = job.run(DELETING)
    (failed,) = (o for o in outcomes if o.state == "failed")
    assert {str(job.root / name) for name in left(job)} == {failed.path}


@pytest.mark.parametrize("at", [1, 9])
def test_a_kill_loses_nothing_with_sources_removed(job, monkeypatch, at):
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=at, options=DELETING)
    assert left(job) == set(job.plain)
    outcomes = job.run(DELETING)
    skipped = [o for o in outcomes if o.state == "skipped"]
    kept = {o.path for o in outcomes if "source_kept" in o.details}
    assert {o.path for o in skipped} <= kept
    assert {str(job.root / name) for name in left(job)} == kept
    assert len(skipped) == at - 1
    job.check_done()


@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_the_only_copy_is_not_replaced_by_another_file_of_its_name(
    tmp_path, call, keys, names
):
    """A removed source leaves its name free; the journal stays because another file failed."""
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    (root / "image").write_bytes(b"first study")
    os.symlink("nowhere", root / "dangling")
    words = ["encrypt", root, "-r", keys / "doctor.pub", "-o", out, "--verify", "--delete-source",
             "--links", "follow", "--names", names, "-j", "1"]
    assert call(*words).status == 1
    assert not (root / "image").exists()
    (first,) = out.iterdir()
    before = first.read_bytes()
    (root / "image").write_bytes(b"second study, same name")
    assert call(*words).status == 1
    assert first.read_bytes() == before
    assert (root / "image").exists() == (names == "keep")


def test_skipped_objects_and_links_to_files_are_not_removed(tmp_path, doctor, forge):
    job = Job(tmp_path, "encrypt", doctor, count=2)
    (tmp_path / "precious").write_bytes(b"outside")
    (job.root / "link").symlink_to(tmp_path / "precious")
    forge(job.root, file=b"old.dcmx")
    job.run({**DELETING, "links": "follow"})
    assert (tmp_path / "precious").exists()
    assert (job.root / "old.dcmx").exists()


def test_one_file_alone(tmp_path, keys, call):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    words = ("encrypt", path, "-r", keys / "doctor.pub", "-o", tmp_path / "file.dcmx")
    assert call(*words, "--delete-source").status == 2
    assert path.exists()
    assert call(*words, "--verify", "--delete-source").status == 0
    assert not path.exists()
    assert call("decrypt", tmp_path / "file.dcmx", "-i", keys / "doctor.key").status == 0
    assert path.read_bytes() == b"content"


def test_a_file_system_that_can_forget_is_read_anew(tmp_path):
    """Where the temporary folder lies on a disk, the medium is what is read."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True,
                          check=False).stdout.strip()
    if kind not in ("ext2/ext3", "xfs", "btrfs"):
        pytest.skip(f"pages may stay in the cache of {kind or 'this file system'}")
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    assert readback.forget_pages(str(path)) is True
