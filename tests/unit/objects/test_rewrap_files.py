"""Changing recipients of files that others change too, or that have several names."""

import os
import pathlib
import subprocess
import sys

import pytest

import dicomcrypt as dc

#: Adds and drops a recipient of its own for two seconds.
CHANGE = """
import sys, time
import dicomcrypt as dc
path, private = sys.argv[1], bytes.fromhex(sys.stdin.read())
identity, own = dc.X25519Identity(private), dc.X25519Identity.generate().recipient
end = time.monotonic() + 2
while time.monotonic() < end:
    dc.rewrap(path, [identity], add=[own])
    dc.rewrap(path, [identity], remove=[own], keep_key=True)
"""


def test_changes_at_the_same_time_lose_neither_the_object_nor_a_recipient(tmp_path):
    identity = dc.X25519Identity.generate()
    path = tmp_path / "o.dcmx"
    path.write_bytes(dc.encrypt(b"content", [identity.recipient]))
    where = pathlib.Path(dc.__file__).resolve().parents[1]
    workers = [
        subprocess.Popen([sys.executable, "-c", CHANGE, path], stdin=subprocess.PIPE, cwd=where)
        for _ in range(3)
    ]
    for worker in workers:
        worker.stdin.write(identity.private_bytes().hex().encode())
        worker.stdin.close()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert dc.decrypt(path.read_bytes(), [identity]) == b"content"
    assert [r["hint"] for r in dc.inspect(path)["recipients"]] == [identity.recipient.hint.hex()]


@pytest.fixture
def shared(tmp_path):
    """An object for two, by its name and through a link."""
    stays, goes = dc.Identity.generate(), dc.Identity.generate()
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "o.dcmx"
    path.write_bytes(dc.encrypt(b"content", [stays.recipient, goes.recipient]))
    os.symlink("real/o.dcmx", tmp_path / "link.dcmx")
    return path, tmp_path / "link.dcmx", stays, goes


def test_removing_through_a_link_changes_what_it_points_to(shared):
    path, link, stays, goes = shared
    dc.rewrap(link, [stays], remove=[goes.recipient])
    assert link.is_symlink()
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt(path.read_bytes(), [goes])
    assert dc.decrypt(path.read_bytes(), [stays]) == b"content"


def test_removing_from_a_file_with_hard_links_is_refused(shared):
    path, _, stays, goes = shared
    os.link(path, path.with_name("other.dcmx"))
    before = path.read_bytes()
    with pytest.raises(dc.UsageError, match="hard links"):
        dc.rewrap(path, [stays], remove=[goes.recipient])
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_removing_keeps_the_owner(shared):
    path, _, stays, goes = shared
    os.chown(path, 1234, 1234)
    dc.rewrap(path, [stays], remove=[goes.recipient])
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (1234, 1234)
