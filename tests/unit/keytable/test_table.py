"""A key table: what it stores, who unlocks it, and what it notices."""

import copy
import os
import pathlib
import pickle
import re
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt.container.stanza import parse_stanzas
from dicomcrypt.errors import (
    DamagedError,
    JobBusyError,
    NoIdentityError,
    OutputExistsError,
    PolicyError,
    UnknownKeyError,
    UsageError,
)
from dicomcrypt.keys import HybridIdentity, Passphrase, X25519Identity
from dicomcrypt.keys.keyfile import recipient_text
from dicomcrypt.keytable import KeyTable, SqliteStore

LOGIN, PASSWORD = "anna", "corr\u00e8ct horse"


def cheap(text):
    return Passphrase(text, memory_kib=64, passes=1, lanes=1)


@pytest.fixture(scope="module")
def backup():
    return HybridIdentity.generate()


@pytest.fixture
def path(tmp_path, backup):
    """A table with ten entries and a document, locked."""
    access = {LOGIN: cheap(PASSWORD), "backup": backup.recipient}
    with KeyTable.create(tmp_path / "keys.db", access) as table:
        with table.transaction():
            for n in range(10):
                table.new_key("record", f"label {n}")
        table.put_document("policy", b"the first")
    return tmp_path / "keys.db"


@pytest.fixture
def table(path):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        yield table


def change(path, statement, *values):
    """What somebody does who may write to the file and has no key."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def rows(path, space):
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT key, value FROM {space} ORDER BY key").fetchall()  # noqa: S608
    connection.close()
    return found


# ---- keys --------------------------------------------------------------------


def test_a_new_key_is_there_after_unlocking_again(path, backup):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        key_id, key = table.new_key("archive", "ward 3")
        assert len(key_id) == 16
        assert len(key) == 32
        assert table.get(key_id) == key
    with KeyTable(path).unlock(identities=[X25519Identity.generate(), backup]) as table:
        assert table.get(key_id, "archive") == key
        assert table.info(key_id)[1:3] == ("archive", "ward 3")
        assert table.check() == 11


def test_every_key_is_another_one(table):
    with table.transaction():
        made = [table.new_key("record") for _ in range(200)]
    assert len({key for _, key in made}) == len({key_id for key_id, _ in made}) == 200


def test_a_key_asked_for_as_another_kind_is_refused(table):
    key_id, _ = table.new_key("record")
    with pytest.raises(UnknownKeyError, match="of kind 'record', not 'archive'"):
        table.get(key_id, "archive")


def test_a_deleted_key_is_gone_from_the_file(path):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        key_id, _ = table.new_key("record", "to go")
        sealed = dict(rows(path, "entries"))[key_id]
        assert sealed in path.read_bytes()
        table.delete(key_id)
        with pytest.raises(UnknownKeyError):
            table.get(key_id)
        with pytest.raises(UnknownKeyError):
            table.delete(key_id)
    assert sealed not in path.read_bytes()
    assert sealed[20:40] not in path.read_bytes()
    assert os.listdir(path.parent) == ["keys.db"]


def test_labels_and_keys_are_not_in_the_file(path, table):
    _, key = table.new_key("record", "Mustermann^Max")
    data = path.read_bytes()
    assert key not in data
    assert b"Mustermann" not in data
    assert b"label 3" not in data
    assert b"the first" not in data


def test_a_transaction_that_fails_stores_nothing(table):
    before = table.check()

    def fail():
        with table.transaction():
            table.new_key("record")
            table.put_document("policy", b"the second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert table.check() == before
    assert table.get_document("policy") == b"the first"


@pytest.mark.parametrize(("kind", "label"), [
    ("", None), ("Upper", None), ("x" * 33, None), ("a b", None), ("a", "x" * 1025),
    ("a", "\ud800"), ("a\n", None),
])
def test_kinds_and_labels_have_limits(table, kind, label):
    with pytest.raises(UsageError):
        table.new_key(kind, label)
    assert table.check() == 10


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("nd"), st.integers(0, 50)), max_size=25))
def test_any_order_of_changes_leaves_a_table_that_checks(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("table") / "keys.db"
    model = {}
    with KeyTable.create(path, {LOGIN: cheap("x")}) as table:
        for what, number in steps:
            if what == "n":
                key_id, model_key = table.new_key("k", str(number))
                model[key_id] = model_key
            elif model:
                gone = sorted(model)[number % len(model)]
                del model[gone]
                table.delete(gone)
    with KeyTable(path).unlock(LOGIN, "x") as table:
        assert table.check() == len(model)
        assert {info.id: table.get(info.id) for info in table.labels()} == model


# ---- documents ---------------------------------------------------------------


def test_documents_come_back_and_go(table):
    assert table.get_document("policy") == b"the first"
    assert table.get_document("absent") is None
    table.put_document("policy", b"the second")
    assert table.get_document("policy") == b"the second"
    table.put_document("empty", b"")
    assert table.get_document("empty") == b""
    assert table.documents() == ["empty", "policy"]
    table.delete_document("empty")
    with pytest.raises(UnknownKeyError):
        table.delete_document("empty")
    for name, data in (("Upper", b""), ("", b""), ("large", bytes((1 << 20) + 1))):
        with pytest.raises(UsageError):
            table.put_document(name, data)


def test_an_older_document_put_back_is_noticed(path, table):
    old = rows(path, "documents")[0][1]
    table.put_document("policy", b"the second, stricter")
    change(path, "UPDATE documents SET value = ?", old)
    with pytest.raises(DamagedError, match="put back"):
        table.get_document("policy")
    with pytest.raises(DamagedError, match="put back"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


# ---- locked ------------------------------------------------------------------


def test_a_locked_table_gives_and_takes_nothing(path):
    locked = KeyTable(path)
    assert [name for name in dir(locked) if not name.startswith("_")] == ["create", "unlock"]


def test_a_closed_table_gives_nothing_and_its_key_is_wiped(path):
    table = KeyTable(path).unlock(LOGIN, PASSWORD)
    key_id, _ = table.new_key("record")
    secret = table._seals._key
    assert any(secret)
    table.close()
    table.close()
    assert not any(secret)
    for use in (lambda: table.get(key_id), lambda: table.new_key("record"), table.check,
                lambda: list(table.labels()), lambda: table.fingerprint, table.documents,
                lambda: table.grant("x", cheap("x")), lambda: table.export()):
        with pytest.raises(UsageError, match="locked"):
            use()


def test_an_unlocked_table_does_not_travel(table):
    for travel in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            travel(table)
    assert PASSWORD not in repr(table)


def test_after_a_fork_it_has_to_be_unlocked_again(table, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(UsageError, match="another process"):
        table.new_key("record")


@pytest.mark.parametrize("how", [
    {}, {"login": "anna"}, {"password": "x"},
    {"login": "anna", "password": "x", "identities": [X25519Identity.generate()]},
])
def test_unlocking_wants_a_login_and_password_or_an_identity(path, how):
    with pytest.raises(UsageError, match="by login and password, or by an identity"):
        KeyTable(path).unlock(**how)


def test_identities_that_have_no_access_do_not_unlock(path):
    with pytest.raises(NoIdentityError, match="no identity fits"):
        KeyTable(path).unlock(identities=[HybridIdentity.generate(), cheap(PASSWORD)])


# ---- accesses ----------------------------------------------------------------


def test_a_password_changes_without_touching_the_rest(path):
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        before = {space: rows(path, space) for space in ("entries", "documents")}
        fingerprint = table.fingerprint
        with pytest.raises(NoIdentityError):
            table.change_password(LOGIN, "not it", cheap("new"))
        table.change_password(LOGIN, PASSWORD, cheap("new"))
    assert {space: rows(path, space) for space in before} == before
    with pytest.raises(NoIdentityError):
        KeyTable(path).unlock(LOGIN, PASSWORD)
    with KeyTable(path).unlock(LOGIN, "new") as table:
        assert table.fingerprint == fingerprint
        assert table.check() == 10


def test_granting_and_revoking(path, table, backup):
    other = X25519Identity.generate()
    table.grant("other", other.recipient)
    with pytest.raises(UsageError, match="already"):
        table.grant("other", cheap("x"))
    KeyTable(path).unlock(identities=[other]).close()
    assert set(table.accesses()) == {LOGIN, "backup", "other"}
    table.revoke("other")
    with pytest.raises(NoIdentityError):
        KeyTable(path).unlock(identities=[other])
    with pytest.raises(UnknownKeyError):
        table.revoke("other")
    table.revoke(LOGIN)
    with pytest.raises(UsageError, match="last access"):
        table.revoke("backup")
    KeyTable(path).unlock(identities=[backup]).close()


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\x1b[0m", "\ud800"])
def test_names_have_limits(table, name):
    with pytest.raises(UsageError, match="a name is"):
        table.grant(name, cheap("x"))


def test_a_name_is_the_same_in_any_normal_form(path, table):
    table.grant("Ren\u00e9", cheap("pass"))
    KeyTable(path).unlock("Rene\u0301", "pass").close()


def test_a_revoked_access_put_back_is_noticed(path):
    old = dict(rows(path, "access"))
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        table.revoke("backup")
    change(path, "INSERT INTO access VALUES (?, ?)", b"backup", old[b"backup"])
    with pytest.raises(DamagedError, match="put back"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_an_access_fits_no_other_table_and_no_other_name(path, tmp_path, backup):
    other = tmp_path / "other.db"
    KeyTable.create(other, {LOGIN: cheap(PASSWORD), "backup": backup.recipient}).close()
    for name, value in rows(path, "access"):
        change(other, "UPDATE access SET value = ? WHERE key = ?", value, name)
    with pytest.raises(NoIdentityError):
        KeyTable(other).unlock(LOGIN, PASSWORD)
    with pytest.raises(NoIdentityError):
        KeyTable(other).unlock(identities=[backup])
    change(path, "UPDATE access SET key = ? WHERE key = ?", b"carl", b"backup")
    with pytest.raises(NoIdentityError):
        KeyTable(path).unlock(identities=[backup])


def test_the_stanza_of_a_table_has_a_scope_that_no_object_has(path):
    assert {parse_stanzas(value, 1)[0].scope for _, value in rows(path, "access")} == {5}


def test_another_table_for_the_same_identity_is_told_by_its_fingerprint(path, tmp_path, backup):
    with KeyTable(path).unlock(identities=[backup]) as table:
        fingerprint = table.fingerprint
    KeyTable(path).unlock(identities=[backup], fingerprint=fingerprint.upper()).close()
    KeyTable.create(tmp_path / "theirs.db", {"backup": backup.recipient}).close()
    os.replace(tmp_path / "theirs.db", path)
    with pytest.raises(DamagedError, match="another one"):
        KeyTable(path).unlock(identities=[backup], fingerprint=fingerprint)


def test_the_python_of_the_specification_runs(tmp_path, backup, monkeypatch):
    text = (pathlib.Path(__file__).parents[3] / "docs" / "keytable.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "backup.pub").write_text(recipient_text(backup.recipient))
    monkeypatch.chdir(tmp_path)
    exec(block, {})  # noqa: S102
    with KeyTable("keys.db").unlock(identities=[backup]) as table:
        assert table.check() == 1001


# ---- changed by others -------------------------------------------------------


def test_any_changed_byte_of_an_entry_is_noticed(path, table):
    key_id, value = rows(path, "entries")[3]
    for at in range(len(value)):
        changed = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        change(path, "UPDATE entries SET value = ? WHERE key = ?", changed, key_id)
        with pytest.raises(DamagedError, match=key_id.hex()):
            table.get(key_id)
    for length in range(len(value)):
        change(path, "UPDATE entries SET value = ? WHERE key = ?", value[:length], key_id)
        with pytest.raises(DamagedError, match=key_id.hex()):
            table.get(key_id)
    with pytest.raises(DamagedError, match=key_id.hex()):
        table.check()


def test_any_changed_byte_of_the_head_is_noticed(path):
    ((_, value),) = rows(path, "head")
    for at in range(0, len(value), 5):
        changed = value[:at] + bytes((value[at] ^ 128,)) + value[at + 1 :]
        change(path, "UPDATE head SET value = ?", changed)
        with pytest.raises((DamagedError, NoIdentityError)):  # the id is bound to the password
            KeyTable(path).unlock(LOGIN, PASSWORD)
        change(path, "DELETE FROM attempts")
    change(path, "DELETE FROM head")
    with pytest.raises(DamagedError, match="no head"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_rows_that_are_swapped_removed_or_added_are_noticed(path, tmp_path):
    entries = rows(path, "entries")
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        change(path, "UPDATE entries SET value = ? WHERE key = ?", entries[0][1], entries[1][0])
        with pytest.raises(DamagedError):
            table.get(entries[1][0])
    change(path, "DELETE FROM entries WHERE key = ?", entries[1][0])
    with pytest.raises(DamagedError, match="9 of its 10 entries"):
        KeyTable(path).unlock(LOGIN, PASSWORD)
    for key_id in (entries[1][0], os.urandom(16)):
        change(path, "INSERT INTO entries VALUES (?, ?)", key_id, entries[1][1])
    with pytest.raises(DamagedError, match="11 of its 10 entries"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_an_older_copy_is_noticed_while_the_newer_one_is_unlocked(path, tmp_path):
    head = rows(path, "head")[0][1]
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        counter = table.counter
        table.new_key("record")
        assert table.counter == counter + 1
        change(path, "UPDATE head SET value = ?", head)
        with pytest.raises(DamagedError, match="older copy"):
            table.new_key("record")


def test_a_damaged_table_can_be_read_as_far_as_it_goes_and_not_written(path):
    key_id, value = rows(path, "entries")[0]
    changed = value[:-1] + bytes((value[-1] ^ 1,))
    change(path, "UPDATE entries SET value = ? WHERE key = ?", changed, key_id)
    change(path, "DELETE FROM entries WHERE key = ?", rows(path, "entries")[1][0])
    with pytest.raises(DamagedError):
        KeyTable(path).unlock(LOGIN, PASSWORD)
    with KeyTable(path).unlock(LOGIN, PASSWORD, strict=False) as table:
        assert len(list(table.labels())) == 8
        assert table.damaged == {key_id}
        assert table.get_document("policy") == b"the first"
        with pytest.raises(UsageError, match="only reading"):
            table.new_key("record")


@pytest.mark.parametrize("statement", [
    "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM access; END",
    "CREATE TABLE more (a)",
    "CREATE VIEW v AS SELECT * FROM entries",
    "DROP TABLE documents",
    "CREATE INDEX i ON entries (value)",
])
def test_a_file_with_another_schema_is_refused(path, statement):
    change(path, statement)
    with pytest.raises(DamagedError, match="something else than a key table"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_what_is_no_key_table_is_refused(path, tmp_path):
    (tmp_path / "text").write_text("hello")
    change(tmp_path / "other.sqlite", "CREATE TABLE a (b)")
    for name in ("text", "other.sqlite"):
        with pytest.raises(UsageError, match="no key table"):
            KeyTable(tmp_path / name).unlock(LOGIN, PASSWORD)
    with pytest.raises(UsageError, match="cannot read"):
        KeyTable(tmp_path / "absent").unlock(LOGIN, PASSWORD)
    change(path, "PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="version 2"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_pages_that_are_cut_or_scrambled_are_an_error_and_not_a_crash(path):
    data = path.read_bytes()
    cut = [data[:size] for size in range(100, len(data), 1700)]
    scrambled = [
        data[:at] + os.urandom(40) + data[at + 40 :] for at in range(100, len(data), 613)
    ]
    refused = 0
    for content in cut + scrambled:
        path.write_bytes(content)
        try:
            with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
                assert table.check() == 10  # what was hit was free room
        except (DamagedError, NoIdentityError, UsageError):
            refused += 1
    assert refused > 10


def test_a_key_derivation_beyond_the_limits_is_refused_before_it_costs(path):
    value = dict(rows(path, "access"))[LOGIN.encode()]
    changed = value[:12] + struct.pack("<IBB", 1 << 30, 16, 1) + value[18:]
    change(path, "UPDATE access SET value = ? WHERE key = ?", changed, LOGIN.encode())
    with pytest.raises(DamagedError, match="beyond its limits"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


# ---- files, processes, threads -----------------------------------------------


def test_the_file_is_for_its_owner_alone_and_never_overwritten(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        KeyTable.create(path, {LOGIN: cheap("x")})
    assert path.read_bytes() == before


def test_a_table_that_cannot_be_made_leaves_nothing(tmp_path):
    class Refused:
        def wrap(self, key, scope, binding):
            raise PolicyError("expired")

    with pytest.raises(PolicyError):
        KeyTable.create(tmp_path / "keys.db", {"x": Refused()})
    with pytest.raises(UsageError, match="needs a login"):
        KeyTable.create(tmp_path / "keys.db", {})
    assert not os.listdir(tmp_path)


def test_two_processes_write_to_one_table(path):
    script = (
        "import sys; from dicomcrypt.keytable import KeyTable\n"
        f"with KeyTable(sys.argv[1]).unlock({LOGIN!r}, {PASSWORD!r}) as table:\n"
        "    for _ in range(25): table.new_key('record')\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    with KeyTable(path).unlock(LOGIN, PASSWORD) as table:
        assert table.check() == 60


def test_threads_take_turns(table):
    made, failed = [], []

    def work():
        try:
            for _ in range(20):
                made.append(table.new_key("record"))
                list(table.labels())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert table.check() == 90
    assert all(table.get(key_id) == key for key_id, key in made)


def test_a_table_in_use_is_said_to_be_so(path, table):
    table._store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(JobBusyError, match="in use"):
        table.new_key("record")
    other.execute("ROLLBACK")
    other.close()
    table.new_key("record")


def test_without_room_to_count_there_is_no_guess(path):
    if os.geteuid() == 0:
        pytest.skip("root writes to what is read-only")
    path.chmod(0o400)
    with pytest.raises(UsageError, match="cannot be written"):
        KeyTable(path).unlock(LOGIN, PASSWORD)


def test_another_store_comes_in_by_the_protocol(path, tmp_path):
    copied = tmp_path / "copied.db"
    shutil.copy(path, copied)
    opened = []

    def opener(name):
        opened.append(name)
        return SqliteStore(copied)

    with KeyTable("elsewhere:1", store=opener).unlock(LOGIN, PASSWORD) as table:
        assert table.check() == 10
    assert opened == ["elsewhere:1"]


def test_no_message_holds_a_secret(path, table):
    _, key = table.new_key("record", "Mustermann")
    for wrong in ("secret words", "x"):
        with pytest.raises(NoIdentityError) as raised:
            KeyTable(path).unlock(LOGIN, wrong)
        assert not re.search(r"secret words|Mustermann", str(raised.value))
    assert key.hex() not in repr(table)
