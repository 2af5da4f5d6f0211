"""GnuPG opens what a key table exports, and a key table takes what GnuPG makes."""

import base64
import json
import subprocess

import pytest

from dicomcrypt.errors import DamagedError, MissingExtraError, NoIdentityError, UsageError
from dicomcrypt.keys import Passphrase
from dicomcrypt.keytable import KeyTable, openpgp

PASSWORD = "a long p\u00e4ssword for the message"  # noqa: S105


@pytest.fixture(autouse=True)
def library(need_module):
    need_module("pysequoia", "openpgp")


@pytest.fixture
def table(tmp_path):
    with KeyTable.create(
        tmp_path / "keys.db", {"anna": Passphrase("x", memory_kib=64, passes=1, lanes=1)}
    ) as table:
        with table.transaction():
            for n in range(20):
                table.new_key("record", f"l\u00e4bel {n}" if n % 2 else None)
        yield table


@pytest.fixture
def empty(tmp_path):
    with KeyTable.create(
        tmp_path / "empty.db", {"anna": Passphrase("x", memory_kib=64, passes=1, lanes=1)}
    ) as table:
        yield table


@pytest.fixture
def gpg(need_command, tmp_path_factory):
    command = need_command("gpg", "gnupg")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    (home / "password").write_text(PASSWORD + "\n", encoding="utf-8")

    def run(*arguments, data=None, password=True):
        words = [command, "--homedir", home, "--batch", "--pinentry-mode", "loopback"]
        if password:
            words += ["--passphrase-file", home / "password"]
        return subprocess.run([*words, *arguments], input=data, capture_output=True, check=False,
                              timeout=100)

    yield run
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False,
                   capture_output=True)


def content(table):
    return {info.id: (info.kind, info.label, table.get(info.id)) for info in table.labels()}


@pytest.mark.parametrize("armor", [True, False])
def test_gnupg_opens_an_export(table, gpg, armor):
    message = table.export(password=PASSWORD, armor=armor)
    assert message.startswith(b"-----BEGIN PGP MESSAGE-----") is armor
    done = gpg("-d", data=message)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["format"] == "dicomcrypt-keytable-1"
    assert found["table"] == table.table_id.hex()
    assert content(table) == {
        bytes.fromhex(k["id"]): (k["kind"], k["label"], base64.b64decode(k["key"]))
        for k in found["keys"]
    }


def test_an_export_is_imported_once(table, empty):
    message = table.export(password=PASSWORD)
    assert empty.import_(message, password=PASSWORD) == (20, 0)
    assert content(empty) == content(table)
    assert empty.import_(message, password=PASSWORD) == (0, 20)
    assert empty.check() == 20


@pytest.mark.parametrize("options", [[], ["--armor"], ["--compress-algo", "zlib"]])
def test_what_gnupg_made_is_imported(table, empty, gpg, options):
    text = openpgp.to_json(table.table_id, table._entries())
    done = gpg("-c", *options, data=text)
    assert done.returncode == 0, done.stderr
    assert empty.import_(done.stdout, password=PASSWORD) == (20, 0)
    assert content(empty) == content(table)


def test_for_a_certificate_of_gnupg(table, empty, gpg):
    name = "Office <office@example.org>"
    made = gpg("--quick-gen-key", name, "future-default", "default", "never")
    assert made.returncode == 0, made.stderr
    certificate = gpg("--export", "--armor").stdout
    message = table.export(certificates=[certificate])
    done = gpg("-d", data=message)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["keys"]) == 20
    secret = gpg("--export-secret-keys", "--armor").stdout
    assert empty.import_(message, password=PASSWORD, key=secret) == (20, 0)
    with pytest.raises(NoIdentityError):
        empty.import_(message, password="another", key=secret)  # noqa: S106
    with pytest.raises(UsageError, match="no OpenPGP secret key"):
        empty.import_(message, password=PASSWORD, key=b"none")


def test_a_wrong_password_is_an_answer_in_one_line(table, empty):
    message = table.export(password=PASSWORD)
    with pytest.raises(NoIdentityError, match=r"^wrong password for the OpenPGP message$"):
        empty.import_(message, password="another")  # noqa: S106
    assert empty.check() == 0


def test_changed_and_cut_messages_are_refused_in_one_line(table, empty):
    message = table.export(password=PASSWORD, armor=False)
    refused = (DamagedError, NoIdentityError, UsageError)
    for length in [*range(0, 200, 19), len(message) // 2, len(message) - 1]:
        with pytest.raises(refused) as raised:
            empty.import_(message[:length], password=PASSWORD)
        assert "\n" not in str(raised.value)
    for at in [*range(0, 60, 7), len(message) // 2, len(message) - 1]:
        changed = message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]
        with pytest.raises(refused) as raised:
            empty.import_(changed, password=PASSWORD)
        assert "\n" not in str(raised.value)
    assert empty.check() == 0


GOOD = {"id": "00" * 16, "kind": "a", "label": None, "key": base64.b64encode(bytes(32)).decode()}


@pytest.mark.parametrize("text", [
    b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"format": "other", "keys": []}',
    *(json.dumps({"format": openpgp.FORMAT, "keys": keys}).encode() for keys in (
        None, 5, [5], [{}], [{**GOOD, "id": "00"}], [{**GOOD, "id": 5}], [{**GOOD, "key": "AA=="}],
        [{**GOOD, "key": "*" * 44}], [{**GOOD, "kind": 1}], [{**GOOD, "kind": "No Kind"}],
        [{**GOOD, "label": 1}], [{**GOOD, "label": "x" * 2000}], [{**GOOD, "label": "\ud800"}],
        [GOOD, GOOD], [GOOD, {**GOOD, "id": "zz" * 16}],
    )),
])
def test_messages_with_other_content_import_nothing(empty, text):
    message = openpgp.encrypt(text, password="x", certificates=(), armor=False)  # noqa: S106
    with pytest.raises(UsageError):
        empty.import_(message, password="x")  # noqa: S106
    assert empty.check() == 0


def test_an_id_that_is_another_key_here_stops_the_whole_import(table, empty):
    entries = [(info, table.get(info.id)) for info in table.labels()]
    info, _ = entries[-1]
    empty.import_(table.export(password="x"), password="x")  # noqa: S106
    for entry_id, _ in entries[:-1]:
        empty.delete(entry_id.id)
    entries[-1] = (info, bytes(32))
    text = openpgp.to_json(table.table_id, entries)
    message = openpgp.encrypt(text, password="x", certificates=(), armor=True)  # noqa: S106
    with pytest.raises(UsageError, match="nothing imported"):
        empty.import_(message, password="x")  # noqa: S106
    assert empty.check() == 1


def test_exports_want_one_way_to_open_them(table):
    for how in ({}, {"password": "x", "certificates": [b"x"]}, {"certificates": [b"none"]}):
        with pytest.raises(UsageError):
            table.export(**how)
    with pytest.raises(UsageError):
        table.import_(b"x")


def test_a_missing_library_is_named(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pysequoia", None)
    with pytest.raises(MissingExtraError, match=r"dicomcrypt\[openpgp\]"):
        table.export(password="x")  # noqa: S106
