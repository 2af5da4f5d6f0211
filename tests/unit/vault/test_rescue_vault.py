"""tools/dcmx_rescue.py opens vaults that this program made."""

import contextlib
import importlib.util
import os
import pathlib
import sqlite3
import sys

import pytest
from vault_world import World

from dicomcrypt.keys import keyfile
from dicomcrypt.vault.erasing import erase
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
    # A file that is stored once comes out once.
    expected = {name: data for name, data in world.files().items() if name.name != "copy.dcm"}
    assert {*found.values()} == {*expected.values()}
    assert len(found) == len(expected)
    assert os.readlink(tmp_path / "out/tree/link") == "p0-0.dcm"


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
