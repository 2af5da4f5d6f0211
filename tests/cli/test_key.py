"""`dicomcrypt key`: recovery shares and key tables, as somebody at a terminal uses them."""

import json
import os
import pty
import re
import stat
import subprocess
from pathlib import Path

import pytest

import dicomcrypt as dc
from dicomcrypt.keys import Passphrase

LOGIN = ("--login", "anna")


@pytest.fixture(autouse=True)
def libraries(need_module):
    need_module("shamir_mnemonic", "recovery")
    need_module("pysequoia", "openpgp")


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Passphrases that cost little."""
    monkeypatch.setitem(Passphrase.__init__.__kwdefaults__, "memory_kib", 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Passphrases by name, one file each."""
    folder = tmp_path_factory.mktemp("words")
    for name in ("anna", "bob", "wrong", "message"):
        (folder / name).write_text(f"the passphrase of {name}\n")
    return folder


@pytest.fixture
def opened(files):
    return (*LOGIN, "--passphrase-file", files / "anna")


@pytest.fixture
def table(tmp_path, call, opened):
    done = call("key", "table", "create", tmp_path / "keys.db", *opened)
    assert done.status == 0, done.err
    return tmp_path / "keys.db"


@pytest.fixture
def shares(tmp_path, call, keys):
    done = call("key", "split", keys / "doctor.key", "--threshold", "3", "--shares", "5",
                "-o", tmp_path / "shares", "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)["shares"]


# ---- shares ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["doctor", "classical"])
def test_what_was_split_comes_back_to_the_byte(tmp_path, call, keys, name):
    folder = tmp_path / "shares"
    done = call("key", "split", keys / f"{name}.key", "--threshold", "2", "--shares", "3",
                "-o", folder)
    assert done.status == 0
    some = [folder / "share-3-of-3.txt", folder / "share-1-of-3.txt"]
    assert call("key", "combine", *some, "-o", tmp_path / "back.key").status == 0
    for suffix in ("key", "pub"):
        restored, was = tmp_path / f"back.{suffix}", keys / f"{name}.{suffix}"
        assert restored.read_bytes() == was.read_bytes()
    assert stat.S_IMODE((tmp_path / "back.key").stat().st_mode) == 0o600


def test_the_recovery_drill(tmp_path, call, keys, shares, dicom):
    assert call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", tmp_path / "ct.dcmx").status == 0
    assert call("key", "combine", *shares[1:4], "-o", tmp_path / "restored.key").status == 0
    done = call("decrypt", tmp_path / "ct.dcmx", "-i", tmp_path / "restored.key",
                "-o", tmp_path / "ct.dcm")
    assert done.status == 0
    assert (tmp_path / "ct.dcm").read_bytes() == dicom.read_bytes()


def test_shares_are_secret_files_without_secrets_in_their_names(tmp_path, shares, keys):
    folder = tmp_path / "shares"
    assert sorted(os.listdir(folder)) == sorted(
        f"share-{n}-of-5.{kind}" for n in range(1, 6) for kind in ("txt", "html")
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    words = []
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if path.suffix == ".txt":
            words.append(" ".join(
                line for line in path.read_text().splitlines() if not line.startswith("#")))
    for page in folder.glob("*.html"):
        text = " ".join(re.findall("<li>([a-z]+)</li>", page.read_text()))
        assert sum(text == one for one in words) == 1


def test_shares_are_not_overwritten(tmp_path, call, keys, shares):
    again = ("key", "split", keys / "other.key", "--threshold", "3", "--shares", "5",
             "-o", tmp_path / "shares")
    before = [Path(path).read_text() for path in shares]
    done = call(*again)
    assert done.status == 1
    assert "exists" in done.err
    assert [Path(path).read_text() for path in shares] == before
    assert call(*again, "--force").status == 0


def test_words_are_typed_one_share_a_line(tmp_path, command, keys, shares):
    lines = [
        " ".join(line for line in Path(path).read_text().splitlines() if not line.startswith("#"))
        for path in shares[:3]
    ]
    typed = "\n\n".join(lines).encode() + b"\n"
    done = command("key", "combine", "-", "-o", tmp_path / "back.key", input=typed)
    assert done.returncode == 0
    assert b"compare the hint with the pages" in done.stderr
    assert (tmp_path / "back.key").read_bytes() == (keys / "doctor.key").read_bytes()
    assert dc.load_identities(keys / "doctor.key")[0].recipient.hint.hex().encode() in done.stderr
    wrong = typed.replace(b" ", b" zzyzx ", 1)
    done = command("key", "combine", "-", "-o", tmp_path / "no.key", input=wrong)
    assert done.returncode == 2
    assert b"line 1: word 2 is not in the list of words" in done.stderr
    assert b"zzyzx" not in done.stderr


def test_at_a_terminal_a_mistyped_share_is_asked_for_again(tmp_path, command, keys, shares):
    typed = [" ".join(Path(path).read_text().splitlines()[5:]) for path in shares[:3]]
    typed.insert(1, typed[1].replace(" ", " zzyzx ", 1))
    ours, theirs = pty.openpty()
    try:
        os.write(ours, "".join(line + "\n" for line in typed).encode())
        done = command("key", "combine", "-", "-o", tmp_path / "back.key", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert b"share 2 as typed: word 2 is not in the list" in done.stderr
    assert (tmp_path / "back.key").read_bytes() == (keys / "doctor.key").read_bytes()


@pytest.mark.parametrize(("case", "status", "message"), [
    ("few", 2, "2 of the 3 shares needed: 1 more is missing"),
    ("foreign", 2, "of different sets"),
    ("twice", 2, "are both share 1"),
    ("hint", 4, "not the one that was split"),
    ("page", 2, "the .txt file beside it is meant"),
    ("absent", 2, "cannot read share file"),
    ("name", 2, "must not end in .pub"),
])
def test_refusals_of_combine(tmp_path, call, keys, shares, case, status, message):
    given, output = shares[:3], "back.key"
    if case == "few":
        given = given[:2]
    elif case == "foreign":
        call("key", "split", keys / "other.key", "--threshold", "2", "--shares", "2",
             "-o", tmp_path / "foreign")
        given = [*given[:2], tmp_path / "foreign" / "share-1-of-2.txt"]
    elif case == "twice":
        (tmp_path / "copy.txt").write_text(Path(shares[0]).read_text())
        given = [*given[:2], tmp_path / "copy.txt"]
    elif case == "hint":
        text = Path(shares[0]).read_text()
        text = re.sub("identity [0-9a-f]{16}", "identity 0123456789abcdef", text)
        (tmp_path / "changed.txt").write_text(text)
        given = [*given[1:], tmp_path / "changed.txt"]
    elif case == "page":
        given = [given[0].replace(".txt", ".html")]
    elif case == "absent":
        given = [tmp_path / "absent"]
    else:
        output = "back.pub"
    done = call("key", "combine", *given, "-o", tmp_path / output)
    assert done.status == status
    assert message in done.err
    assert not (tmp_path / output).exists()


def test_a_sealed_identity_is_split_and_can_be_sealed_again(tmp_path, call, keys):
    sealed = ("--passphrase-file", keys / "passphrase")
    assert call("keygen", "-o", tmp_path / "sealed.key", *sealed).status == 0
    split = ("key", "split", tmp_path / "sealed.key", "--threshold", "2", "--shares", "2",
             "-o", tmp_path / "shares")
    assert call(*split, "--passphrase-file", keys / "wrong").status == 3
    assert not (tmp_path / "shares").exists()
    assert call(*split, *sealed).status == 0
    some = sorted((tmp_path / "shares").glob("*.txt"))
    assert call("key", "combine", *some, "-o", tmp_path / "back.key", *sealed).status == 0
    assert (tmp_path / "back.pub").read_bytes() == (tmp_path / "sealed.pub").read_bytes()
    assert not (tmp_path / "back.key").read_bytes().startswith(b"#")


def test_several_identities_are_not_split_together(tmp_path, call, keys):
    both = (keys / "doctor.key").read_text() + (keys / "other.key").read_text()
    (tmp_path / "both.key").write_text(both)
    done = call("key", "split", tmp_path / "both.key", "--threshold", "2", "--shares", "3",
                "-o", tmp_path / "shares")
    assert done.status == 2
    assert "one by one" in done.err


# ---- key tables --------------------------------------------------------------


def test_a_table_is_made_filled_and_listed(call, table, opened):
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    done = call("key", "table", "new", table, *opened, "--kind", "archive", "--label", "ward 3")
    key_id = done.out.strip()
    assert re.fullmatch("[0-9a-f]{32}", key_id)
    done = call("key", "table", "list", table, *opened, "--json")
    facts = json.loads(done.out)
    assert [(k["id"], k["kind"], k["label"]) for k in facts["keys"]] == [
        (key_id, "archive", "ward 3")
    ]
    assert [a["name"] for a in facts["accesses"]] == ["anna"]
    assert "ward 3" in call("key", "table", "list", table, *opened).out
    assert call("key", "table", "delete", table, key_id, *opened).status == 0
    assert call("key", "table", "delete", table, key_id, *opened).status == 2
    assert json.loads(call("key", "table", "list", table, *opened, "--json").out)["keys"] == []


def test_recipients_open_the_table_with_their_identity(tmp_path, call, keys):
    done = call("key", "table", "create", tmp_path / "t.db", "-r", keys / "doctor.pub",
                "-r", keys / "other.pub", "--json")
    facts = json.loads(done.out)
    assert facts["accesses"] == ["doctor", "other"]
    entry = ("key", "table", "list", tmp_path / "t.db", "-i", keys / "other.key")
    assert call(*entry, "--fingerprint", facts["fingerprint"]).status == 0
    assert call(*entry, "--fingerprint", "00" * 16).status == 4
    assert call("key", "table", "list", tmp_path / "t.db", "-i", keys / "index.key").status == 3


def test_passphrases_change_and_accesses_come_and_go(call, table, opened, files, keys):
    bob = ("--login", "bob", "--passphrase-file", files / "bob")
    assert call("key", "table", "list", table, *bob).status == 3
    grant = ("key", "table", "grant", table, "bob", *opened,
             "--new-passphrase-file", files / "bob")
    assert call(*grant).status == 0
    assert call(*grant).status == 2
    assert call(*grant, "--force").status == 0
    assert call("key", "table", "list", table, *bob).status == 0
    assert call("key", "table", "passwd", table, *bob,
                "--new-passphrase-file", files / "message").status == 0
    assert call("key", "table", "list", table, *bob).status == 3
    assert call("key", "table", "list", table, "--login", "bob",
                "--passphrase-file", files / "message").status == 0
    assert call("key", "table", "revoke", table, "bob", *opened).status == 0
    assert call("key", "table", "revoke", table, "bob", *opened).status == 2
    assert call("key", "table", "revoke", table, "anna", *opened).status == 2
    assert call("key", "table", "grant", table, "doctor", "-r", keys / "doctor.pub",
                *opened).status == 0
    assert call("key", "table", "list", table, "-i", keys / "doctor.key").status == 0


def test_guessing_is_slowed_down(call, table, opened, files):
    entry = ("key", "table", "list", table, *LOGIN, "--passphrase-file", files / "wrong")
    answers = [call(*entry) for _ in range(6)]
    assert {done.status for done in answers} == {3}
    assert "wrong login or password" in answers[0].err
    assert re.search(r"too many wrong passwords: wait \d s and try again", answers[5].err)


def test_an_export_opens_with_gpg_and_is_imported(tmp_path, call, table, opened, files,
                                                   need_command):
    ids = {call("key", "table", "new", table, *opened, "--kind", "a").out.strip() for _ in "12"}
    message = ("--message-passphrase-file", files / "message")
    out = tmp_path / "keys.pgp"
    assert call("key", "table", "export", table, *opened, *message, "-o", out).status == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert call("key", "table", "export", table, *opened, *message, "-o", out).status == 1
    home = tmp_path / "gpg"
    home.mkdir(0o700)
    gpg = need_command("gpg", "gnupg")
    done = subprocess.run(
        [gpg, "--homedir", home, "--batch", "--pinentry-mode", "loopback",
         "--passphrase-file", files / "message", "-d", out],
        capture_output=True, check=False,
    )  # fmt: skip
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    assert done.returncode == 0, done.stderr
    assert {key["id"] for key in json.loads(done.stdout)["keys"]} == ids
    assert call("key", "table", "create", tmp_path / "b.db", *opened).status == 0
    done = call("key", "table", "import", tmp_path / "b.db", out, *opened, *message, "--json")
    assert json.loads(done.out) == {"imported": 2, "known": 0}
    done = call("key", "table", "import", tmp_path / "b.db", out, *opened,
                "--message-passphrase-file", files / "wrong")
    assert (done.status, done.err) == (3, "dicomcrypt: wrong password for the OpenPGP message\n")


@pytest.mark.parametrize("words", [
    ["list", "{table}"],
    ["list", "{table}", "--login", "anna", "-i", "x"],
    ["create", "{table}"],
    ["create", "new.db", "--passphrase-file", "{anna}"],
    ["delete", "{table}", "zz", "--login", "anna", "--passphrase-file", "{anna}"],
    ["passwd", "{table}", "--login", "a", "--passphrase-file", "-", "--new-passphrase-file", "-"],
    ["export", "{table}", "-o", "x", "--certificate", "absent", "--login", "anna"],
    ["import", "{table}", "absent", "--login", "anna", "--passphrase-file", "{anna}"],
])
def test_wrong_usage(call, table, files, words):
    words = [word.format(table=table, anna=files / "anna") for word in words]
    done = call("key", "table", *words)
    assert done.status == 2, done.err
    assert done.err


@pytest.mark.parametrize("words", [
    [], ["split"], ["combine"], ["table"],
    *(["table", name] for name in ("create", "list", "new", "delete", "passwd", "grant", "revoke",
                                   "export", "import")),
])
def test_every_command_explains_itself_with_examples(call, words):
    done = call("key", *words, "--help")
    assert done.status == 0
    assert "Examples:" in done.out


@pytest.mark.parametrize("words", [("key", "table", "grant"), ("vault", "recipients", "add")])
def test_two_passphrases_do_not_both_come_from_standard_input(call, words):
    done = call(*words, "archive", "bob", "--login", "anna", "--passphrase-file", "-",
                "--new-passphrase-file", "-")
    assert done.status == 2
    assert "cannot give both passphrases" in done.err
