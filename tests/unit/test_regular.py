"""Files that are opened and written by name: what they may be, and who is told what."""

import errno
import os

import pytest

from dicomcrypt.errors import UsageError
from dicomcrypt.objects.atomic import AtomicFile
from dicomcrypt.regular import open_regular, others_may


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
