"""Objects and names made with bad intent: nothing leaves the output tree or reaches a terminal."""

import os
import sys

import pydicom
import pytest
from terminal import screen

import dicomcrypt as dc
from dicomcrypt.keys.keyfile import ALGORITHMS, recipient_text
from dicomcrypt.trees.tree import DecryptOptions, decrypt_tree

NAMES = (b"../x", b"/dicomcrypt-hostile", b"a/../../x", b"nul\0byte", b"a//b", b"./x", b".",
         b"..", b"", b"a/", b"/", b"a/./b")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("link", [None, b"target"])
def test_a_stored_name_that_leads_out_is_refused(tmp_path, keys, call, forge, snapshot, name, link):
    outer = tmp_path / "outer"
    safe, back = outer / "safe", outer / "back"
    safe.mkdir(parents=True)
    forge(safe, b"" if link else b"evil", name=name, link=link)
    before = snapshot(outer)
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1", "--force")
    assert done.status == 1
    assert "leave the output tree" in done.err
    after = snapshot(outer)
    after.pop(b"back")
    assert after == before
    assert not os.path.lexists("/dicomcrypt-hostile")


@pytest.mark.parametrize("own", [b".dcmx", b"...dcmx", b"..dcmx"])
@pytest.mark.parametrize("option", ["--force", "--resume"])
def test_an_objects_own_name_that_leaves_none_is_refused(
    tmp_path, keys, call, forge, snapshot, own, option
):
    safe, back = tmp_path / "safe" / "sub", tmp_path / "back"
    safe.mkdir(parents=True)
    forge(safe, file=own)
    before = snapshot(safe)
    done = call("decrypt", safe.parent, "-i", keys / "doctor.key", "-o", back, "-j", "1", option)
    assert done.status == 1
    assert "name" in done.err
    assert snapshot(safe) == before
    assert set(snapshot(back)) <= {b"sub"}


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../x", b"..", b"a/../../..", b""])
def test_a_link_that_leads_out_is_refused(tmp_path, keys, call, forge, target):
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    forge(safe, b"", name=b"link", link=target)
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1")
    assert done.status == 1
    assert os.listdir(back) == []


@pytest.mark.parametrize("target", [b"a\0b", b"", b"x" * 5000])
def test_a_link_that_cannot_be_made_fails_alone_even_with_unsafe_links(
    tmp_path, keys, call, forge, target
):
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    forge(safe, b"", name=b"link", link=target)
    forge(safe, b"", name=b"z", link=b"fine")
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1",
                "--unsafe-links")
    assert done.status == 1
    assert os.listdir(back) == ["z"]


@pytest.mark.parametrize("mtime", [-(2**64), 2**64 - 1, 2**63])
def test_a_time_beyond_the_file_systems_fails_alone_or_works(tmp_path, keys, call, forge, mtime):
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    forge(safe, mtime_ns=mtime, file=b"odd.dcmx")
    forge(safe, file=b"z.dcmx")
    done = call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1")
    assert done.status in (0, 1, 4)
    assert (back / "z").read_bytes() == b"payload"


@pytest.mark.parametrize("step", ["folder", "leaf"])
def test_a_link_in_the_output_tree_is_no_stepping_stone(tmp_path, keys, call, forge, step):
    safe, back, outside = tmp_path / "safe", tmp_path / "back", tmp_path / "outside"
    for folder in (safe, back, outside):
        folder.mkdir()
    (outside / "file").write_bytes(b"precious")
    if step == "folder":
        (back / "way").symlink_to(outside)
        forge(safe, b"evil", name=b"way/file")
    else:
        (back / "file").symlink_to(outside / "file")
        forge(safe, b"evil", name=b"file")
    call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1", "--force")
    assert (outside / "file").read_bytes() == b"precious"
    assert os.listdir(outside) == ["file"]


def test_a_link_object_of_the_same_tree_is_no_stepping_stone(tmp_path, doctor, forge):
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    (tmp_path / "outside").mkdir()
    for _ in range(2):
        forge(safe, b"", name=b"way", link=b"../outside")
        forge(safe, b"evil", name=b"way/file")
        list(decrypt_tree(str(safe), str(back), [doctor],
                          DecryptOptions(force=True, unsafe_links=True)))
        assert os.listdir(tmp_path / "outside") == []


def test_more_recipients_than_a_header_may_name_are_refused(tmp_path, keys, call, dicom):
    """An object that nobody can open again would be a lost file."""
    classical = ALGORITHMS["x25519"]
    lines = [recipient_text(classical.generate().recipient) for _ in range(1024)]
    (tmp_path / "crowd.pub").write_text("".join(lines))
    out = tmp_path / "o.dcmx"
    done = call("encrypt", dicom, "-r", tmp_path / "crowd.pub", "-r", keys / "classical.pub", "-o",
                out)
    if done.status == 0:
        done = call("verify", out, "-i", keys / "classical.key")
        assert done.status == 0, "encrypted, and lost"
    assert (done.status, out.exists()) == (2, False)


# ---- terminals ----------------------------------------------------------------------


EVIL = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e"


def clean(text):
    return not set(text) & set("\x1b\x07\x9b\u202e\x7f\r")


def test_file_names_reach_no_terminal_unescaped(tmp_path, keys, call, forge):
    root = tmp_path / "in"
    root.mkdir()
    (root / f"{EVIL}.dcm").write_bytes(b"content")
    forge(root, file=f"{EVIL}.dcmx".encode())
    identity, path = ["-i", keys / "doctor.key"], root / f"{EVIL}.dcmx"
    for words in (
        ["encrypt", root, "-r", keys / "doctor.pub", "-o", tmp_path / "s", "-v", "-j", "1"],
        ["decrypt", root, *identity, "-o", tmp_path / "b", "-v", "-j", "1"],
        ["verify", root, *identity, "-v", "-j", "1"],
        ["verify", root, *identity, "--json", "-j", "1"],
        ["rewrap", path, *identity, "--add", keys / "other.pub", "-v"],
        ["inspect", path], ["inspect", path, *identity], ["inspect", f"{path}x"],
        ["keygen", "-o", tmp_path / f"{EVIL}.key"],
        ["decrypt", path, "-i", tmp_path / f"{EVIL}.no"],
        ["encrypt", path, "-r", tmp_path / f"{EVIL}.no"],
    ):
        done = call(*words)
        assert clean(done.out), words[0]
        assert clean(done.err), words[0]


def test_frame_names_reach_no_terminal_unescaped(tmp_path, keys, call, dicom, doctor):
    dc.encrypt_file(dicom, tmp_path / "ct.dcmx", [doctor.recipient])
    done = call("frame", tmp_path / "ct.dcmx", "-i", keys / "doctor.key", "-o",
                tmp_path / f"{EVIL}.raw")
    assert done.status == 0
    assert clean(done.err)


def test_tags_and_stored_names_reach_no_terminal_unescaped(tmp_path, keys, call, dicom, forge):
    ds = pydicom.dcmread(dicom)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = f"Evil^{EVIL}"
    ds.add_new(0x00104000, "LT", f"first\r\nsecond {EVIL}")
    ds.save_as(tmp_path / "ct")
    forge(tmp_path, (tmp_path / "ct").read_bytes(), file=b"ct.dcmx", name=EVIL.encode())
    for more in ([], ["--tags"], ["--json"], ["--json", "--tags"]):
        done = call("inspect", tmp_path / "ct.dcmx", "-i", keys / "doctor.key", *more)
        assert done.status == 0
        assert clean(done.out)
        assert "Evil^" in done.out


def test_brackets_in_a_name_are_no_markup_on_a_terminal(tmp_path, keys, command, forge):
    forge(tmp_path, file=b"[bold]x[-red] [")
    words = [sys.executable, "-m", "dicomcrypt", "inspect", "[bold]x[-red] ["]
    status, shown = screen(words, command.environment(), tmp_path)
    assert status == 0
    assert b"[bold]x[-red] [" in shown
