"""The store's six operations, and the vault's keys."""

from __future__ import annotations

import os
import stat

import pytest

from dicomcrypt.errors import DamagedError, MissingBlobError, OutputExistsError, UsageError
from dicomcrypt.keytable import KeyTable
from dicomcrypt.vault.keys import VaultKeys
from dicomcrypt.vault.store import FolderStore


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def test_a_blob_is_put_once_read_in_ranges_and_replaced(store):
    store.put_new("catalogue/ab.seg", [b"0123", b"456789"])
    with pytest.raises(OutputExistsError):
        store.put_new("catalogue/ab.seg", b"other")
    assert store.read("catalogue/ab.seg") == b"0123456789"
    assert store.read("catalogue/ab.seg", 3, 4) == b"3456"
    assert store.read("catalogue/ab.seg", 8, 40) == b"89"
    assert store.size("catalogue/ab.seg") == 10
    store.replace("catalogue/ab.seg", b"new")
    assert store.read("catalogue/ab.seg") == b"new"
    assert list(store.list("catalogue/")) == ["catalogue/ab.seg"]
    assert store.delete("catalogue/ab.seg")
    assert not store.delete("catalogue/ab.seg")
    for action in (store.read, store.size):
        with pytest.raises(MissingBlobError):
            action("catalogue/ab.seg")


def test_a_put_that_fails_leaves_nothing(store):
    def broken():
        yield b"a"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="gone"):
        store.put_new("objects/00/x.dcmx", broken())
    assert list(store.list("")) == []
    assert os.listdir(store.local_path("objects/00")) == []


@pytest.mark.parametrize("name", ["", "/", "../x", "a/../b", "a//b", ".hidden", "a/.b", "a\0", "ä",
                                  "a/b/c/d/e", "x" * 101, "a/"])
def test_names_that_lead_elsewhere_are_refused(store, name):
    for action in (store.read, store.size, store.delete):
        with pytest.raises(UsageError):
            action(name)


def test_lists_by_prefix_without_parts(store, tmp_path):
    for name in ("vault", "objects/aa/x.dcmx", "objects/ab/y.dcmx", "erased/1"):
        store.put_new(name, b"")
    (tmp_path / "store/objects/aa/.dcmx-0123456789ab.part").write_bytes(b"half")
    assert sorted(store.list("objects/")) == ["objects/aa/x.dcmx", "objects/ab/y.dcmx"]
    assert sorted(store.list("objects/ab")) == ["objects/ab/y.dcmx"]
    assert len(list(store.list(""))) == 4
    assert list(store.list("none/")) == []
    modes = {stat.S_IMODE(os.stat(p).st_mode) for p in (tmp_path / "store").rglob("*")
             if p.is_dir()}
    assert modes == {0o700}


def test_adopts_a_part_without_a_copy(store, tmp_path):
    folder = store.make_folder("objects/00")
    part = os.path.join(folder, ".dcmx-0123456789ab.part")
    for content in (b"one", b"two"):
        with open(part, "wb") as file:
            file.write(content)
        if content == b"one":
            store.adopt(part, "objects/00/x.dcmx")
        else:
            with pytest.raises(OutputExistsError):
                store.adopt(part, "objects/00/x.dcmx")
    assert store.read("objects/00/x.dcmx") == b"one"


@pytest.fixture
def table(tmp_path, identity):
    with KeyTable.create(tmp_path / "keys", {"me": identity.recipient}) as opened:
        yield opened


def test_keys_come_back_and_generations_tell_old_from_new(table, tmp_path, identity):
    keys = VaultKeys.create(table)
    with pytest.raises(UsageError, match="already"):
        VaultKeys.create(table)
    first, key = keys.new_record_key()
    assert keys.is_current(first)
    stanza = keys.derive(1, "stanza")
    assert keys.new_generation() == 2
    assert keys.derive(1, "stanza") == stanza != keys.derive(2, "stanza")
    second, _ = keys.new_record_key()
    assert not keys.is_current(first)
    assert keys.is_current(second)
    with KeyTable(tmp_path / "keys").unlock(identities=[identity]) as again:
        other = VaultKeys(again)
        assert other.generation == 2
        assert other.vault_id == keys.vault_id
        assert other.record_key(first) == key
        assert other.row_key(second) == keys.row_key(second) != keys.dedupe_key(second)
    with pytest.raises(DamagedError, match="newer generation"):
        keys.vault_key(3)


def test_deleted_records_are_gone_and_the_state_only_rises(table):
    keys = VaultKeys.create(table)
    ids = [keys.new_record_key()[0] for _ in range(3)]
    assert keys.row_key(ids[0])
    assert keys.delete_records([*ids[:2], bytes(16)]) == 2
    assert keys.record_key(ids[0]) is keys.row_key(ids[0]) is keys.dedupe_key(ids[1]) is None
    assert keys.record_key(ids[2])
    assert not keys.is_current(ids[0])
    assert keys.state == 0
    keys.raise_state(4)
    with pytest.raises(DamagedError):
        keys.raise_state(3)
    assert keys.state == 4
    old = keys.cache_key()
    assert keys.renew_cache_key() == keys.cache_key() != old


def test_a_key_table_without_a_vault_is_named(table):
    with pytest.raises(UsageError, match="no vault"):
        VaultKeys(table)
