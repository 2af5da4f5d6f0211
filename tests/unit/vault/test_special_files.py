"""Links, pipes and the like in the places of a vault's files: refused or reported, never waited
for, and no link is followed."""

import os
import shutil
import socket

import pytest

from dicomcrypt.errors import DamagedError, DicomcryptError
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.getting import get, verify
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.store import FolderStore
from dicomcrypt.vault.vault import is_vault, object_name, read_header

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")


def stand_in(kind, path, safe) -> None:
    """Put something else in a file's or folder's place; what was there is `safe`."""
    if path.exists():
        shutil.move(path, safe)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(safe)


def findings(world) -> set:
    with world.open(catalogue=False) as vault:
        return {(finding.kind, finding.name) for finding in Check(vault).run() if finding.wrong}


KINDS = ("link", "pipe", "socket")


@pytest.mark.parametrize("kind", KINDS)
def test_an_object(world, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with world.open() as vault:
        (row, *_) = select(vault, {"PatientID": "P1"})
    name = object_name(row.object_id)
    stand_in(kind, world.path / name, tmp_path / "safe")
    assert findings(world) == {("damaged", name)}
    with world.open() as vault:
        failed = [o for o in verify(vault, select(vault)) if o.state == "failed"]
        assert [o.exit_status for o in failed] == [4]
        assert "no regular file" in failed[0].message
        out = list(get(vault, select(vault), str(tmp_path / "out"), DecryptOptions()))
        assert sum(o.state == "failed" for o in out) == 1
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        done = repair(vault)
        assert done.aside == [f"damaged/{name.rpartition('/')[2]}"]
        assert done.dropped == 1
    assert os.path.lexists(world.path / done.aside[0])
    assert not os.path.lexists(world.path / name)
    assert not findings(world)
    if kind == "link":
        assert (tmp_path / "safe").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_goes_into_another_folder(world, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with world.open() as vault:
        (row, *_) = select(vault, {"PatientID": "P1"})
    stand_in(kind, world.path / object_name(row.object_id), tmp_path / "safe")
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        (aside,) = repair(vault, aside=str(tmp_path / "aside")).aside
    with open(aside) as file:
        assert "no regular file" in file.read()
    assert not findings(world)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["head", "segment", "catalogue"])
def test_the_catalogue(world, kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segment = next(iter((world.path / "catalogue").glob("*.seg")))
    path = {"head": segment.parent / "head", "segment": segment, "catalogue": segment.parent}[name]
    (world.folder / "vault.cache").unlink(missing_ok=True)
    stand_in(kind, path, tmp_path / "safe")
    with pytest.raises(DamagedError):
        world.open()
    assert findings(world)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_objects(world, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with world.open() as vault:
        (row, *_) = select(vault, {"PatientID": "P1"})
    name = object_name(row.object_id)
    stand_in(kind, (world.path / name).parent, tmp_path / "safe")
    assert ("missing", name) in findings(world)
    world.plant("more", 1)
    with world.open() as vault, pytest.raises(DamagedError, match="no folder"):
        world.add(vault)
    with world.open() as vault:
        for action in (vault.store.read, vault.store.size, vault.store.delete):
            with pytest.raises(DamagedError):
                action(name)


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
@pytest.mark.parametrize("name", ["vault", "README", "erased/" + 32 * "0"])
def test_other_files(world, kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (world.path / "erased").mkdir()
    stand_in(kind, world.path / name, tmp_path / "safe")
    if name == "vault":
        assert not is_vault(world.path)
        with pytest.raises(DamagedError, match="header"):
            read_header(world.path)
        assert name in {found for _, found in findings(world)}
    elif kind != "folder":  # an empty one is nothing
        assert name in {found for _, found in findings(world)}


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("name", ["vault.keys", "vault.keys-journal", "vault.cache"])
def test_what_lies_beside_it(world, kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_in(kind, world.folder / name, tmp_path / "safe")
    if name == "vault.cache":
        with world.open() as vault:
            assert vault.catalogue.stats()["objects"] == 3 * world.each + 2
            assert not vault.catalogue.save_cache()
        return
    with pytest.raises(DicomcryptError, match=r"regular file|cannot read"):
        world.open()


def test_the_vault_may_be_reached_by_a_link(world, tmp_path):
    other = tmp_path / "elsewhere"
    other.symlink_to(world.path)
    assert FolderStore(other).read("vault", 0, 4) == b"DCMX"
