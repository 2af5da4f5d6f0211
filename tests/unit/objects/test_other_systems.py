"""Files on systems that lack calls of POSIX, here by taking them away."""

import os
import sys

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.objects import atomic
from dicomcrypt.regular import read_at, read_into

PIXELS = make.noise(30 * 40 * 3)
DATA = make.dicom(30, 40, PIXELS, frames=3)
POSIX = ("pread", "readv", "fchmod", "posix_fadvise", "preadv")


@pytest.fixture
def lacking(monkeypatch):
    """The system calls that Windows does not have."""
    for name in POSIX:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "supports_fd", os.supports_fd - {os.utime})
    monkeypatch.setattr(atomic._system, "rename_new", lambda source, target: False)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "ct.dcm"
    path.write_bytes(DATA)
    os.utime(path, ns=(1_600_000_000_000_000_000,) * 2)
    return path


@pytest.mark.usefixtures("lacking")
def test_a_file_goes_there_and_back_with_its_time(source, identity, tmp_path):
    dc.encrypt_file(source, tmp_path / "ct.dcmx", [identity.recipient])
    dc.decrypt_file(tmp_path / "ct.dcmx", tmp_path / "back.dcm", [identity])
    assert (tmp_path / "back.dcm").read_bytes() == DATA
    assert (tmp_path / "back.dcm").stat().st_mtime_ns == 1_600_000_000_000_000_000
    with pytest.raises(dc.OutputExistsError):
        dc.decrypt_file(tmp_path / "ct.dcmx", tmp_path / "back.dcm", [identity])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.dcm", "ct.dcm", "ct.dcmx"]


@pytest.mark.usefixtures("lacking")
def test_frames_are_read_alone(source, identity, tmp_path):
    dc.encrypt_file(source, tmp_path / "ct.dcmx", [identity.recipient])
    with dc.open(tmp_path / "ct.dcmx", [identity]) as found:
        assert list(found.frames) == [PIXELS[n : n + 1200] for n in (0, 1200, 2400)]


@pytest.mark.usefixtures("lacking")
def test_reading_elsewhere_leaves_the_place_where_it_was(source):
    with open(source, "rb", buffering=0) as file:
        room = memoryview(bytearray(10))
        assert read_into(file.fileno(), room) == 10
        assert read_at(file.fileno(), 8, 128) == DATA[128:136]
        assert read_at(file.fileno(), 8, len(DATA)) == b""
        assert read_into(file.fileno(), room) == 10
        assert room == DATA[10:20]


def test_where_only_single_files_are_synced_each_part_is(tmp_path, monkeypatch):
    parts = [tmp_path / name for name in ("a", "b")]
    for part in parts:
        part.write_bytes(b"whole")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    atomic.sync_parts(map(str, parts))
    assert synced == []  # `sync_folders` does it
    monkeypatch.delattr(os, "sync")
    atomic.sync_parts(map(str, parts))
    assert synced == [part.stat().st_ino for part in parts]


def test_recipients_are_not_changed_where_there_are_no_locks(
    source, identity, tmp_path, monkeypatch
):
    target = tmp_path / "ct.dcmx"
    dc.encrypt_file(source, target, [identity.recipient])
    before = target.read_bytes()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(dc.UsageError, match="no file locks"):
        dc.rewrap(target, [identity], add=[dc.Identity.generate().recipient])
    assert target.read_bytes() == before
