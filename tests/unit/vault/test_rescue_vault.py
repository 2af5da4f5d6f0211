"""tools/dcmx_rescue.py opens vaults that this program made."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import sqlite3
import sys

import pytest
from vault_world import World

from dicomcrypt.keys import keyfile
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.getting import get
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.rekeying import rewrap_deep
from dicomcrypt.vault.selecting import find_record

TOOL = pathlib.Path(__file__).resolve().parents[3] / "tools" / "dcmx_rescue.py"


@pytest.fixture
def rescue():
    spec = importlib.util.spec_from_file_location("dcmx_rescue", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("dcmx_rescue", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    (tmp_path / "key").write_text(keyfile.identity_text(made.identity))
    return made


def words(world, out, *more):
    return ["vault", str(world.path), "--keys", world.keys_path, "-i", str(world.folder / "key"),
            "-o", str(out), *more]


def test_every_file_of_a_vault(world, rescue, tmp_path):
    os.symlink("p0-0.dcm", world.tree / "link")
    with world.open() as vault:
        world.add(vault)
        vault.keys.new_generation()
        world.plant("late", 3)
        world.add(vault)
    assert rescue.main(words(world, tmp_path / "out")) == 0
    found = {p.relative_to(tmp_path / "out/tree"): p.read_bytes()
             for p in (tmp_path / "out/tree").rglob("*") if p.is_file() and not p.is_symlink()}
    assert found == world.files()
    assert os.readlink(tmp_path / "out/tree/link") == "p0-0.dcm"


def restored(world, out, **options):
    """The tree of `vault get --all`."""
    with world.open() as vault:
        outcomes = list(get(vault, select(vault), str(out), DecryptOptions(**options)))
    assert {outcome.state for outcome in outcomes} <= {"done", "link"}
    return tree(out)


def tree(out):
    return {str(p.relative_to(out)): os.readlink(p) if p.is_symlink() else p.read_bytes()
            for p in out.rglob("*") if p.is_symlink() or p.is_file()}


def test_it_restores_the_paths_that_the_program_restores(world, rescue, tmp_path):
    """Identical files; another file of the same path; links; rows that were taken away."""
    shutil.copytree(world.tree, world.tree / "deep/er")
    os.symlink("p0-0.dcm", world.tree / "link")
    os.symlink("p0-0.dcm", world.tree / "deep/link")
    with world.open() as vault:
        world.add(vault)
        (world.tree / "notes.txt").write_text("not DICOM, and later")
        world.add(vault)
        shutil.copy(world.tree / "p1-0.dcm", world.tree / "later.dcm")
        world.add(vault)
    expected = restored(world, tmp_path / "get")
    assert len(expected) >= 2 * len([*world.tree.glob("*.dcm")]) + 4
    assert len([name for name in expected if "/notes.txt." in name]) == 1
    assert rescue.main(words(world, tmp_path / "out")) == 0
    assert tree(tmp_path / "out") == expected
    with world.open() as vault:
        list(rewrap_deep(vault))
    assert rescue.main(words(world, tmp_path / "deep")) == 0
    assert tree(tmp_path / "deep") == restored(world, tmp_path / "again")


@pytest.mark.parametrize("kind", ["head", "segment", "gone"])
def test_a_catalogue_that_cannot_be_read_is_told(world, rescue, tmp_path, capsys, kind):
    with world.open() as vault:
        world.add(vault)
    path = world.path / "catalogue/head"
    if kind == "segment":
        path = next(path.parent.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.unlink()
    if kind != "gone":
        path.write_bytes(data)
    assert rescue.main(words(world, tmp_path / "out")) == 1
    assert "further paths may be missing" in capsys.readouterr().err
    found = tree(tmp_path / "out")  # everything once, under the path in the object
    assert {*found.values()} == {*world.files().values()}
    assert len(found) == len(world.files()) - 1


def test_of_a_changed_segment_the_other_frames_are_read(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
    path = max((world.path / "catalogue").glob("*.seg"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last frame: one record's
    path.write_bytes(data)
    assert rescue.main(words(world, tmp_path / "out")) == 1
    assert capsys.readouterr().err.count("damaged or forged") == 1
    assert {*tree(tmp_path / "out").values()} == {*world.files().values()}


def test_an_old_catalogue_is_read_and_told(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
        before = (world.path / "catalogue/head").read_bytes()
        shutil.copy(world.tree / "p1-0.dcm", world.tree / "later.dcm")
        world.add(vault)
    (world.path / "catalogue/head").write_bytes(before)
    assert rescue.main(words(world, tmp_path / "out")) == 1
    assert "an old copy" in capsys.readouterr().err
    assert "tree/copy.dcm" in tree(tmp_path / "out")


def test_an_object_of_the_catalogue_that_is_missing_is_named(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
    one, other = [*(world.path / "objects").rglob("*.dcmx")][:2]
    one.write_bytes(other.read_bytes())
    other.unlink()
    assert rescue.main(words(world, tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert f"{other.name}: the object is missing" in said
    assert f"{one}: damaged: another object stands in this one's place" in said


@pytest.mark.parametrize("name", [b"../outside", b"/outside", b"link/outside", b"tree/../../x"])
def test_no_path_of_the_catalogue_leaves_the_output(world, rescue, tmp_path, capsys, monkeypatch,
                                                    name):  # fmt: skip
    with world.open() as vault:
        world.add(vault)
    (tmp_path / "out").mkdir()
    (tmp_path / "else").mkdir()
    os.symlink("../else", tmp_path / "out/link")
    names = rescue.Catalogue.names
    monkeypatch.setattr(rescue.Catalogue, "names", lambda self: {
        key: [name, *paths] for key, paths in names(self).items()})
    assert rescue.main(words(world, tmp_path / "out")) == 1
    assert "unsafe name" in capsys.readouterr().err
    assert not [*(tmp_path / "else").iterdir()]
    assert not [*tmp_path.rglob("outside*"), *tmp_path.glob("x*")]
    assert len([*(tmp_path / "out/tree").iterdir()]) == len(world.files())


def test_what_was_erased_stays_closed(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
        before = world.backup()
        with vault.lease("erase"):
            erase(vault, find_record(vault, patient="P1"))
    assert rescue.main(words(world, tmp_path / "now")) == 0
    assert not list((tmp_path / "now/tree").glob("p1-*"))
    given = words(world, tmp_path / "old")
    given[1] = str(before)
    assert rescue.main(given) == 1
    assert capsys.readouterr().err.count("the object's record was erased") == world.each
    assert not list((tmp_path / "old/tree").glob("p1-*"))


def test_refusals(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
    other = keyfile.ALGORITHMS["x25519"].generate()
    (tmp_path / "other").write_text(keyfile.identity_text(other))
    given = words(world, tmp_path / "out")
    given[5] = str(tmp_path / "other")
    assert rescue.main(given) == 3
    given[3] = str(tmp_path / "other")
    assert rescue.main(given) == 2
    with pytest.raises(SystemExit):
        rescue.main(["vault", str(world.path), "-i", "x", "-o", "y"])
    with contextlib.closing(sqlite3.connect(world.keys_path)) as database:
        head = bytearray(database.execute("SELECT value FROM head").fetchone()[0])
        head[20] ^= 1
        database.execute("UPDATE head SET value = ?", (bytes(head),))
        database.commit()
    assert rescue.main(words(world, tmp_path / "out")) == 4
    assert "changed" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_pipes_are_not_waited_for(world, rescue, tmp_path, capsys):
    with world.open() as vault:
        world.add(vault)
    one = next((world.path / "objects").rglob("*.dcmx"))
    one.unlink()
    os.mkfifo(one)
    assert rescue.main(words(world, tmp_path / "out")) == 1
    assert "no regular file" in capsys.readouterr().err
    os.unlink(world.keys_path)
    os.mkfifo(world.keys_path)
    assert rescue.main(words(world, tmp_path / "more")) == 2
