"""Deep rewraps: what is said of records stays said, and what a killed one leaves."""

import shutil

import pytest
from vault_crash import Crasher
from vault_world import write_dicom

from dicomcrypt.errors import DamagedError, PolicyError, UsageError
from dicomcrypt.keys import keyfile
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault import holds, rekeying
from dicomcrypt.vault.checking import Check, keyless
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.getting import get
from dicomcrypt.vault.merging import merge, merges
from dicomcrypt.vault.recipients import add as add_recipient
from dicomcrypt.vault.rekeying import DOCUMENT, rewrap_deep
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.selecting import find_record


def rewrap(vault):
    assert {outcome.state for outcome in rewrap_deep(vault)} <= {"done", "skipped"}


def erase_patient(vault, patient):
    with vault.lease("erase"):
        return erase(vault, find_record(vault, patient=patient))


def kept(world, *patients):
    with world.open() as vault:
        for patient in patients:
            with pytest.raises(PolicyError):
                erase_patient(vault, patient)


def wrong(world):
    with world.open(catalogue=False) as vault:
        return [finding for finding in Check(vault).run() if finding.wrong]


def hold_and_keep(vault):
    holds.hold(vault, find_record(vault, patient="P1"), "court")
    holds.set_retention(vault.keys, find_record(vault, patient="P2"),
                        holds.parse_until("2999-12-31"))


def test_holds_and_retention_outlive_it(world):
    with world.open() as vault:
        hold_and_keep(vault)
        before = holds.holds(vault.keys)[0]
        rewrap(vault)
        (after,) = holds.holds(vault.keys)
        assert after == before._replace(record=find_record(vault, patient="P1")[0])
        assert after.record != before.record
        assert {*vault.keys.replaced().values()} <= {*vault.catalogue.records()}
        vault.keys.table.check()
    kept(world, "P1", "P2")
    with world.open() as vault:
        holds.release(vault, find_record(vault, patient="P1"), "court")
        assert erase_patient(vault, "P1").objects == world.each
    assert not wrong(world)


def test_after_an_access_was_taken_away(world):
    other = keyfile.ALGORITHMS["x25519"].generate()
    with world.open() as vault:
        add_recipient(vault.keys, "other", other.recipient)
        hold_and_keep(vault)
        vault.remove_recipients(["other"])
        world.plant("late", 1)
        world.add(vault)
        holds.hold(vault, find_record(vault, patient="P1")[::-1], "audit")
        rewrap(vault)
        assert {h.reason for h in holds.holds(vault.keys)} == {"court", "audit"}
        assert len(find_record(vault, patient="P1")) == 1
    kept(world, "P1", "P2")


def test_merged_records_stay_one(world):
    with world.open() as vault:
        with vault.lease("merge"):
            merge(vault, find_record(vault, patient="P1"), find_record(vault, patient="P2"))
        vault.keys.new_generation()
        write_dicom(world.tree / "late.dcm", "P1", 2, 77)
        world.add(vault)
        holds.hold(vault, find_record(vault, patient="P2"), "court")
        rewrap(vault)
        record = find_record(vault, patient="P1")
        assert {*record} == {*find_record(vault, patient="P2")}
        assert {key_id for pair in merges(vault.keys) for key_id in pair} <= {*record}
        assert len(list(merges(vault.keys))) == 1
        rewrap(vault)
        with vault.lease("repair"):
            repair(vault, rebuild=True)
        assert len(list(vault.catalogue.rows(query={"PatientID": "P2"}))) == 2 * world.each + 1
    kept(world, "P1", "P2")
    assert not wrong(world)


def snapshot(world):
    safe = world.folder / "copy"
    shutil.copytree(world.path, safe / "vault")
    shutil.copy(world.keys_path, safe / "keys")
    return safe


def put_back(world, safe):
    shutil.rmtree(world.path)
    for path in world.folder.glob("vault.*"):
        path.unlink()
    shutil.copytree(safe / "vault", world.path)
    shutil.copy(safe / "keys", world.keys_path)


def test_each_crash_at_its_end(world, monkeypatch):
    """What comes after the last row: no hold is lost, nothing is left over."""
    with world.open() as vault:
        hold_and_keep(vault)
    safe = snapshot(world)
    crasher = Crasher(monkeypatch)
    real, begun = rekeying._end, []

    def end(*arguments):
        begun.append(crasher.count)
        real(*arguments)

    monkeypatch.setattr(rekeying, "_end", end)
    with world.open() as vault:
        rewrap(vault)
    steps = crasher.count
    for at in range(begun[0], steps):
        put_back(world, safe)
        crasher.count, crasher.at = 0, at
        with crasher.dying():
            with world.open() as vault:
                rewrap(vault)
        crasher.at = None
        kept(world, "P1", "P2")
        assert not wrong(world), at
        with world.open() as vault:
            assert keyless(vault) is None
            rewrap(vault)
            assert vault.keys.document(DOCUMENT) is None
            replaced = vault.keys.replaced()
            assert {*replaced.values()} <= {*vault.catalogue.records(), *replaced}
            assert vault.catalogue.stats()["objects"] == 3 * world.each + 2
        kept(world, "P1", "P2")
        assert not wrong(world), at


class Killed(BaseException):
    pass


@pytest.fixture
def cut(world, monkeypatch):
    """A deep rewrap that was killed when all new objects were there, and none had a row."""
    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched, world.open() as vault:
        patched.setattr(rekeying, "_replace", killed)
        with pytest.raises(Killed):
            list(rewrap_deep(vault))
    return world


def test_what_is_erased_in_between_does_not_come_back(cut):
    with cut.open() as vault:
        done = erase_patient(vault, "P1")
        assert len(done.records) == 2
    for _ in range(2):
        with cut.open(catalogue=False) as vault, vault.lease("repair", finish=False):
            repair(vault)
        with cut.open() as vault:
            assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
            rewrap(vault)
            assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
            assert vault.catalogue.stats()["objects"] == 2 * cut.each + 2
    assert not wrong(cut)


def test_repair_leaves_it_to_the_rewrap(cut):
    with cut.open() as vault:
        rows = vault.catalogue.stats()["rows"]
    with cut.open(catalogue=False) as vault, vault.lease("repair", finish=False):
        done = repair(vault)
        assert not done.adopted
        assert {finding.kind for finding in done.left} == {"rewrap"}
        assert "rewrap --deep" in done.left[0].message
    with cut.open() as vault:
        assert vault.catalogue.stats()["rows"] == rows
        rewrap(vault)
        assert vault.catalogue.stats()["rows"] == rows
        assert vault.catalogue.stats()["objects"] == len(list(vault.store.list("objects/")))
    assert not wrong(cut)


def damage_catalogue(world):
    for path in (world.path / "catalogue").iterdir():
        path.write_bytes(b"damaged")
    (world.folder / "vault.cache").unlink(missing_ok=True)


def objects_there(world) -> int:
    return len(list((world.path / "objects").rglob("*.dcmx")))


@pytest.mark.parametrize("journal", ["there", "lost"])
@pytest.mark.parametrize("catalogue", ["there", "lost"])
def test_after_a_cut_each_file_is_one_object(cut, tmp_path, catalogue, journal):
    """Whatever is lost meanwhile; and what the key table says of a record is not."""
    with cut.open() as vault:
        hold_and_keep(vault)
    assert objects_there(cut) == 2 * (3 * cut.each + 2)
    if journal == "lost":
        for path in cut.folder.glob("vault.*.dcmx-journal"):
            path.unlink()
    if catalogue == "lost":
        damage_catalogue(cut)
        with pytest.raises(DamagedError):
            cut.open()
        with cut.open(catalogue=False) as vault, vault.lease("repair", finish=False):
            done = repair(vault, rebuild=True)
            assert done.removed == 3 * cut.each + 2
            assert not done.left
        assert not wrong(cut)
    with cut.open() as vault:
        rewrap(vault)
    assert objects_there(cut) == 3 * cut.each + 2
    kept(cut, "P1", "P2")
    assert not wrong(cut)
    with cut.open() as vault:
        assert vault.keys.document(DOCUMENT) is None
        assert all(vault.keys.is_current(k) for k in vault.catalogue.records())
        outcomes = list(get(vault, vault_rows(vault), str(tmp_path / "out"), DecryptOptions()))
        assert {o.state for o in outcomes} == {"done"}
    out = tmp_path / "out" / "tree"
    found = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert found.items() <= cut.files().items()
    # Further paths of one file are in the catalogue only.
    assert len(found) == len(cut.files()) - (catalogue == "lost")


def vault_rows(vault):
    return [row for _, row in vault.catalogue.rows()]


def test_a_stale_catalogue_names_no_key_that_is_gone(world):
    with world.open() as stale, world.open() as vault:
        record = find_record(stale, patient="P1")
        rewrap(vault)
        with pytest.raises(UsageError, match="again"):
            holds.hold(stale, record, "court")
        with pytest.raises(UsageError, match="again"):
            holds.set_retention(stale.keys, record, 1 << 32)
        assert not holds.holds(vault.keys)
