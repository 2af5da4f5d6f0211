"""A key table: what it stores, and who unlocks it."""

import copy
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_tables import LOGIN, PASSWORD, change, cheap, rows

from dicomcrypt.container.stanza import parse_stanzas
from dicomcrypt.errors import DamagedError, NoIdentityError, UnknownKeyError, UsageError
from dicomcrypt.keys import HybridIdentity, X25519Identity
from dicomcrypt.keytable import KeyTable

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
def test_any_order_of_changes_leaves_a_table_that_checks(tmp_path_factory, made, backup, steps):
    path = tmp_path_factory.mktemp("table") / "keys.db"
    path.write_bytes(made)
    with KeyTable(path).unlock(identities=[backup]) as table:
        # what a failure of power leaves is not asked here
        table._store._connection.execute("PRAGMA synchronous = OFF")
        model = {info.id: table.get(info.id) for info in table.labels()}
        for what, number in steps:
            if what == "n":
                key_id, model_key = table.new_key("k", str(number))
                model[key_id] = model_key
            elif model:
                gone = sorted(model)[number % len(model)]
                del model[gone]
                table.delete(gone)
    with KeyTable(path).unlock(identities=[backup]) as table:
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
