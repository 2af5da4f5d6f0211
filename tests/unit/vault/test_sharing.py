"""Who opens what of a vault: stanzas, shared objects, recipients, new keys."""

from __future__ import annotations

import os
import shutil

import pytest
from vault_trees import add, contents, restore

import dicomcrypt as dc
from dicomcrypt.container.header import default_capacity
from dicomcrypt.container.reader import Container
from dicomcrypt.container.stanza import FULL, VAULT
from dicomcrypt.errors import (
    DamagedError,
    NoIdentityError,
    UnknownKeyError,
    UsageError,
)
from dicomcrypt.keys import Passphrase
from dicomcrypt.objects.buffers import FileSource
from dicomcrypt.trees.tree import DecryptOptions, decrypt_tree
from dicomcrypt.vault import recipients
from dicomcrypt.vault.getting import verify
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.rekeying import DOCUMENT, rewrap_deep
from dicomcrypt.vault.sharing import share
from dicomcrypt.vault.stanza import StanzaKeys, VaultIdentity, VaultRecipient
from dicomcrypt.vault.vault import Vault, object_name

QUICK = {"memory_kib": 64, "passes": 1, "lanes": 1}  # guessing does not matter


def test_the_stanza_is_bound_to_object_vault_generation_and_record():
    key, record = os.urandom(32), os.urandom(32)
    core, vault_id, stanza_key = os.urandom(64), os.urandom(16), os.urandom(32)
    stanza = VaultRecipient(vault_id, 1, stanza_key, b"r" * 16, record).wrap(key, FULL, core)
    assert (stanza.type, stanza.scope, len(stanza.body)) == (VAULT, FULL, 88)
    assert stanza.type_name == "vault"
    assert b"r" * 16 not in stanza.body
    assert default_capacity([stanza]) >= 112 + 1180

    def who(vault_id=vault_id, stanza_key=stanza_key, record=record):
        return VaultIdentity(vault_id, lambda g: stanza_key, lambda key_id: record)

    assert who().unwrap(stanza, core) == key
    assert who().unwrap(stanza, core[:-1] + b"!") is None
    assert who(stanza_key=bytes(32)).unwrap(stanza, core) is None
    assert who(record=bytes(32)).unwrap(stanza, core) is None
    assert who(vault_id=bytes(16)).unwrap(stanza, core) is None
    assert who().unwrap(stanza._replace(body=stanza.body[:-1]), core) is None
    with pytest.raises(NoIdentityError, match="erased"):
        who(record=None).unwrap(stanza, core)
    with pytest.raises(UsageError):
        VaultRecipient(vault_id, 1, stanza_key, b"r" * 16, record).wrap(key, 2, core)


def test_what_workers_get_tells_no_key_and_opens_nothing_of_a_later_generation():
    core, vault_id, first, record = (os.urandom(n) for n in (64, 16, 32, 32))
    keys = StanzaKeys(vault_id, [first])
    assert repr(keys) == f"StanzaKeys({vault_id.hex()})"
    who = keys.identity(lambda record_id: record)
    now, later = (VaultRecipient(vault_id, g, first, b"r" * 16, record).wrap(bytes(32), FULL, core)
                  for g in (1, 2))
    assert who.unwrap(now, core) == bytes(32)
    with pytest.raises(DamagedError, match="newer generation"):
        who.unwrap(later, core)


@pytest.mark.parametrize("kernel_copy", [True, False])
def test_shared_objects_need_nothing_of_the_vault(opened, tree, tmp_path, other, identity,
                                                  monkeypatch, kernel_copy):
    if not kernel_copy:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    add(opened, tree)
    rows = list(select(opened, {"PatientID": "1CT1"}))
    outcomes = list(share(opened, rows, os.fspath(tmp_path / "out"), [other.recipient]))
    assert [o.state for o in outcomes] == ["done"]
    path = next((tmp_path / "out").iterdir())
    source = FileSource(path)
    assert [s.type_name for s in Container(source).slots[0].stanzas] == ["ML-KEM-768+X25519"]
    source.close()
    with pytest.raises(NoIdentityError):
        dc.decrypt_file(path, tmp_path / "plain", [identity])
    list(decrypt_tree(os.fspath(tmp_path / "out"), os.fspath(tmp_path / "plain"), [other],
                      DecryptOptions(sync=False)))
    assert list(contents(tmp_path / "plain").values()) == [(tree / "CT_small.dcm").read_bytes()]
    with pytest.raises(UsageError, match="no recipient"):
        next(share(opened, rows, os.fspath(tmp_path / "none"), []))
    # nothing of it changed in the vault
    assert {o.state for o in verify(opened, select(opened))} == {"done"}


def test_a_recipient_is_added_by_the_key_table_alone(opened, made, tree, other, tmp_path):
    add(opened, tree)
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    recipients.add(opened.keys, "other", other.recipient)
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == before
    with Vault.open(made, identities=[other]) as second:
        assert len(restore(second, tmp_path / "back")) == len(contents(tree))
    assert [r["name"] for r in recipients.listed(opened.keys)] == ["me", "other"]


def test_who_is_removed_reads_what_was_there_and_nothing_that_came_later(
    opened, made, tree, other, identity, tmp_path
):
    add(opened, tree)
    recipients.add(opened.keys, "other", other.recipient)
    shutil.copy(tmp_path / "vault.keys", tmp_path / "old.keys")
    shutil.copytree(made, tmp_path / "old")
    assert opened.remove_recipients(["other"]) == ["other"]
    with pytest.raises(NoIdentityError):
        Vault.open(made, identities=[other])
    later = tmp_path / "later"
    shutil.copytree(tree, later)
    for number, path in enumerate(later.rglob("*.dcm")):
        path.write_bytes(path.read_bytes() + bytes(2 * number + 2))
    add(opened, later)
    rows = [r for _, r in opened.catalogue.rows() if r.path.startswith(b"later/")]
    with Vault.open(tmp_path / "old", identities=[other],
                    keys_path=os.fspath(tmp_path / "old.keys")) as old:
        assert len(restore(old, tmp_path / "before")) == len(contents(tree))
        for row in rows:
            if row.size:
                name = object_name(row.object_id)
                shutil.copy(made / name, tmp_path / "old" / name)
                source = FileSource(tmp_path / "old" / name)
                with pytest.raises(DamagedError, match="newer generation"):
                    Container(source).unlock([old.identity])
                source.close()
    with pytest.raises((DamagedError, UsageError)):  # the new store by the old table
        Vault.open(made, identities=[other], keys_path=os.fspath(tmp_path / "old.keys"))
    with Vault.open(made, identities=[identity]) as again:
        assert len(restore(again, tmp_path / "all")) == len(contents(tree)) + len(contents(later))
        assert again.keys.table.fingerprint == opened.keys.table.fingerprint


def test_removing_names_whom_it_cannot_keep(made, identity, other):
    with Vault.open(made, identities=[identity]) as vault:
        recipients.add(vault.keys, "anna", Passphrase("anna's", **QUICK))
        recipients.add(vault.keys, "other", other.recipient)
        with pytest.raises(UsageError, match="anna"):
            vault.remove_recipients(["other"])
        with pytest.raises(UnknownKeyError):
            vault.remove_recipients(["nobody"])
        stay = {"anna": Passphrase("anna's", **QUICK)}
        assert vault.remove_recipients(["other"], logins=stay) == ["other"]
        with pytest.raises(UsageError, match="last recipient"):
            vault.remove_recipients(["me", "anna"])
    with Vault.open(made, login="anna", password="anna's") as vault:  # noqa: S106
        stay = {"anna": Passphrase("x", **QUICK)}
        assert vault.remove_recipients(["me"], drop=True, logins=stay) == ["me"]


def test_a_rotation_that_was_cut_short_leaves_the_old_table(opened, made, identity, other,
                                                             monkeypatch):
    recipients.add(opened.keys, "other", other.recipient)

    def fails(*_):
        raise OSError("no power")

    monkeypatch.setattr("dicomcrypt.keytable.rotation.os.replace", fails)
    with pytest.raises(OSError, match="no power"):
        opened.remove_recipients(["other"])
    monkeypatch.undo()
    with Vault.open(made, identities=[other]) as vault:
        assert vault.remove_recipients(["other"]) == ["other"]
    assert not os.path.exists(f"{opened.keys_path}.new")


@pytest.mark.parametrize("jobs", [1, 2])
def test_deep_rewrap_leaves_nothing_under_old_keys(opened, made, identity, tree, tmp_path, jobs):
    add(opened, tree)
    plain = restore(opened, tmp_path / "before")
    old_objects = set(opened.store.list("objects/"))
    old_keys = set(opened.catalogue.records())
    shutil.copy(tmp_path / "vault.keys", tmp_path / "old.keys")
    assert {o.state for o in rewrap_deep(opened, jobs)} == {"done"}
    assert not old_objects & set(opened.store.list("objects/"))
    assert not any(opened.keys.record_key(key_id) for key_id in old_keys)
    assert opened.keys.document(DOCUMENT) is None
    with Vault.open(made, identities=[identity]) as again:
        assert restore(again, tmp_path / "after", jobs) == plain
        stats = again.catalogue.stats()
        assert stats["objects"] == len(list(again.store.list("objects/")))
        assert {o.state for o in add(again, tree)} == {"skipped"}


def test_deep_rewrap_goes_on_where_it_was_broken_off(opened, made, identity, tree, tmp_path,
                                                     monkeypatch):
    from dicomcrypt.vault import rekeying

    add(opened, tree)
    plain = restore(opened, tmp_path / "before")
    generation = opened.keys.generation
    steps = []
    real = rekeying._sweep

    def once(vault, old):
        steps.append(len(old))
        if len(steps) == 1:
            raise KeyboardInterrupt
        real(vault, old)

    monkeypatch.setattr(rekeying, "_sweep", once)
    with pytest.raises(KeyboardInterrupt):
        list(rewrap_deep(opened))
    with Vault.open(made, identities=[identity]) as again:
        list(rewrap_deep(again))
        assert again.keys.generation == generation + 1
        assert restore(again, tmp_path / "after") == plain
        assert len(list(again.store.list("objects/"))) == again.catalogue.stats()["objects"]


def test_an_object_that_is_not_there_is_named(opened):
    with pytest.raises(UsageError, match="00" * 16):
        list(select(opened, objects=[bytes(16)]))
