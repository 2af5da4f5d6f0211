"""A job's journal: where it lies, what it holds and does not hold, and when it goes."""

import os
import shutil
import sqlite3
import stat

import pytest
from tree_jobs import PATIENTS, Job, killed_run, states

from dicomcrypt.errors import DicomcryptError, JobBusyError, UsageError
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.keys.passphrase import Passphrase
from dicomcrypt.objects.atomic import new_part_name
from dicomcrypt.trees import checkpoint
from dicomcrypt.trees import job as jobs_module
from dicomcrypt.trees import journal as journals
from dicomcrypt.trees.journal import Journal
from dicomcrypt.trees.tree import EncryptOptions, encrypt_tree


@pytest.fixture
def broken_off(job, monkeypatch):
    """A job that was killed when some outputs had their names and all were written down."""
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    assert job.check_nothing_damaged() == 8
    return job


def journals_below(folder):
    return sorted(p for p in folder.rglob("*") if "journal" in p.name)


# ---- where, and how long ----------------------------------------------------------


def test_it_lies_beside_the_output_until_the_job_is_done(broken_off):
    assert journals_below(broken_off.folder)[0] == broken_off.journal
    broken_off.run()
    assert journals_below(broken_off.folder) == []


def test_it_lies_where_it_is_told_to(job, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere" / "of this job"
    place.parent.mkdir()
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9, journal=str(place))
    assert place.exists()
    assert not job.journal.exists()
    assert states(job.run(journal=str(place))) == {"skipped": 8, "done": len(job.plain) - 8}
    assert os.listdir(place.parent) == []
    job.check_done()


@pytest.mark.parametrize("reason", ["mount", "closed"])
def test_it_lies_in_the_output_where_it_cannot_lie_beside(job, monkeypatch, reason):
    if reason == "mount":
        monkeypatch.setattr(journals.os.path, "ismount", lambda path: True)
    else:
        monkeypatch.setattr(journals.os, "access", lambda path, mode: False)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    assert journals_below(job.folder)[0] == job.out / ".dcmx-journal"
    # It is found there, wherever it would be made now.
    monkeypatch.undo()
    assert states(job.run()) == {"skipped": 8, "done": len(job.plain) - 8}
    job.check_done()
    assert journals_below(job.folder) == []


def test_it_is_kept_as_long_as_files_fail(job):
    name = min(job.plain)
    path, data = job.sources()[name], job.sources()[name].read_bytes()
    if job.verb == "decrypt":
        path.write_bytes(b"no object")
    else:
        (job.out / f"{name}.dcmx").parent.mkdir(parents=True)
        (job.out / f"{name}.dcmx").write_bytes(b"in the way")
    assert states(job.run()) == {"failed": 1, "done": len(job.plain) - 1}
    assert job.journal.exists()
    if job.verb == "encrypt":
        (job.out / f"{name}.dcmx").unlink()
    path.write_bytes(data)
    assert states(job.run()) == {"skipped": len(job.plain) - 1, "done": 1}
    job.check_done()


def test_an_output_whose_name_is_not_utf_8(tmp_path, doctor, monkeypatch):
    job = Job(tmp_path, "encrypt", doctor)
    job.out = tmp_path / os.fsdecode(b"out\xff\xfe")
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    assert job.journal.exists()
    assert states(job.run())["skipped"] == 8
    job.check_done()


def test_a_kill_while_it_is_removed_leaves_all_of_it_or_nothing(job, monkeypatch):
    killed_run(job, monkeypatch, Journal, "close")
    assert journals_below(job.folder) == []
    job.check_done()


# ---- what it holds ------------------------------------------------------------------


def test_it_is_for_its_owner_alone_and_without_write_ahead_log(broken_off):
    assert stat.S_IMODE(broken_off.journal.stat().st_mode) == 0o600
    assert not list(broken_off.folder.glob("*-wal"))
    for path in broken_off.folder.glob("*.dcmx-journal*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # The file format of a rollback journal.
    assert broken_off.journal.read_bytes()[18:20] == b"\1\1"


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_it_holds_no_name_and_nothing_of_a_patient(tmp_path, doctor, monkeypatch, verb, names):
    job = Job(tmp_path / "SecretClinic", verb, doctor, names)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    held = b"".join(p.read_bytes() for p in job.folder.glob("out.dcmx-journal*"))
    assert b"CREATE TABLE" in held.upper()
    words = {part for name in job.plain for part in name.split("/")} | {"SecretClinic", *PATIENTS}
    words |= {"image", "series", str(tmp_path)}
    for word in words:
        for text in (word, word.upper(), word.lower()):
            assert text.encode() not in held
            assert text.encode("utf-16-le") not in held
    assert doctor.recipient.hint not in held
    assert doctor.recipient.hint.hex().encode() not in held
    for data in job.plain.values():
        assert data[:16] not in held


def test_two_journals_of_one_job_have_no_row_in_common(tmp_path, doctor, monkeypatch):
    """Paths are hashed with a salt, so a list of names tells nothing of two journals at once."""
    found = []
    for name in ("a", "b"):
        job = Job(tmp_path / name, "encrypt", doctor)
        killed_run(job, monkeypatch, checkpoint, "rename_part")
        with sqlite3.connect(job.journal) as database:
            found.append({row[0] for row in database.execute("select path from done")})
        database.close()
    assert len(found[0]) == len(job.plain)
    assert not found[0] & found[1]


# ---- other jobs' ---------------------------------------------------------------------


def other_recipients(job, identity):
    return {"envelope": Envelope({1: [identity.recipient]}, batch=True)}


def more_recipients(job, identity):
    return {"envelope": Envelope({1: [job.identity.recipient, identity.recipient]}, batch=True)}


def a_passphrase(job, identity):
    return {"envelope": Envelope({1: [Passphrase("open sesame")]}, batch=True)}


def other_input(job, identity):
    shutil.copytree(job.root, job.folder / "other")
    return {"root": str(job.folder / "other")}


def other_names(job, identity):
    return {"options": EncryptOptions(names="encrypted")}


def other_method(job, identity):
    return {"options": EncryptOptions(method=None)}


@pytest.mark.parametrize("change", [other_recipients, more_recipients, a_passphrase, other_input,
                                    other_names, other_method])
def test_the_journal_of_another_job_is_refused(tmp_path, doctor, identity, monkeypatch, change):
    job = Job(tmp_path, "encrypt", doctor)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    before = job.journal.read_bytes()
    arguments = {
        "root": str(job.root), "out": str(job.out), "options": EncryptOptions(),
        "envelope": Envelope({1: [doctor.recipient]}, batch=True), **change(job, identity),
    }  # fmt: skip
    with pytest.raises(UsageError, match="journal of another job"):
        list(encrypt_tree(**arguments))
    assert job.check_nothing_damaged() == 8
    assert job.journal.read_bytes() == before
    job.run()
    job.check_done()


def test_the_command_line_says_that_it_is_another_jobs(tmp_path, doctor, monkeypatch, call, keys):
    job = Job(tmp_path, "encrypt", doctor)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    done = call("encrypt", job.root, "-r", keys / "other.pub", "-o", job.out)
    assert done.status == 2
    assert "is the journal of another job, with other inputs, recipients or options" in done.err


# ---- damaged, or none at all --------------------------------------------------------------


def garbage(path):
    path.write_bytes(os.urandom(5000))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_short(path):
    os.truncate(path, 100)


def another_database(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table precious(x)")
    database.close()


def another_table(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table job(id blob)")
    database.close()


def no_row(path):
    with sqlite3.connect(path) as database:
        database.execute("delete from job")
    database.close()


@pytest.mark.parametrize("spoil", [garbage, cut, cut_short, another_database, another_table,
                                   no_row])
def test_a_damaged_journal_is_refused_and_kept(broken_off, spoil):
    for path in broken_off.folder.glob("out.dcmx-journal-*"):
        path.unlink()
    spoil(broken_off.journal)
    before = broken_off.journal.read_bytes()
    with pytest.raises(UsageError, match="is damaged or no journal: remove it, and give --resume"):
        broken_off.run()
    assert broken_off.journal.read_bytes() == before
    assert broken_off.check_nothing_damaged() == 8
    # What the message says works.
    broken_off.journal.unlink()
    assert states(broken_off.run({"resume": True}))["skipped"] == 8
    assert broken_off.in_place() == broken_off.plain


def test_a_file_that_is_no_journal_is_not_written_to(job, tmp_path):
    (tmp_path / "precious").write_text("a letter, say, that is longer than a header of SQLite" * 20)
    with pytest.raises(UsageError, match="no journal"):
        job.run(journal=str(tmp_path / "precious"))
    assert (tmp_path / "precious").read_text().startswith("a letter")


@pytest.mark.parametrize("name", ["folder", "missing/journal"])
def test_a_journal_that_cannot_be_made_is_named(job, tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DicomcryptError, match=r"cannot be written.*give --journal PATH"):
        job.run(journal=str(tmp_path / name))
    assert job.in_place() == {}


def test_a_journal_that_cannot_be_changed_for_a_while_is_not_called_damaged(
    broken_off, monkeypatch
):
    class Full(sqlite3.Connection):
        def execute(self, statement, *more):
            if statement.startswith("update job"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(statement, *more)

    real = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(journals.sqlite3, "connect", lambda *a, **k: real(*a, factory=Full, **k))
        with pytest.raises(DicomcryptError, match="make room") as caught:
            broken_off.run()
    assert "remove" not in str(caught.value)
    broken_off.run()
    broken_off.check_done()


# ---- two at once --------------------------------------------------------------------------


@pytest.mark.parametrize("fcntl", [True, False], ids=["lock of the folder", "lock of the journal"])
def test_two_jobs_on_one_output_refuse_each_other(job, tmp_path, monkeypatch, fcntl):
    if not fcntl:
        monkeypatch.setattr(jobs_module.Output, "_lock", lambda self: None)
    with jobs_module.Output(str(job.source), str(job.out), [b"any"]) as held:
        with pytest.raises(JobBusyError):
            job.run()
        held.journal.remove()
    job.run()
    job.check_done()


def test_two_jobs_with_journals_of_their_own_refuse_each_other(job, tmp_path):
    with jobs_module.Output(str(job.source), str(job.out), [b"any"], journal=str(tmp_path / "j")):
        with pytest.raises(JobBusyError, match="another job writes into"):
            job.run()
        with pytest.raises(JobBusyError):
            job.run(shard=(1, 2))


def test_a_journal_is_not_gone_before_names_are_synced(job, monkeypatch):
    order = []
    real_sync, real_remove = jobs_module.sync_folders, Journal.remove
    monkeypatch.setattr(jobs_module, "sync_folders",
                        lambda folders: (order.append("sync"), real_sync(folders)))
    monkeypatch.setattr(Journal, "remove",
                        lambda self: (order.append("remove"), real_remove(self)))
    job.run()
    assert order == ["sync", "remove"]


def test_a_journal_that_others_can_write_is_refused(tmp_path, doctor, monkeypatch):
    job = Job(tmp_path, "encrypt", doctor)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    os.chmod(job.journal, 0o620)
    with pytest.raises(UsageError, match="others can write it"):
        job.run()
    os.chmod(job.journal, 0o600)
    job.run()
    job.check_done()


def test_a_journal_cannot_name_a_file_elsewhere(tmp_path, doctor, monkeypatch):
    """Whoever could write it could have any file renamed into the output, or removed."""
    job = Job(tmp_path, "encrypt", doctor)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    (tmp_path / "victim").write_bytes(b"elsewhere")
    with sqlite3.connect(job.journal) as database:
        database.execute("update done set part = '../victim', size = size + 1")
    database.close()
    with pytest.raises(UsageError, match="damaged or no journal"):
        job.run()
    assert (tmp_path / "victim").read_bytes() == b"elsewhere"


def test_a_journal_is_not_reached_through_a_link(tmp_path, doctor):
    job = Job(tmp_path, "encrypt", doctor)
    os.symlink(tmp_path / "planted", job.journal)
    with pytest.raises(UsageError, match="symbolic link"):
        job.run()
    assert not (tmp_path / "planted").exists()


def test_trees_side_by_side_under_encrypted_names_come_back_apart(tmp_path, call, keys):
    for name in ("one", "two"):
        (tmp_path / name / "study").mkdir(parents=True)
        (tmp_path / name / "study" / "image").write_bytes(name.encode())
        (tmp_path / name / ("n" * 253)).write_bytes(name.encode() * 2)
    trees = [tmp_path / "one", tmp_path / "two"]
    for number, names in enumerate(("encrypted", "keep")):
        out, back = tmp_path / f"out{number}", tmp_path / f"back{number}"
        done = call("encrypt", *trees, "-r", keys / "doctor.pub", "-o", out, "--names", names)
        assert done.status == 0, done.err
        done = call("decrypt", out, "-i", keys / "doctor.key", "-o", back)
        assert done.status == 0, done.err
        for name in ("one", "two"):
            assert (back / name / "study" / "image").read_bytes() == name.encode()
            assert (back / name / ("n" * 253)).read_bytes() == name.encode() * 2


def test_a_job_that_goes_on_leaves_the_parts_of_others_alone(tmp_path, doctor, monkeypatch):
    """Another job may be at work in a folder of the same output."""
    job = Job(tmp_path, "encrypt", doctor)
    killed_run(job, monkeypatch, checkpoint, "rename_part", at=9)
    (job.out / "inner").mkdir()
    other = job.out / "inner" / new_part_name("ffffffff")
    with sqlite3.connect(job.journal) as database:
        ((run,),) = database.execute("select run from job").fetchall()
    database.close()
    own = job.out / "inner" / new_part_name(run)
    for path in (other, own):
        path.write_bytes(b"in progress")
    assert not run.startswith("ffffff")
    job.run()
    assert other.exists()
    assert not own.exists()


def test_a_folder_that_another_shard_has_made_meanwhile_is_none_that_fails(
    tmp_path, doctor, monkeypatch
):
    job, real = Job(tmp_path, "encrypt", doctor), os.mkdir

    def slower(path, *mode):
        real(path, *mode)  # the other shard's
        real(path, *mode)

    monkeypatch.setattr(jobs_module.os, "mkdir", slower)
    assert set(states(job.run(shard=(1, 1)))) == {"done"}
