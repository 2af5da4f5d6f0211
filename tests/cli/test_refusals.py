"""What is refused ends with the right status, says why, and leaves nothing behind."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys

import pytest

import dicomcrypt as dc
from tests.conftest import need


@pytest.fixture
def safe(tmp_path, keys, dicom, doctor):
    """An object for the doctor; the folder holds nothing else."""
    folder = tmp_path / "safe"
    folder.mkdir()
    dc.encrypt_file(dicom, folder / "ct.dcmx", [doctor.recipient])
    return folder / "ct.dcmx"


def nothing_new(folder, *expected):
    assert sorted(os.listdir(folder)) == sorted(expected)


# ---- keys -------------------------------------------------------------------


def test_the_wrong_key_gives_3(safe, keys, call):
    done = call("decrypt", safe, "-i", keys / "other.key", "-o", safe.parent / "out")
    assert done.status == 3
    assert "no identity fits" in done.err
    nothing_new(safe.parent, "ct.dcmx")


def test_the_wrong_passphrase_gives_3(tmp_path, keys, dicom, call):
    out = tmp_path / "ct.dcmx"
    done = call("encrypt", dicom, "--passphrase-file", keys / "passphrase", "-o", out)
    assert done.status == 0
    done = call("decrypt", out, "--passphrase-file", keys / "wrong", "-o", tmp_path / "back")
    assert done.status == 3
    nothing_new(tmp_path, "ct.dcmx")
    done = call("decrypt", out, "--passphrase-file", keys / "passphrase", "-o", tmp_path / "back")
    assert done.status == 0
    assert (tmp_path / "back").read_bytes() == dicom.read_bytes()


def test_the_right_key_of_another_scope_gives_3(tmp_path, keys, dicom, call):
    out = tmp_path / "ct.dcmx"
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "--tags-to", keys / "index.pub",
                "--pixels-to", keys / "study.pub", "-o", out)
    assert done.status == 0
    for name, other in (("index", "pixels"), ("study", "tags")):
        for part in ("all", other):
            done = call("decrypt", out, "-i", keys / f"{name}.key", "-o", tmp_path / "back",
                        "--part", part)
            assert done.status == 3
            assert "scope only" in done.err
    nothing_new(tmp_path, "ct.dcmx")


USAGE = {
    "no recipient": (["encrypt", "{ct}"], "no recipient"),
    "no identity": (["decrypt", "{ct}"], "no identity"),
    "recipient is missing": (["encrypt", "{ct}", "-r", "{keys}/nobody.pub"], "nobody.pub"),
    "recipient is an identity": (["encrypt", "{ct}", "-r", "{keys}/doctor.key"], "not a recipient"),
    "identity is a recipient": (["decrypt", "{ct}", "-i", "{keys}/doctor.pub"], "not an identity"),
    "hybrid beside classical":
        (["encrypt", "{ct}", "-r", "{keys}/doctor.pub", "-r", "{keys}/classical.pub"],
         "--allow-classical"),
    "passphrase beside recipient":
        (["encrypt", "{ct}", "-r", "{keys}/doctor.pub", "--passphrase-file", "{keys}/passphrase"],
         "--allow-mixed"),
    "passphrase without terminal": (["encrypt", "{ct}", "-p"], "--passphrase-file"),
    "passphrase asked and from a file":
        (["encrypt", "{ct}", "-p", "--passphrase-file", "{keys}/passphrase"], "passphrase"),
    "empty output": (["encrypt", "{ct}", "-r", "{keys}/doctor.pub", "-o", ""], "output"),
    "empty key name": (["keygen", "-o", ""], ""),
    "key name without a name": (["keygen", "-o", "/"], ""),
    "key name of the recipient": (["keygen", "-o", "{here}/x.pub"], ".pub"),
    "folder without output": (["encrypt", "{here}", "-r", "{keys}/doctor.pub"], "--output"),
    "folder among files without output":
        (["encrypt", "{here}/sub", "{ct}", "-r", "{keys}/doctor.pub"], "--output"),
    "object without the ending": (["decrypt", "{ct}", "-i", "{keys}/doctor.key"], "--output"),
    "unknown option": (["encrypt", "{ct}", "--nothing"], "--nothing"),
    "unknown method": (["encrypt", "{ct}", "--method", "rot13"], "rot13"),
    "jobs of zero": (["encrypt", "{ct}", "-j", "0"], "jobs"),
    "passphrase file is missing": (["decrypt", "{ct}", "--passphrase-file", "{here}/no"], "no"),
    "data and passphrase from one pipe":
        (["encrypt", "-", "--passphrase-file", "-", "-o", "{here}/out"], "standard input"),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_gives_2(case, tmp_path, keys, dicom, call, snapshot):
    shutil.copyfile(dicom, tmp_path / "ct")
    (tmp_path / "sub").mkdir()
    before = snapshot(tmp_path)
    words, said = USAGE[case]
    done = call(*(w.format(ct=tmp_path / "ct", keys=keys, here=tmp_path) for w in words))
    assert done.status == 2
    assert said in done.err
    assert snapshot(tmp_path) == before


def test_two_passphrases_for_one_object_are_refused():
    with pytest.raises(dc.UsageError, match="one passphrase"):
        dc.encrypt(b"", [dc.Passphrase("one"), dc.Passphrase("two")])


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_scopes_of_a_file_without_tags_are_refused(tmp_path, keys, command, way):
    (tmp_path / "text").write_text("not DICOM")
    source = {"file": tmp_path / "text", "pipe": "-"}[way]
    done = command("encrypt", source, "-r", keys / "doctor.pub", "--tags-to", keys / "index.pub",
                   "-o", tmp_path / "out", input=b"not DICOM")
    assert done.returncode == 2
    assert b"--force-scopes" in done.stderr
    nothing_new(tmp_path, "text")


# ---- damage -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["1", "71", "500", "2500", "-1", "-96", "-97", "half"])
def test_a_cut_object_gives_4(safe, keys, call, place):
    size = safe.stat().st_size
    at = size // 2 if place == "half" else int(place) % size
    os.truncate(safe, at)
    for verb, more in (("decrypt", ["-o", safe.parent / "out"]), ("verify", [])):
        assert call(verb, safe, "-i", keys / "doctor.key", *more).status == 4
    nothing_new(safe.parent, "ct.dcmx")


@pytest.mark.parametrize("place", [0, 8, 9, 10, 20, 40, 65, 80, 0.3, 0.6, 0.95, -30, -1])
def test_a_flipped_bit_gives_4(safe, keys, call, place):
    data = bytearray(safe.read_bytes())
    data[int(place * len(data)) if isinstance(place, float) else place] ^= 4
    safe.write_bytes(data)
    for verb, more in (("decrypt", ["-o", safe.parent / "out"]), ("verify", [])):
        assert call(verb, safe, "-i", keys / "doctor.key", *more).status == 4
    nothing_new(safe.parent, "ct.dcmx")


def test_what_is_no_object_gives_4_under_its_name(tmp_path, keys, call, dicom):
    (tmp_path / "garbage.dcmx").write_bytes(os.urandom(5000))
    (tmp_path / "empty.dcmx").write_bytes(b"")
    shutil.copyfile(dicom, tmp_path / "ct.dcmx")
    names = ("garbage.dcmx", "empty.dcmx", "ct.dcmx")
    for name in names:
        done = call("decrypt", tmp_path / name, "-i", keys / "doctor.key")
        assert done.status == 4
        assert name in done.err
    done = call("decrypt", tmp_path, "-i", keys / "doctor.key", "-o", tmp_path / "out", "-j", "1")
    assert done.status == 4
    nothing_new(tmp_path, "out", *names)
    nothing_new(tmp_path / "out")


def test_a_tree_ends_with_its_common_cause_or_with_1(tmp_path, keys, call, forge, dicom):
    tree = tmp_path / "tree"
    tree.mkdir()
    forge(tree, file=b"fine.dcmx")
    (tree / "garbage.dcmx").write_bytes(b"garbage")
    for verb, more in (("verify", []), ("decrypt", ["-o", tmp_path / "a"])):
        assert call(verb, tree, "-i", keys / "doctor.key", "-j", "1", *more).status == 4
    dc.encrypt_file(dicom, tree / "foreign.dcmx", dc.load_recipients(keys / "other.pub"))
    for verb, more in (("verify", []), ("decrypt", ["-o", tmp_path / "b"])):
        done = call(verb, tree, "-i", keys / "doctor.key", "-j", "1", *more)
        assert done.status == 1
        assert "garbage.dcmx" in done.err
        assert "foreign.dcmx" in done.err
    assert os.listdir(tmp_path / "b") == ["fine"]
    os.unlink(tree / "garbage.dcmx")
    assert call("verify", tree, "-i", keys / "doctor.key", "-j", "1").status == 3


# ---- outputs ------------------------------------------------------------------


def test_what_exists_is_kept_unless_forced(tmp_path, keys, call, dicom):
    source = tmp_path / "ct"
    shutil.copyfile(dicom, source)
    (tmp_path / "ct.dcmx").write_text("precious")
    done = call("encrypt", source, "-r", keys / "doctor.pub")
    assert done.status == 1
    assert "--force" in done.err
    assert (tmp_path / "ct.dcmx").read_text() == "precious"
    assert call("encrypt", source, "-r", keys / "doctor.pub", "--force").status == 0
    done = call("decrypt", tmp_path / "ct.dcmx", "-i", keys / "doctor.key")
    assert done.status == 1
    source.write_text("older")
    assert call("decrypt", tmp_path / "ct.dcmx", "-i", keys / "doctor.key", "-f").status == 0
    assert source.read_bytes() == dicom.read_bytes()
    nothing_new(tmp_path, "ct", "ct.dcmx")


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_force_does_not_replace_what_is_no_file(tmp_path, safe, keys, dicom, call, verb):
    """As root, -o /dev/null --force would take the device away."""
    os.mkfifo(tmp_path / "device")
    arguments = (["encrypt", dicom, "-r", keys / "doctor.pub"] if verb == "encrypt" else
                 ["decrypt", safe, "-i", keys / "doctor.key"])
    done = call(*arguments, "-o", tmp_path / "device", "--force")
    assert stat.S_ISFIFO(os.lstat(tmp_path / "device").st_mode)
    assert done.status in (1, 2)


def test_force_does_not_encrypt_a_file_onto_itself(tmp_path, keys, dicom, call):
    shutil.copyfile(dicom, tmp_path / "ct")
    done = call("encrypt", tmp_path / "ct", "-r", keys / "doctor.pub", "-o", tmp_path / "ct", "-f")
    assert (tmp_path / "ct").read_bytes() == dicom.read_bytes()  # "Originals stay as they are"
    assert done.status == 2


PIPE = ('cat "$3" | "$0" -m dicomcrypt encrypt - -r "$1" | "$0" -m dicomcrypt decrypt - -i "$2" '
        '-o - | cmp - "$3"')


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_pipes_carry_both_directions(tmp_path, keys, dicom, command, unbuffered):
    words = ["bash", "-o", "pipefail", "-c", PIPE, sys.executable, keys / "doctor.pub",
             keys / "doctor.key", dicom]
    done = subprocess.run(words, check=False, capture_output=True, timeout=100,
                          env={**command.environment(), "PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


def test_a_closed_standard_input_or_output_is_an_error_of_one_line(tmp_path, keys, command):
    for redirect, word in (("<&-", "-"), (">&-", keys / "doctor.pub")):
        line = f'exec "$0" -m dicomcrypt encrypt "$2" -r "$1" -o - {redirect}'
        done = subprocess.run(
            ["bash", "-c", line, sys.executable, keys / "doctor.pub", word], check=False,
            capture_output=True, env=command.environment(), timeout=100,
        )  # fmt: skip
        assert done.returncode in (1, 2)
        assert b"Traceback" not in done.stderr


def test_a_cut_pipe_gives_4(safe, keys, command):
    done = command("decrypt", "-", "-i", keys / "doctor.key", input=safe.read_bytes()[:-1000])
    assert done.returncode == 4
    assert done.stdout == b""


def test_a_reader_that_goes_away_gives_no_traceback(tmp_path, keys, command, forge):
    path = os.fsdecode(forge(tmp_path, os.urandom(1 << 20)))
    line = '"$0" -m dicomcrypt decrypt "$2" -i "$1" -o - | head -c 1 > /dev/null'
    done = subprocess.run(["bash", "-c", line, sys.executable, keys / "doctor.key", path],
                          check=False, capture_output=True, env=command.environment(), timeout=100)
    assert done.stderr == b""


def test_a_full_device_gives_1(dicom, keys, command):
    with open("/dev/full", "wb") as full:
        done = command("encrypt", dicom, "-r", keys / "doctor.pub", "-o", "-", stdout=full,
                       capture_output=False, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"no space left" in done.stderr


@contextlib.contextmanager
def small_disk(folder):
    mount = need("mount", "mount")
    folder.mkdir()
    words = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_gives_1_and_is_not_left_fuller(tmp_path, keys, command, forge):
    (tmp_path / "big").write_bytes(os.urandom(1 << 18))
    big = os.fsdecode(forge(tmp_path, os.urandom(1 << 18), file=b"big.dcmx"))
    with small_disk(tmp_path / "disk") as disk:
        for words in (["encrypt", tmp_path / "big", "-r", keys / "doctor.pub"],
                      ["decrypt", big, "-i", keys / "doctor.key"]):
            done = command(*words, "-o", disk / "out")
            assert done.returncode == 1
            assert b"no space left" in done.stderr
            nothing_new(disk)


def test_a_missing_or_read_only_output_folder_gives_1_and_names_it(tmp_path, keys, dicom, call):
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", tmp_path / "No" / "x.dcmx")
    assert done.status == 1
    assert f": there is no folder '{tmp_path / 'No'}': make it first\n" in done.err
    assert ".part" not in done.err
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", "/proc/x.dcmx")
    assert done.status == 1
    assert "cannot write into folder '/proc': " in done.err
    nothing_new(tmp_path)


@pytest.mark.parametrize("words", [
    ["decrypt", "{safe}", "-i", "{keys}/doctor.key", "-o"],
    ["frame", "{safe}", "-i", "{keys}/doctor.key", "-n", "0", "-o"],
    ["inspect", "{safe}", "-i", "{keys}/doctor.key", "--plot"],
    ["keygen", "-o"],
    ["standard", "wrap", "{dicom}", "--passphrase-file", "{keys}/passphrase", "-o"],
])
def test_an_output_without_folder_is_named_by_every_command(
    safe, keys, dicom, call, need_module, words
):
    if "--plot" in words:
        need_module("matplotlib", "plot")
    words = [word.format(safe=safe, keys=keys, dicom=dicom) for word in words]
    no_folder = safe.parent / "No"
    done = call(*words, no_folder / "x.png")
    assert done.status == 1
    assert f"there is no folder '{no_folder}': make it first\n" in done.err
    done = call(*words, safe / "x.png")
    assert done.status == 1
    assert f"'{safe}' is no folder: nothing can be written into it\n" in done.err
    assert ".part" not in done.err
    nothing_new(safe.parent, "ct.dcmx")


def test_a_file_where_a_folder_should_be_gives_1_in_json_too(tmp_path, keys, call):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").write_text("a file")
    done = call("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "out",
                "--json")
    assert done.status == 1
    assert '"exit_status": 130' not in done.out


# ---- secrets --------------------------------------------------------------------


def test_key_files_are_private_whatever_the_umask(tmp_path, keys, command):
    for more in ([], ["--passphrase-file", keys / "passphrase"], ["--type", "x25519"]):
        old = os.umask(0)
        try:
            done = command("keygen", "-o", tmp_path / "my.key", "-f", *more)
        finally:
            os.umask(old)
        assert done.returncode == 0
        assert stat.S_IMODE((tmp_path / "my.key").stat().st_mode) == 0o600
    nothing_new(tmp_path, "my.key", "my.pub")


def test_no_output_shows_a_secret(tmp_path, keys, call, safe):
    secret = (keys / "doctor.key").read_text().split(":")[-1].strip()
    broken = tmp_path / "broken.key"
    broken.write_text((keys / "doctor.key").read_text().replace(secret[5:9], "AAAA"))
    done = [
        call("keygen", "-o", tmp_path / "my.key", "--json"),
        call("decrypt", safe, "-i", keys / "doctor.key", "-o", tmp_path / "a", "--json"),
        call("decrypt", safe, "-i", broken, "-o", tmp_path / "b"),
        call("encrypt", safe, "-r", keys / "doctor.key", "-o", tmp_path / "c"),
        call("inspect", safe, "-i", keys / "doctor.key", "--json"),
        call("decrypt", safe, "--passphrase-file", keys / "wrong", "-o", tmp_path / "d", "-v"),
    ]
    made = (tmp_path / "my.key").read_text().split(":")[-1].strip()
    for result in done:
        shown = result.out + result.err
        for word in (secret[:20], secret[20:], made, "another passphrase"):
            assert word not in shown
