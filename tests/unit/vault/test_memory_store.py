"""A vault in a store without paths: everything goes through the protocol."""

import io
import os

import pytest
from memory_store import MemoryStore
from vault_world import World

from dicomcrypt.container.reader import Container
from dicomcrypt.errors import UsageError
from dicomcrypt.keys import keyfile
from dicomcrypt.objects.buffers import FileSource, MemorySource
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault.backups import backup_keys, restore_keys
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.getting import cat, get, verify
from dicomcrypt.vault.merging import merge
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.rekeying import rewrap_deep
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.selecting import find_record
from dicomcrypt.vault.sharing import share
from dicomcrypt.vault.vault import Vault, object_name


class Remote(World):
    """The usual files; the vault lies in memory."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        for path in [self.path / name for name in os.listdir(self.path)]:
            assert path.exists()
        self.store = MemoryStore()
        self.keys_path = os.fspath(self.folder / "far away.keys")
        Vault.create(self.store, {"who": self.identity.recipient},
                     keys_path=self.keys_path).close()

    def open(self, **how) -> Vault:
        return Vault.open(self.store, keys_path=self.keys_path, identities=[self.identity], **how)


@pytest.fixture
def world(tmp_path):
    made = Remote(tmp_path)
    with made.open() as vault:
        made.add(vault)
    return made


def wrong(world, **how):
    with world.open(catalogue=False) as vault:
        return [finding for finding in Check(vault, **how).run() if finding.wrong]


def got(world, out) -> dict:
    with world.open() as vault:
        outcomes = list(get(vault, select(vault), str(out), DecryptOptions()))
        assert {outcome.state for outcome in outcomes} == {"done"}
    return {p.relative_to(out / "tree"): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_everything(world, tmp_path):
    with world.open() as vault:
        assert vault.catalogue.stats()["objects"] == 3 * world.each + 2
        assert len(list(vault.catalogue.listing("patient"))) == 5
        assert len(list(vault.catalogue.rows(query={"PatientID": "P1"}))) == world.each
        assert all(o.state == "done" for o in verify(vault, select(vault)))
        out = io.BytesIO()
        (row, *_) = select(vault, {"PatientID": "P2"})
        cat(vault, [row], out)
        assert out.getvalue() == (world.tree / os.fsdecode(row.path).partition("/")[2]).read_bytes()
        assert len({o.state for o in world.add(vault)}) == 1  # all skipped
    assert got(world, tmp_path / "out") == world.files()
    assert not wrong(world)
    # Beside the key table nothing is left of the jobs.
    assert sorted(p.name for p in world.folder.glob("far*")) == [
        "far away.keys", "far away.keys.reserve"]


def test_share_erase_and_check(world, tmp_path):
    other = keyfile.ALGORITHMS["x25519"].generate()
    with world.open() as vault:
        shared = list(share(vault, select(vault, {"PatientID": "P1"}), str(tmp_path / "shared"),
                            [other.recipient]))
        assert [o.state for o in shared] == ["done"] * world.each
        for outcome in shared:
            Container(FileSource(outcome.output)).unlock([other])
        before = dict(world.store.blobs)
        with vault.lease("erase"):
            done = erase(vault, find_record(vault, patient="P1"))
        assert done.objects == world.each
        assert len(before.keys() - world.store.blobs.keys()) >= world.each
    assert not wrong(world)


def test_merge_rewrap_repair(world, tmp_path):
    with world.open() as vault:
        with vault.lease("merge"):
            merge(vault, find_record(vault, patient="P1"), find_record(vault, patient="P2"))
        old = {name for name in world.store.list("objects/")}
        assert all(o.state == "done" for o in rewrap_deep(vault))
        assert not old & {*world.store.list("objects/")}
        (row, *_) = select(vault, {"PatientID": "P0"})
        name = object_name(row.object_id)
    data = world.store.blobs[name]
    world.store.blobs[name] = data[:-1]
    assert [finding.name for finding in wrong(world)] == [name]
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        done = repair(vault, rebuild=True)
        assert done.aside == [f"damaged/{name.rpartition('/')[2]}"]
        assert world.store.blobs[done.aside[0]] == data[:-1]
        assert vault.catalogue.stats()["objects"] == 3 * world.each + 1
    assert not wrong(world)
    world.store.blobs["catalogue/head"] = b"damaged"
    assert "head" in {finding.kind for finding in wrong(world)}
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        repair(vault, rebuild=True)
    assert not wrong(world)


def test_what_a_killed_job_left_goes(world, monkeypatch):
    """Objects that were put, and have no row yet."""
    from dicomcrypt.vault import adding

    class Killed(BaseException):
        pass

    def killed(book, outcome):
        if outcome.state == "done" and outcome.output is not None:
            raise Killed
        yield outcome

    def not_saved(book):
        raise Killed

    world.plant("more", 3)
    with world.open() as vault:
        before = len(world.store.blobs)
        with monkeypatch.context() as patched:
            patched.setattr(adding._Book, "take", killed)
            patched.setattr(adding._Book, "save", not_saved)
            with pytest.raises(Killed):
                world.add(vault)
    assert len(world.store.blobs) == before + 3
    with world.open() as vault:
        world.add(vault)
        assert vault.catalogue.stats()["objects"] == len([*world.store.list("objects/")])
    assert not wrong(world)
    assert sorted(p.name for p in world.folder.glob("far*")) == [
        "far away.keys", "far away.keys.reserve"]


def test_copies_of_the_key_table(world, tmp_path):
    with world.open() as vault:
        made = backup_keys(vault, str(tmp_path / "copy.keys"))
        vault_id = vault.keys.vault_id
        with vault.lease("erase"):
            assert erase(vault, find_record(vault, patient="P1")).backups == [made]
    os.unlink(world.keys_path)
    done = restore_keys(world.store, vault_id, world.keys_path, made.place,
                        lambda table, strict: table.unlock(identities=[world.identity],
                                                           strict=strict))
    assert done.buried == 1
    assert not wrong(world)


def test_a_store_says_where_its_key_table_is(world):
    with pytest.raises(UsageError, match="key table"):
        Vault.open(world.store, identities=[world.identity])
    with pytest.raises(UsageError, match="not empty"):
        Vault.create(world.store, {"who": world.identity.recipient}, keys_path="other.keys")
    with pytest.raises(UsageError, match="no vault"):
        Vault.open(MemoryStore(), keys_path=world.keys_path, identities=[world.identity])


def test_an_object_is_opened_with_few_requests(world):
    with world.open() as vault:
        (row, *_) = select(vault, {"PatientID": "P1"})
        before = world.store.requests
        assert [o.state for o in verify(vault, [row])] == ["done"]
        assert world.store.requests - before <= 3
        blob = world.store.read(object_name(row.object_id))
        Container(MemorySource(blob)).unlock([vault.identity])
