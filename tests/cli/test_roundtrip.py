"""What goes in comes back: bytes, modes, times, links, whatever the names are."""

import inspect
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pydicom
import pytest

import dicomcrypt as dc
from dicomcrypt.ciphers.transform import method_number
from dicomcrypt.errors import SourceChangedError
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.objects.files import encrypt_path
from dicomcrypt.trees.tree import DecryptOptions, EncryptOptions, decrypt_tree, encrypt_tree
from tests.conftest import METHODS, need


@pytest.fixture(scope="module")
def archive(corpus, tmp_path_factory):
    """The corpus as a tree, with modes and times of all sorts."""
    root = tmp_path_factory.mktemp("archive")
    for number, path in enumerate(corpus):
        place = root / f"study{number % 7}" / f"series{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        copy = place / f"{number}-{path.name}"
        shutil.copyfile(path, copy)
        copy.chmod((0o644, 0o600, 0o755, 0o440, 0o664)[number % 5])
        os.utime(copy, ns=(0, 86_400_000_000_000 * (number * 137 - 5000) + 123_456_789))
    return root


def both_ways(root, tmp_path, identity, options=None, **decrypt):
    envelope = Envelope({1: [identity.recipient]}, batch=True)
    there = list(encrypt_tree(str(root), str(tmp_path / "safe"), envelope,
                              options or EncryptOptions()))
    back = list(decrypt_tree(str(tmp_path / "safe"), str(tmp_path / "back"), [identity],
                             DecryptOptions(**decrypt)))
    return there, back


@pytest.mark.parametrize("method", METHODS)
def test_every_file_of_the_corpus_comes_back(archive, tmp_path, doctor, snapshot, method):
    options = EncryptOptions(method_number(method))
    for outcome in (o for part in both_ways(archive, tmp_path, doctor, options) for o in part):
        assert (outcome.state, outcome.message) == ("done", ""), outcome.path
    assert snapshot(tmp_path / "back") == snapshot(archive)


def test_the_corpus_comes_back_through_two_processes(archive, tmp_path, keys, command, snapshot):
    before = snapshot(archive)
    safe, back = tmp_path / "safe", tmp_path / "back"
    done = command("encrypt", archive, "-r", keys / "doctor.pub", "-o", safe, "-j", "2")
    assert done.returncode == 0, done.stderr
    done = command("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "2")
    assert done.returncode == 0, done.stderr
    assert snapshot(back) == before == snapshot(archive)


def test_objects_take_the_modes_of_their_files(archive, tmp_path, doctor, snapshot):
    both_ways(archive, tmp_path, doctor)
    modes = {name: what[1] for name, what in snapshot(archive).items() if what[0] == "file"}
    safe = snapshot(tmp_path / "safe")
    assert modes == {name[:-5]: what[1] for name, what in safe.items() if what[0] == "file"}


def test_sixty_frames_come_back_and_each_alone(tmp_path, doctor, dicom):
    frames, side = 60, 1024
    size = 2 * side * side
    plane = np.arange(side * side, dtype="<u2").reshape(side, side)
    ds = pydicom.dcmread(dicom)
    ds.Rows = ds.Columns = side
    ds.NumberOfFrames, ds.PixelRepresentation = frames, 0
    ds.PixelData = b"".join((plane * n ^ n * 257).astype("<u2").tobytes() for n in range(frames))
    source, safe, back = tmp_path / "us.dcm", tmp_path / "us.dcmx", tmp_path / "back.dcm"
    ds.save_as(source)
    dc.encrypt_file(source, safe, [doctor.recipient])
    with dc.open(safe, [doctor]) as obj:
        assert obj.frame_count == frames
        for n in (0, 31, 59):
            assert obj.frame_bytes(n) == ds.PixelData[n * size : (n + 1) * size]
    dc.decrypt_file(safe, back, [doctor])
    assert subprocess.run(["cmp", source, back], check=False).returncode == 0


ODD_NAMES = (b"with space", b" ", b"new\nline", b"tab\t", b"\xff\xfe not UTF-8", b"-r", b"--json",
             "\u00e9\u0301\u202etxt".encode(), b"a.dcmx.dcm", b"*", b"~", b"nul", b"a" * 250)


@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_odd_files_come_back_through_the_command_line(tmp_path, keys, command, corpus, snapshot,
                                                      names):
    root = tmp_path / "in"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "text.txt").write_text("no DICOM at all\n")
    shutil.copy2(next(p for p in corpus if p.name == "DICOMDIR"), root / "deep" / "er")
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(root / "deep"), name), "wb") as file:
            file.write(name * 100)
    safe, back = tmp_path / "safe", tmp_path / "back"
    done = command("encrypt", root, "-r", keys / "doctor.pub", "-o", safe, "--names", names,
                   "-j", "1")
    assert done.returncode == 0, done.stderr
    done = command("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1")
    assert done.returncode == 0, done.stderr
    assert snapshot(back) == snapshot(root)


def test_an_object_whose_name_would_be_too_long_bears_its_id(tmp_path, keys, call, leftovers):
    root, safe, back = tmp_path / "in", tmp_path / "safe", tmp_path / "back"
    (root / "sub").mkdir(parents=True)
    long = root / "sub" / ("n" * 253)
    long.write_bytes(b"1")
    (root / "short").write_bytes(b"2")
    done = call("encrypt", root, "-r", keys / "doctor.pub", "-o", safe, "-j", "1")
    assert done.status == 0, done.err
    assert leftovers(safe) == []
    (made,) = (safe / "sub").iterdir()
    assert len(made.name) == 32 + len(".dcmx")
    assert call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1").status == 0
    assert (back / "sub" / ("n" * 253)).read_bytes() == b"1"


def test_hard_links_come_back_as_files_and_empty_folders_as_folders(tmp_path, doctor, snapshot):
    root = tmp_path / "in"
    (root / "empty" / "er").mkdir(parents=True)
    (root / "a").write_bytes(b"one")
    os.link(root / "a", root / "b")
    both_ways(root, tmp_path, doctor)
    assert snapshot(tmp_path / "back") == snapshot(root)


# ---- links ------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    for name, target in (("inside", "file"), ("sub/up", "../file"), ("folder", "sub"),
                         ("dangling", "nothing"), ("absolute", str(root / "file")),
                         ("sub/escapes", "../../in/file"), ("self", "self")):
        (root / name).symlink_to(target)
    return root


def test_links_that_stay_inside_come_back_and_others_are_refused_by_name(
    linked, tmp_path, doctor, snapshot
):
    _, back = both_ways(linked, tmp_path, doctor)
    failed = {os.path.basename(o.path): o.message for o in back if o.state == "failed"}
    assert set(failed) == {"absolute.dcmx", "escapes.dcmx"}
    assert all("--unsafe-links" in message for message in failed.values())
    expected = snapshot(linked)
    del expected[b"absolute"], expected[b"sub/escapes"]
    assert snapshot(tmp_path / "back") == expected


def test_unsafe_links_restores_every_link(linked, tmp_path, doctor, snapshot):
    _, back = both_ways(linked, tmp_path, doctor, unsafe_links=True)
    assert {o.state for o in back} == {"done"}
    assert snapshot(tmp_path / "back") == snapshot(linked)


def test_links_come_back_with_encrypted_names(linked, tmp_path, doctor, snapshot):
    both_ways(linked, tmp_path, doctor, EncryptOptions(names="encrypted"), unsafe_links=True)
    assert snapshot(tmp_path / "back") == snapshot(linked)


def test_links_that_escape_through_another_link_are_refused(tmp_path, forge, doctor):
    """a/b/top leads to the tree's root, so a/b/top/.. is the folder above it."""
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    forge(safe, b"", name=b"a/b/top", link=b"../..")
    forge(safe, b"", name=b"way/out", link=b"../a/b/top/../secret")
    list(decrypt_tree(str(safe), str(back), [doctor], DecryptOptions()))
    if os.path.lexists(back / "way" / "out"):
        assert (back / "way" / "out").resolve().is_relative_to(back)


# ---- what is no plain file ---------------------------------------------------


def test_pipes_sockets_and_devices_in_a_tree_are_skipped_by_name(tmp_path, keys, command):
    root = tmp_path / "in"
    root.mkdir()
    os.mkfifo(root / "fifo")
    (root / "file").write_bytes(b"content")
    old = os.getcwd()
    os.chdir(root)  # a socket's address has to be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(old)
    done = command("encrypt", root, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", timeout=100)
    assert done.returncode == 0
    assert b"fifo: neither file" in done.stderr
    assert b"socket: neither file" in done.stderr
    assert os.listdir(tmp_path / "safe") == ["file.dcmx"]
    done = command("verify", root, "-i", keys / "doctor.key", timeout=100)
    assert done.returncode == 1
    assert b"no object to verify was found" in done.stderr


@pytest.mark.parametrize("verb", ["encrypt", "decrypt", "verify", "inspect"])
def test_a_pipe_by_name_is_refused_and_does_not_block(tmp_path, keys, command, verb):
    os.mkfifo(tmp_path / "fifo")
    arguments = [verb, tmp_path / "fifo"]
    arguments += ["-r", keys / "doctor.pub"] if verb == "encrypt" else ["-i", keys / "doctor.key"]
    arguments += ["-o", tmp_path / "out"] if verb in ("encrypt", "decrypt") else []
    try:
        done = command(*arguments, timeout=100)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{verb} waits for somebody to write into a pipe")
    assert done.returncode in (1, 2, 4)
    assert b"fifo" in done.stderr


def test_objects_among_the_input_are_skipped_by_name(tmp_path, keys, call, forge):
    root = tmp_path / "in"
    root.mkdir()
    forge(root, file=b"old.dcmx")
    (root / "new").write_bytes(b"content")
    done = call("encrypt", root, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "1")
    assert done.status == 0
    assert "skipped: " in done.err
    assert "old.dcmx: a DCMX object already" in done.err
    assert os.listdir(tmp_path / "safe") == ["new.dcmx"]


@pytest.mark.parametrize("name", ["safe", "sub/safe", "..safe"])
def test_an_output_folder_inside_the_input_is_not_its_input(tmp_path, keys, call, name):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(b"content")
    out = root / name
    out.mkdir()
    (out / "zzz.txt").write_bytes(b"an output folder is not read")
    done = call("encrypt", root, "-r", keys / "doctor.pub", "-o", out, "-j", "1")
    assert done.status == 0
    assert "1 done" in done.err
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert found == ["sub/file.dcmx", "zzz.txt"]


# ---- what cannot be read, what changes -------------------------------------------


@pytest.fixture
def unprivileged(command, keys):
    """Run the command line where permissions count; root gives up its rights for it."""
    place = tempfile.mkdtemp(prefix="dicomcrypt-", dir="/tmp")
    os.chmod(place, 0o777)  # noqa: S103 - for nobody, too
    for name in ("doctor.key", "doctor.pub"):
        shutil.copy(keys / name, place)
        os.chmod(os.path.join(place, name), 0o644)
    prefix = []
    if os.geteuid() == 0:
        prefix = [need("setpriv", "util-linux"), "--reuid=65534", "--regid=65534", "--clear-groups"]

    def run(*arguments):
        return subprocess.run([*prefix, *command.words, *arguments], check=False, cwd=place,
                              capture_output=True, timeout=100, env=command.environment())

    if run("--version").returncode:
        pytest.skip("nobody may not read this Python")
    run.place = place
    yield run
    for base, folders, _ in os.walk(place):  # closed folders come back closed
        for name in folders:
            os.chmod(os.path.join(base, name), 0o700)
    shutil.rmtree(place)


def test_an_unreadable_file_or_folder_fails_alone_and_is_named(unprivileged):
    root = os.path.join(unprivileged.place, "in")
    os.makedirs(os.path.join(root, "closed"))
    for name, mode in (("open", 0o644), ("secret", 0)):
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"content")
        os.chmod(file.name, mode)
    os.chmod(os.path.join(root, "closed"), 0)
    done = unprivileged("encrypt", "in", "-r", "doctor.pub", "-o", "safe", "-j", "1")
    os.chmod(os.path.join(root, "closed"), 0o700)
    assert done.returncode == 1
    assert b"in/secret: permission denied" in done.stderr
    assert b"in/closed: permission denied" in done.stderr
    assert b"1 done, 0 skipped, 2 failed" in done.stderr


@pytest.mark.parametrize("verb", ["decrypt", "verify", "rewrap"])
def test_an_unreadable_object_is_not_called_damaged_nor_passed_over(unprivileged, forge, verb):
    root = os.path.join(unprivileged.place, "safe")
    os.makedirs(root)
    os.chmod(forge(root, file=b"ct.dcmx"), 0)
    more = {"decrypt": ["-o", "back", "-j", "1"], "verify": ["-j", "1"],
            "rewrap": ["--add", "doctor.pub"]}[verb]
    done = unprivileged(verb, "safe", "-i", "doctor.key", *more)
    assert b"ct.dcmx: permission denied" in done.stderr
    assert done.returncode == 1


def test_a_folder_that_cannot_be_listed_is_reported_by_rewrap(unprivileged, forge):
    root = os.path.join(unprivileged.place, "safe")
    os.makedirs(os.path.join(root, "closed"))
    forge(os.path.join(root, "closed"), file=b"ct.dcmx")
    os.chmod(os.path.join(root, "closed"), 0)
    done = unprivileged("rewrap", "safe", "-i", "doctor.key", "--add", "doctor.pub")
    os.chmod(os.path.join(root, "closed"), 0o700)
    assert done.returncode == 1
    assert b"closed" in done.stderr


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, doctor):
    source, target = tmp_path / "growing", tmp_path / "out.dcmx"
    source.write_bytes(bytes(1 << 20))

    def grow(_):
        if source.stat().st_size == 1 << 20:
            with open(source, "ab") as file:
                file.write(b"more")

    with pytest.raises(SourceChangedError):
        encrypt_path(source, target, Envelope({1: [doctor.recipient]}), -1, progress=grow)
    assert os.listdir(tmp_path) == ["growing"]


def test_a_file_that_never_ends_is_not_read_for_ever(tmp_path, doctor):
    """A log that is written as fast as it is read must not fill the disk with its object."""
    source, target = tmp_path / "growing", tmp_path / "out.dcmx"
    source.write_bytes(bytes(1 << 20))

    def grow(size):
        if source.stat().st_size < 64 << 20:
            with open(source, "ab") as file:
                file.write(bytes(size))

    with pytest.raises(SourceChangedError):
        encrypt_path(source, target, Envelope({1: [doctor.recipient]}), None, progress=grow)
    assert source.stat().st_size < 32 << 20


def test_setuid_and_sticky_bits_do_not_come_back(tmp_path, doctor):
    root = tmp_path / "in"
    root.mkdir()
    (root / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "tool").chmod(0o6755)
    both_ways(root, tmp_path, doctor)
    assert stat.S_IMODE((tmp_path / "back" / "tool").stat().st_mode) == 0o755


def test_a_tree_deeper_than_the_interpreters_stack_comes_back(tmp_path, keys, call):
    root = tmp_path / "in"
    here = root.joinpath(*["d"] * 400)
    subprocess.run(["mkdir", "-p", here], check=True)
    (here / "file").write_bytes(b"deep")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 250)  # a thousand levels take minutes
    try:
        done = call("encrypt", root, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "1")
        assert done.status == 0
        assert "1 done" in done.err
    finally:
        sys.setrecursionlimit(limit)
        for name in ("in", "safe"):
            subprocess.run(["rm", "-rf", tmp_path / name], check=True)
