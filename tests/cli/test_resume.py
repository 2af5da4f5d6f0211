"""What --resume takes for done, and what comes back of folders."""

import os
import shutil

import pytest

import dicomcrypt as dc
from dicomcrypt.keys import keyfile


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "closed" / "deep").mkdir(parents=True)
    (root / "a.dcm").write_bytes(b"first")
    (root / "closed" / "b.dcm").write_bytes(b"second")
    os.chmod(root / "closed", 0o700)
    os.utime(root / "closed" / "deep", ns=(10**18, 10**18))
    return root


def test_resume_leaves_out_what_is_done_and_does_the_rest(tmp_path, folder, call, keys):
    words = ("encrypt", folder, "-r", keys / "doctor.pub", "-o", tmp_path / "safe")
    assert call(*words).status == 0
    os.unlink(tmp_path / "safe" / "a.dcm.dcmx")
    done = call(*words, "--resume")
    assert done.status == 0
    assert "1 done, 1 skipped" in done.err


def spoil_by_emptying(target, source, keys):
    target.write_bytes(b"")


def spoil_by_cutting(target, source, keys):
    os.truncate(target, 100)


def spoil_by_changing_the_source(target, source, keys):
    after = os.stat(target).st_mtime_ns + 10**9
    os.utime(source, ns=(after, after))


def spoil_by_other_recipients(target, source, keys):
    dc.encrypt_file(source, target, [dc.Identity.generate().recipient], force=True)


@pytest.mark.parametrize(
    "spoil",
    [spoil_by_emptying, spoil_by_cutting, spoil_by_changing_the_source, spoil_by_other_recipients],
)
@pytest.mark.parametrize("whole_tree", [False, True])
def test_resume_takes_nothing_else_for_an_object_that_was_encrypted_before(
    tmp_path, folder, call, keys, spoil, whole_tree
):
    source, target = folder / "a.dcm", tmp_path / "safe" / "a.dcm.dcmx"
    words = ("encrypt", folder, "-r", keys / "doctor.pub", "-o", tmp_path / "safe")
    assert call(*words).status == 0
    spoil(target, source, keys)
    if not whole_tree:
        words = ("encrypt", source, "-r", keys / "doctor.pub", "-o", target)
    done = call(*words, "--resume")
    assert done.status == 1
    assert "give --force" in done.err


@pytest.mark.parametrize("whole_tree", [False, True])
def test_resume_takes_nothing_else_for_a_file_that_was_decrypted_before(
    tmp_path, folder, call, keys, whole_tree
):
    safe, back = tmp_path / "safe", tmp_path / "back"
    assert call("encrypt", folder, "-r", keys / "doctor.pub", "-o", safe).status == 0
    words = ("decrypt", safe, "-i", keys / "doctor.key", "-o", back)
    if not whole_tree:
        back.mkdir()
        words = ("decrypt", safe / "a.dcm.dcmx", "-i", keys / "doctor.key", "-o", back / "a.dcm")
    assert call(*words).status == 0
    assert call(*words, "--resume").status == 0
    (back / "a.dcm").write_bytes(b"other")  # the right size, another time
    done = call(*words, "--resume")
    assert done.status == 1
    assert "is another" in done.err


def test_folders_keep_modes_and_times_both_ways(tmp_path, folder, call, keys):
    safe, back = tmp_path / "safe", tmp_path / "back"
    assert call("encrypt", folder, "-r", keys / "doctor.pub", "-o", safe).status == 0
    assert call("decrypt", safe, "-i", keys / "doctor.key", "-o", back).status == 0
    for root in (safe, back):
        assert os.stat(root / "closed").st_mode & 0o777 == 0o700
        assert os.stat(root / "closed" / "deep").st_mtime_ns == 10**18


def test_a_link_gets_its_time_back(tmp_path, call, keys):
    root = tmp_path / "in"
    root.mkdir()
    (root / "a").write_bytes(b"a")
    os.symlink("a", root / "link")
    os.utime(root / "link", ns=(10**18, 10**18), follow_symlinks=False)
    safe, back = tmp_path / "safe", tmp_path / "back"
    assert call("encrypt", root, "-r", keys / "doctor.pub", "-o", safe).status == 0
    assert call("decrypt", safe, "-i", keys / "doctor.key", "-o", back).status == 0
    assert os.lstat(back / "link").st_mtime_ns == 10**18


def test_a_name_that_no_file_system_takes_fails_alone(tmp_path, call, keys, forge):
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    identity = keyfile.load_identities(keys / "doctor.key")[0]
    for n in range(12):
        (safe / f"{n:02}.dcmx").write_bytes(dc.encrypt(b"good", [identity.recipient]))
    forged = forge(safe, name=b"x/" * 3000 + b"y")
    assert forged is None or forged
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back)
    assert done.status == 1
    assert len([p for p in back.iterdir() if p.is_file()]) == 12
    shutil.rmtree(back)


@pytest.mark.parametrize("whole_tree", [False, True])
def test_a_rewrap_that_is_done_is_done_when_it_is_given_again(
    tmp_path, folder, call, keys, whole_tree
):
    safe = tmp_path / "safe"
    assert call("encrypt", folder, "-r", keys / "doctor.pub", "-o", safe).status == 0
    words = ("rewrap", safe if whole_tree else safe / "a.dcm.dcmx", "-i", keys / "doctor.key",
             "--add", keys / "other.pub", "--resume")
    count = 2 if whole_tree else 1
    for done, skipped in ((count, 0), (0, count)):
        again = call(*words)
        assert again.status == 0, again.err
        assert f"{done} done, {skipped} skipped, 0 failed" in again.err
        assert "no object" not in again.err


def test_a_rewrap_of_a_folder_without_objects_is_an_error(folder, call, keys):
    done = call("rewrap", folder, "-i", keys / "doctor.key", "--add", keys / "other.pub",
                "--resume")
    assert done.status == 1
    assert "no object to rewrap was found there" in done.err


def test_a_rewrap_that_asks_for_nothing_is_not_done(tmp_path, folder, call, keys):
    safe = tmp_path / "safe"
    assert call("encrypt", folder, "-r", keys / "doctor.pub", "-o", safe).status == 0
    done = call("rewrap", safe, "-i", keys / "doctor.key", "--resume")
    assert done.status == 2
    assert "nothing to do" in done.err


@pytest.mark.parametrize("whole_tree", [False, True])
def test_who_reads_the_tags_only_is_added_by_a_rewrap_that_goes_on(
    tmp_path, dicom, call, keys, whole_tree
):
    (tmp_path / "in").mkdir()
    source = shutil.copy(dicom, tmp_path / "in" / "ct")
    safe = tmp_path / "safe"
    safe.mkdir()
    made, output = (source, safe / "ct.dcmx") if not whole_tree else (tmp_path / "in", safe)
    assert call("encrypt", made, "-r", keys / "doctor.pub", "--tags-to", keys / "other.pub", "-o",
                output).status == 0
    for expected in ("1 done, 0 skipped", "0 done, 1 skipped"):
        done = call("rewrap", safe, "-i", keys / "doctor.key", "--add", keys / "other.pub",
                    "--resume")
        assert done.status == 0
        assert expected in done.err
    back = tmp_path / "back"
    assert call("decrypt", safe / "ct.dcmx", "-i", keys / "other.key", "-o", back).status == 0
    assert back.read_bytes() == dicom.read_bytes()


def test_who_is_of_the_batch_is_left_out_by_a_rewrap_that_goes_on(tmp_path, folder, call, keys):
    safe = tmp_path / "safe"
    assert call("encrypt", folder, "-r", keys / "doctor.pub", "-o", safe).status == 0
    done = call("rewrap", safe, "-i", keys / "doctor.key", "--add", keys / "doctor.pub",
                "--resume")
    assert (done.status, "0 done, 2 skipped" in done.err) == (0, True)
