"""Files that are opened and written by name: what they may be, and who is told what."""

import errno
import os

import pytest

from dicomcrypt.errors import UsageError
from dicomcrypt.keys.keyfile import write_private
from dicomcrypt.objects.atomic import AtomicFile, rename_part
from dicomcrypt.objects.files import describe_failure
from dicomcrypt.regular import check_not_kept, keep, keeping, open_regular, others_may


def test_only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(UsageError, match="not a regular file"):
            open_regular(name)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_rights_of_others(tmp_path):
    (tmp_path / "file").touch(0o600)
    assert not others_may(tmp_path / "file", 0o077)
    (tmp_path / "file").chmod(0o640)
    assert others_may(tmp_path / "file", 0o077)
    assert not others_may(tmp_path / "file", 0o022)
    assert not others_may(tmp_path / "none", 0o077)


def test_a_full_disk_names_the_file(tmp_path):
    def fill():
        with AtomicFile(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space") as caught:
        fill()
    assert caught.value.filename == os.fspath(tmp_path / "out")


@pytest.mark.parametrize("write", [
    lambda path: AtomicFile(path), lambda path: write_private(path, b"secret"),
])
def test_a_folder_that_must_not_be_written_into_is_named(tmp_path, monkeypatch, write):
    (tmp_path / "In").mkdir()

    def read_only(path, flags, mode=0o777):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(PermissionError) as caught:
        write(tmp_path / "In" / "x")
    assert caught.value.filename == os.fspath(tmp_path / "In" / "x")
    assert describe_failure(caught.value) == (
        f"cannot write into folder '{tmp_path / 'In'}': permission denied")
    assert os.listdir(tmp_path / "In") == []


def test_files_are_kept_as_long_as_somebody_keeps_them(tmp_path):
    for name in ("input", "other"):
        (tmp_path / name).write_bytes(b"x")
    keep(tmp_path / "other", "is not kept, since nobody keeps files")
    with keeping():
        keep(tmp_path / "input", "is kept")
        keep(tmp_path / "none", "is not there")
        keep(tmp_path, "is a folder")
        (tmp_path / "none").write_bytes(b"y")
        with pytest.raises(UsageError, match="input' is kept"):
            AtomicFile(tmp_path / "input", force=True)
        with pytest.raises(UsageError, match="input' is kept"):
            write_private(tmp_path / "input", b"", force=True)
        with pytest.raises(UsageError, match="input' is kept"):
            rename_part(os.fspath(tmp_path / "none"), os.fspath(tmp_path / "input"), force=True)
        check_not_kept(tmp_path / "other")
        check_not_kept(tmp_path / "none")
    check_not_kept(tmp_path / "input")
