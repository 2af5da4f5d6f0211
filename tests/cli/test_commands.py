"""Each command does what its help says."""

import json
import os
import re
import shutil
import struct

import numpy as np
import object_files as make
import pydicom
import pytest

import dicomcrypt as dc


@pytest.fixture
def ct(tmp_path, dicom, doctor):
    dc.encrypt_file(dicom, tmp_path / "ct.dcmx", [doctor.recipient])
    return tmp_path / "ct.dcmx"


@pytest.fixture
def tree(tmp_path, corpus, dicom):
    root = tmp_path / "Doe^John"
    (root / "visit 1").mkdir(parents=True)
    shutil.copy2(dicom, root / "visit 1" / "Doe.dcm")
    (root / "notes about Doe.txt").write_text("text")
    return root


# ---- help, version, keygen ---------------------------------------------------


def test_the_version_is_the_packages(call):
    done = call("--version")
    assert (done.status, done.out) == (0, f"dicomcrypt, version {dc.__version__}\n")


@pytest.mark.parametrize("kind", ["mlkem768-x25519", "x25519"])
def test_keygen_makes_a_pair_that_works(tmp_path, call, dicom, kind):
    done = call("keygen", "-o", tmp_path / "my.key", "--type", kind, "--json")
    facts = json.loads(done.out)
    assert (facts["type"], facts["sealed"]) == (kind, False)
    done = call("encrypt", dicom, "-r", facts["recipient"], "-o", tmp_path / "o")
    assert done.status == 0
    done = call("decrypt", tmp_path / "o", "-i", facts["identity"], "-o", tmp_path / "back")
    assert done.status == 0
    assert (tmp_path / "back").read_bytes() == dicom.read_bytes()


def test_keygen_keeps_what_exists_unless_forced(tmp_path, call):
    assert call("keygen", "-o", tmp_path / "my.key").status == 0
    before = [(tmp_path / name).read_bytes() for name in ("my.key", "my.pub")]
    assert call("keygen", "-o", tmp_path / "my.key").status == 1
    os.unlink(tmp_path / "my.pub")
    assert call("keygen", "-o", tmp_path / "my.key").status == 1
    assert os.listdir(tmp_path) == ["my.key"]
    assert (tmp_path / "my.key").read_bytes() == before[0]
    assert call("keygen", "-o", tmp_path / "my.key", "--force").status == 0
    assert [(tmp_path / name).read_bytes() for name in ("my.key", "my.pub")] != before


def test_a_sealed_identity_opens_with_its_passphrase_only(tmp_path, call, keys, dicom):
    done = call("keygen", "-o", tmp_path / "my.key", "--passphrase-file", keys / "passphrase")
    assert done.status == 0
    assert b"dcmx-identity" not in (tmp_path / "my.key").read_bytes()
    call("encrypt", dicom, "-r", tmp_path / "my.pub", "-o", tmp_path / "o")
    words = ["decrypt", tmp_path / "o", "-i", tmp_path / "my.key", "-o", tmp_path / "back"]
    assert call(*words).status == 2  # no terminal to ask on
    assert call(*words, "--passphrase-file", keys / "wrong").status == 3
    assert call(*words, "--passphrase-file", keys / "passphrase").status == 0
    assert (tmp_path / "back").read_bytes() == dicom.read_bytes()


# ---- inspect ------------------------------------------------------------------


def test_inspect_tells_nothing_secret_without_a_key_and_the_tags_with_one(ct, call, keys, dicom):
    patient = str(pydicom.dcmread(dicom).PatientName)
    done = call("inspect", ct)
    assert done.status == 0
    assert patient not in done.out
    assert "nothing of this is authenticated" in done.err
    for more in ([], ["--json"], ["--tags"], ["--tags", "--json"]):
        done = call("inspect", ct, "-i", keys / "doctor.key", *more)
        assert done.status == 0
        assert patient in done.out
    assert call("inspect", ct, "--tags").status == 2
    assert call("inspect", ct, "-i", keys / "other.key").status == 3


def test_inspect_json_holds_the_facts(ct, call, keys, dicom):
    facts = json.loads(call("inspect", ct, "--json").out)
    assert facts["size"] == ct.stat().st_size
    assert "opened" not in facts
    opened = json.loads(call("inspect", ct, "-i", keys / "doctor.key", "--json").out)["opened"]
    ds = pydicom.dcmread(dicom)
    assert opened["original_size"] == dicom.stat().st_size
    assert (opened["image"]["rows"], opened["image"]["columns"]) == (ds.Rows, ds.Columns)
    assert opened["scopes"] == ["full", "tags", "pixels"] or "full" in opened["scopes"]
    assert sum(opened["payload"].values()) == dicom.stat().st_size


def test_inspect_shows_a_scoped_identity_its_scope(tmp_path, call, keys, dicom):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "--tags-to", keys / "index.pub",
         "--pixels-to", keys / "study.pub", "-o", tmp_path / "o")
    patient = str(pydicom.dcmread(dicom).PatientName)
    tags = call("inspect", tmp_path / "o", "-i", keys / "index.key", "--json")
    assert json.loads(tags.out)["opened"]["scopes"] == ["tags"]
    assert patient in tags.out
    pixels = call("inspect", tmp_path / "o", "-i", keys / "study.key", "--json")
    assert json.loads(pixels.out)["opened"]["scopes"] == ["pixels"]
    assert patient not in pixels.out


def test_inspect_tags_of_a_file_without_tags_says_so(tmp_path, call, keys, forge):
    forge(tmp_path, file=b"text.dcmx")
    done = call("inspect", tmp_path / "text.dcmx", "-i", keys / "doctor.key", "--tags")
    assert done.status == 1
    assert "no tags" in done.err


def odd(dicom, path, at, old, new):
    """A file one of whose elements has another VR than its value."""
    data = bytearray(dicom.read_bytes())
    place = data.index(at + old)
    data[place + 4 : place + 6] = new
    path.write_bytes(data)


NAME, ROWS, CHARACTER_SET, CREATOR = (struct.pack("<HH", *tag) for tag in (
    (0x10, 0x10), (0x28, 0x10), (0x08, 0x05), (0x08, 0x90)))
SYNTAX, GROUP_LENGTH = (struct.pack("<HH", 2, number) for number in (0x10, 0))


@pytest.mark.parametrize(("tag", "vr", "wrong", "said"), [
    (NAME, b"PN", b"DZ", "(0010,0010)  DZ  Patient's Name"),
    (NAME, b"PN", b"FL", "(0010,0010)  FL  Patient's Name"),
    (ROWS, b"US", b"FD", "(0028,0010)  FD  Rows"),
    (CREATOR, b"PN", b"DZ", "(0008,0090)  DZ  Referring Physician's Name"),  # which is empty
    (CHARACTER_SET, b"CS", b"DZ", "(0008,0005)  DZ  Specific Character Set"),
    (CHARACTER_SET, b"CS", b"AT", "(0008,0005)  AT  Specific Character Set"),
    (SYNTAX, b"UI", b"DZ", None),
    (GROUP_LENGTH, b"UL", b"DZ", None),
])  # fmt: skip
def test_inspect_names_an_element_that_cannot_be_read_and_lists_the_others(
    tmp_path, call, keys, dicom, tag, vr, wrong, said
):
    odd(dicom, tmp_path / "odd.dcm", tag, vr, wrong)
    whole = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", tmp_path / "whole")
    done = call("encrypt", tmp_path / "odd.dcm", "-r", keys / "doctor.pub", "-o", tmp_path / "odd")
    assert (whole.status, done.status) == (0, 0)
    words = ["-i", keys / "doctor.key", "--tags", "--json"]
    lists = [json.loads(call("inspect", tmp_path / name, *words).out)["opened"]["elements"]
             for name in ("whole", "odd")]
    assert [row[0] for row in lists[1]] == [row[0] for row in lists[0]]
    unread = [row for row in lists[1] if row not in lists[0]]
    if said is None:  # an element before the data set
        assert unread == []
    elif wrong != b"AT":
        assert [row[:3] for row in unread] == [said.split("  ")]
        assert re.fullmatch(rf"\d+ bytes, not to be read as {wrong.decode()}", unread[0][3])
    shown = call("inspect", tmp_path / "odd", *words[:-1])
    assert (shown.status, shown.err) == (0, "")
    assert said is None or said.split("  ")[2] in shown.out


def test_inspect_names_an_element_of_an_item_that_cannot_be_read(tmp_path, call, keys, doctor):
    name = make.element(0x00100010, b"FL", b"Some^Body^Else")
    sop = make.element(0x00081155, b"UI", b"1.2.3\0")
    inner = make.element(0x00081199, b"SQ", make.item(sop + name))
    for number, before in enumerate((
        inner,
        make.element(0x00081140, b"SQ", make.item(name) + make.head(make.DELIMITER, 0),
                     make.UNDEFINED),
    )):
        target = tmp_path / f"{number}.dcmx"
        target.write_bytes(dc.encrypt(make.dicom(2, 2, bytes(4), before=before),
                                      [doctor.recipient]))
        done = call("inspect", target, "-i", keys / "doctor.key", "--tags")
        assert (done.status, done.err) == (0, "")
        assert "  (0010,0010)  FL  Patient's Name" in done.out
        assert "14 bytes, not to be read as FL" in done.out
        assert "Nobody^Really" in done.out
        assert "Some^Body" not in done.out
    assert "1.2.3" in call("inspect", tmp_path / "0.dcmx", "-i", keys / "doctor.key", "--tags").out


def test_inspect_of_elements_that_cannot_be_listed_at_all_says_so_in_one_line(
    tmp_path, call, keys, doctor
):
    wrong = make.element(0x00080005, b"FL", b"ISO_IR 100")
    before = make.element(0x00081140, b"SQ", make.item(wrong) + make.head(make.DELIMITER, 0),
                          make.UNDEFINED)
    target = tmp_path / "o.dcmx"
    target.write_bytes(dc.encrypt(make.dicom(2, 2, bytes(4), before=before), [doctor.recipient]))
    done = call("inspect", target, "-i", keys / "doctor.key", "--tags")
    assert (done.status, done.out) == (1, "")
    assert done.err == ("dicomcrypt: the object's data elements cannot be listed: decrypt it, and "
                        "look at the file\n")


# ---- frame ----------------------------------------------------------------------


def test_frame_writes_each_format(tmp_path, ct, call, keys, dicom):
    from PIL import Image

    ds = pydicom.dcmread(dicom)
    for ending in ("png", "bmp", "raw", "npy"):
        out = tmp_path / f"frame.{ending}"
        done = call("frame", ct, "-n", "0", "-i", keys / "doctor.key", "-o", out, "--json")
        assert done.status == 0, done.err
        assert json.loads(done.out)["frames"] == 1
    assert (tmp_path / "frame.raw").read_bytes() == ds.PixelData[: ds.Rows * ds.Columns * 2]
    assert np.array_equal(np.load(tmp_path / "frame.npy"), ds.pixel_array)
    for ending in ("png", "bmp"):
        with Image.open(tmp_path / f"frame.{ending}") as picture:
            assert picture.size == (ds.Columns, ds.Rows)


def test_frame_refuses_what_is_not_there(tmp_path, ct, call, keys, forge):
    words = ["frame", ct, "-i", keys / "doctor.key", "-o"]
    done = call(*words, tmp_path / "f.png", "-n", "1")
    assert (done.status, "no frame 1" in done.err) == (1, True)
    assert call(*words, tmp_path / "f.png", "-n", "-1").status == 2
    assert call(*words, tmp_path / "f.jpg").status == 2
    forge(tmp_path, file=b"text.dcmx")
    words[1] = tmp_path / "text.dcmx"
    done = call(*words, tmp_path / "f.png")
    assert done.status == 1
    assert sorted(os.listdir(tmp_path)) == ["ct.dcmx", "text.dcmx"]


def test_frame_keeps_what_exists_unless_forced(tmp_path, ct, call, keys):
    (tmp_path / "f.raw").write_text("precious")
    words = ["frame", ct, "-i", keys / "doctor.key", "-o", tmp_path / "f.raw"]
    assert call(*words).status == 1
    assert (tmp_path / "f.raw").read_text() == "precious"
    assert call(*words, "--force").status == 0


def test_missing_picture_libraries_are_named(tmp_path, ct, command, keys, corpus):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "for n in ('PIL', 'pylibjpeg', 'openjpeg', 'libjpeg', 'gdcm'):\n"
        "    sys.modules[n] = None\n"
    )
    env = command.environment()
    env["PYTHONPATH"] = f"{hidden}:{env['PYTHONPATH']}"
    done = command("frame", ct, "-i", keys / "doctor.key", "-o", tmp_path / "f.png", env=env)
    assert done.returncode == 2
    assert b"dicomcrypt[images]" in done.stderr
    jpeg = next(p for p in corpus if p.name == "JPEG2000.dcm")
    dc.encrypt_file(jpeg, tmp_path / "j.dcmx", dc.load_recipients(keys / "doctor.pub"))
    words = ["frame", tmp_path / "j.dcmx", "-i", keys / "doctor.key", "-o"]
    done = command(*words, tmp_path / "f.npy", env=env)
    assert done.returncode in (1, 2)
    assert b"dicomcrypt[images]" in done.stderr
    assert command(*words, tmp_path / "f.raw", env=env).returncode == 0
    assert not (tmp_path / "f.npy").exists()


# ---- verify, rewrap ------------------------------------------------------------------


def test_verify_writes_nothing_and_tells_a_partial_reach(tmp_path, call, keys, dicom, snapshot):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "--tags-to", keys / "index.pub", "-o",
         tmp_path / "o.dcmx")
    before = snapshot(tmp_path)
    assert call("verify", tmp_path / "o.dcmx", "-i", keys / "doctor.key").status == 0
    done = call("verify", tmp_path / "o.dcmx", "-i", keys / "index.key", "-v")
    assert done.status == 0
    assert "scope" in done.err
    assert snapshot(tmp_path) == before


def test_verify_and_decrypt_agree_about_links_in_a_tree(tmp_path, ct, call, keys):
    (tmp_path / "link.dcmx").symlink_to("ct.dcmx")
    words = [tmp_path, "-i", keys / "doctor.key", "-j", "1"]
    decrypted = call("decrypt", *words, "-o", tmp_path.with_name("back"))
    verified = call("verify", *words)
    assert decrypted.status == verified.status == 0


def test_rewrap_adds_and_removes(ct, call, keys, tmp_path, dicom):
    doctor, other = ["-i", keys / "doctor.key"], ["-i", keys / "other.key"]
    assert call("verify", ct, *other).status == 3
    assert call("rewrap", ct, *doctor, "--add", keys / "other.pub").status == 0
    assert call("verify", ct, *other).status == call("verify", ct, *doctor).status == 0
    assert call("rewrap", ct, *other, "--remove", keys / "doctor.pub").status == 0
    assert call("verify", ct, *doctor).status == 3
    assert call("decrypt", ct, *other, "-o", tmp_path / "back").status == 0
    assert (tmp_path / "back").read_bytes() == dicom.read_bytes()
    assert call("rewrap", ct, *other).status == 2
    assert call("rewrap", ct, *other, "--remove", "0123456789abcdef").status == 2
    assert call("rewrap", ct, *other, "--remove", keys / "other.pub", "--keep-key").status == 2
    assert call("verify", ct, *other).status == 0


def test_rewrap_takes_whole_trees(tmp_path, tree, call, keys):
    safe = tmp_path / "safe"
    call("encrypt", tree, "-r", keys / "doctor.pub", "-o", safe, "-j", "1")
    done = call("rewrap", safe, "-i", keys / "doctor.key", "--add", keys / "other.pub", "--json")
    assert json.loads(done.out)["summary"]["done"] == 2
    assert call("verify", safe, "-i", keys / "other.key", "-j", "1").status == 0
    done = call("rewrap", safe, "-i", keys / "doctor.key", "--remove", keys / "other.pub")
    assert done.status == 0
    assert call("verify", safe, "-i", keys / "other.key", "-j", "1").status == 3


# ---- trees --------------------------------------------------------------------------


def test_encrypted_names_show_nothing_and_come_back(tmp_path, tree, call, keys, snapshot):
    safe = tmp_path / "safe"
    words = ["encrypt", tree, "-r", keys / "doctor.pub", "-o", safe, "-j", "1"]
    assert call(*words, "--names", "encrypted").status == 0
    assert all(re.fullmatch(r"[0-9a-f]{32}\.dcmx", name) for name in os.listdir(safe))
    for name in os.listdir(safe):
        blob = (safe / name).read_bytes()  # three letters would stand in it by chance now and then
        assert not [name for name in (b"visit 1", b"Doe.dcm", b"notes about") if name in blob]
    call("decrypt", safe, "-i", keys / "doctor.key", "-o", tmp_path / "back", "-j", "1")
    assert snapshot(tmp_path / "back") == snapshot(tree)


def test_links_are_kept_followed_or_skipped(tmp_path, tree, call, keys):
    (tree / "link").symlink_to("notes about Doe.txt")
    for option, kept in (("keep", True), ("follow", False), ("skip", None)):
        safe, back = tmp_path / f"safe-{option}", tmp_path / f"back-{option}"
        done = call("encrypt", tree, "-r", keys / "doctor.pub", "-o", safe, "--links", option,
                    "-j", "1")
        assert done.status == 0
        call("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "1")
        if kept is None:
            assert not os.path.lexists(back / "link")
        else:
            assert (back / "link").is_symlink() == kept
            assert (back / "link").read_text() == "text"


def test_objects_and_folders_together_are_decrypted_into_a_folder(tmp_path, tree, ct, call, keys):
    call("encrypt", tree, "-r", keys / "doctor.pub", "-o", tmp_path / "safe", "-j", "1")
    done = call("decrypt", tmp_path / "safe", ct, "-i", keys / "doctor.key", "-o", tmp_path / "b",
                "-j", "1")
    assert done.status == 0, done.err
    assert sorted(os.listdir(tmp_path / "b")) == ["ct", "safe"]


def test_parts_are_the_file_without_the_rest(tmp_path, ct, call, keys, dicom, doctor):
    for part in ("tags", "pixels"):
        done = call("decrypt", ct, "-i", keys / "doctor.key", "-o", tmp_path / part, "--part", part)
        assert done.status == 0
    whole, pixels = dicom.read_bytes(), (tmp_path / "pixels").read_bytes()
    assert pixels == pydicom.dcmread(dicom).PixelData
    at = whole.index(pixels)
    assert (tmp_path / "tags").read_bytes() == whole[:at] + whole[at + len(pixels) :]


def test_salvage_keeps_what_authenticates_and_gives_4(tmp_path, ct, call, keys, dicom):
    words = ["decrypt", ct, "-i", keys / "doctor.key", "--salvage", "-o"]
    assert call(*words, tmp_path / "whole").status == 0
    assert (tmp_path / "whole").read_bytes() == dicom.read_bytes()
    data = bytearray(ct.read_bytes())
    data[len(data) // 2] ^= 1
    ct.write_bytes(data)
    done = call(*words, tmp_path / "rescued", "--json")
    assert done.status == 4
    report = json.loads(done.out)
    assert report["bytes"] == dicom.stat().st_size
    assert 0 < report["lost_bytes"] < report["bytes"]
    rescued, whole = (tmp_path / "rescued").read_bytes(), dicom.read_bytes()
    assert len(rescued) == len(whole)
    assert all(a in (b, 0) for a, b in zip(rescued, whole, strict=True))
    assert call("decrypt", ct, "-i", keys / "doctor.key", "--salvage").status == 2


# ---- output --------------------------------------------------------------------------


def test_json_documents_parse_and_count_right(tmp_path, tree, call, keys, forge):
    forge(tree, file=b"old.dcmx")
    safe, key = tmp_path / "safe", ["-i", keys / "doctor.key"]
    document = json.loads(call("encrypt", tree, "-r", keys / "doctor.pub", "-o", safe, "--json",
                               "-j", "1").out)
    assert {k: document["summary"][k] for k in ("done", "skipped", "failed", "exit_status")} == {
        "done": 2, "skipped": 1, "failed": 0, "exit_status": 0}  # fmt: skip
    assert sorted(row["state"] for row in document["files"]) == ["done", "done", "skipped"]
    assert document["summary"]["bytes_out"] == sum(p.stat().st_size for p in safe.rglob("*.dcmx"))
    (safe / "bad.dcmx").write_bytes(b"bad")
    for verb, more in (("verify", []), ("decrypt", ["-o", tmp_path / "back"])):
        done = call(verb, safe, *key, "--json", "-j", "1", *more)
        document = json.loads(done.out)
        assert done.status == document["summary"]["exit_status"] == 4
        assert (document["summary"]["done"], document["summary"]["failed"]) == (2, 1)
        failed = [row for row in document["files"] if row["state"] == "failed"]
        assert [row["path"] for row in failed] == [str(safe / "bad.dcmx")]
        assert done.err == ""


def test_quiet_shows_failures_only_and_verbose_every_file(tmp_path, tree, call, keys):
    words = ["encrypt", tree, "-r", keys / "doctor.pub", "--no-recovery", "-j", "1", "-o"]
    done = call(*words, tmp_path / "a", "-q")
    assert (done.out, done.err) == ("", "")
    done = call(*words, tmp_path / "a", "-q")
    assert done.err.count("failed: ") == len(done.err.splitlines()) == 2
    done = call(*words, tmp_path / "b", "-v")
    assert len([line for line in done.err.splitlines() if " -> " in line]) == 2
    done = call(*words, tmp_path / "c")
    assert len(done.err.splitlines()) == 1


def test_quiet_commands_say_nothing_of_what_went_well(tmp_path, call, ct, keys):
    key = keys / "doctor.key"
    for words in (
        ("keygen", "-o", tmp_path / "a.key"),
        ("frame", ct, "-i", key, "-o", tmp_path / "a.png"),
        ("key", "split", key, "--threshold", "2", "--shares", "2", "-o", tmp_path / "shares"),
        ("key", "table", "create", tmp_path / "a.db", "-r", keys / "doctor.pub"),
        ("vault", "create", tmp_path / "vault", "-r", keys / "doctor.pub", "-r", keys / "index.pub",
         "--recovery", keys / "other.pub"),
    ):  # fmt: skip
        done = call(*words, "-q")
        assert (done.status, done.out, done.err) == (0, "", ""), words
    done = call("keygen", "-o", tmp_path / "a.key", "-q")
    assert done.status == 1
    assert "exists" in done.err
