"""What `check` finds, and what `repair` makes of it."""

import os
import shutil

import pydicom
import pytest
from vault_world import write_dicom

from dicomcrypt.errors import UsageError
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.merging import merge
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.selecting import find_record
from dicomcrypt.vault.vault import object_name


def check(world, *, notes=False, **how):
    with world.open(catalogue=False) as vault:
        return sorted(f.kind for f in Check(vault, **how).run() if f.wrong or notes)


def mend(world, **how):
    with world.open(catalogue=False) as vault, vault.lease("repair", finish=False):
        return repair(vault, **how)


def rows(world):
    with world.open() as vault:
        return {(row.path, row.object_id, row.PatientID, row.StudyInstanceUID, row.size,
                 row.object_size, row.core_digest, row.generation)
                for _, row in vault.catalogue.rows()}


def objects(world):
    return sorted((world.path / "objects").rglob("*.dcmx"))


def test_a_whole_vault(world):
    assert check(world, notes=True) == []
    seen = []
    with world.open(catalogue=False) as vault:
        looked = Check(vault, progress=lambda done, total: seen.append((done, total)))
        assert list(looked.run()) == []
        assert looked.checked == len(world.files()) - 1  # one is stored once
    assert seen[-1] == (looked.checked, looked.checked)


def test_in_several_processes(world, monkeypatch):
    from dicomcrypt.vault import checking

    monkeypatch.setattr(checking, "_FEW", 1)
    objects(world)[0].write_bytes(b"nothing of the kind")
    assert check(world, jobs=2) == ["damaged"]


def test_objects_that_are_not_right(world, tmp_path):
    one, two, three, four = objects(world)[:4]
    before = rows(world)
    one.unlink()
    shutil.copy(three, two)
    with open(four, "ab") as file:
        file.write(b"x")
    assert check(world) == ["damaged", "missing", "other"]
    done = mend(world, aside=str(tmp_path / "aside"))
    assert len(done.aside) == 2
    assert [finding.kind for finding in done.left] == ["missing"]
    assert check(world) == ["missing"]
    assert sorted(os.listdir(tmp_path / "aside")) == sorted((two.name, four.name))
    done = mend(world, drop_missing=True)
    assert done.dropped >= 1
    assert check(world) == []
    gone = {bytes.fromhex(path.stem) for path in (one, two, four)}
    assert rows(world) == {row for row in before if row[1] not in gone}


def test_damaged_objects_go_below_the_vault_by_default(world):
    path = objects(world)[0]
    path.write_bytes(path.read_bytes()[:-5])
    assert mend(world).aside == [f"damaged/{path.name}"]
    assert check(world, notes=True) == []
    whole = objects(world)[0]
    done = mend(world, damaged=[object_name(bytes.fromhex(whole.stem))])
    assert done.aside == [f"damaged/{whole.name}"]
    assert check(world, notes=True) == []


def test_objects_of_another_record(world):
    with world.open() as vault:
        (one,) = find_record(vault, patient="P1")
        (two,) = find_record(vault, patient="P2")
        row = next(row for _, row in vault.catalogue.rows([one]))
        vault.catalogue.append({one: [row.removed()], two: [row]})
    assert check(world) == ["record"]


def test_old_headers_are_noticed(world):
    from dicomcrypt.objects.rewrap import rewrap_path

    path = objects(world)[0]
    old = path.read_bytes()
    with world.open() as vault:
        rewrap_path(path, [vault.identity], add=[world.identity.recipient], allow_classical=True)
        (record, row), *_ = vault.catalogue.object(bytes.fromhex(path.stem))
        row.generation += 1
        vault.catalogue.append({record: [row]})
    assert check(world) == []
    path.write_bytes(old)
    assert check(world) == ["old"]
    assert [finding.kind for finding in mend(world).left] == ["old"]
    assert mend(world, accept_old=True).left == []
    assert check(world) == []


def test_objects_without_rows_get_them_again(world):
    before = rows(world)
    with world.open() as vault:
        found = [pair for pair in vault.catalogue.rows() if pair[1].path == b"tree/p1-1.dcm"]
        (record, row), = found
        vault.catalogue.append({record: [row.removed()]})
    assert check(world) == ["orphan"]
    assert mend(world).adopted == 1
    assert check(world, notes=True) == []
    assert rows(world) == before


def test_a_second_object_of_one_file_goes(world):
    """Under the same path in the same record, every byte being the same."""
    with world.open() as vault:
        rows_ = [(r, row) for r, row in vault.catalogue.rows() if row.path == b"tree/p1-1.dcm"]
        (world.tree / "p1-1.dcm").touch()
        world.add(vault, dedupe=False)
        more = [(r, row) for r, row in vault.catalogue.rows() if row.path == b"tree/p1-1.dcm"
                and row.object_id != rows_[0][1].object_id]
        vault.catalogue.append({record: [row.removed()] for record, row in more})
    assert check(world) == ["orphan"] * len(more)
    before = len(objects(world))
    done = mend(world)
    assert (done.adopted, done.removed) == (0, len(more))
    assert len(objects(world)) == before - len(more)
    assert check(world, notes=True) == []


def test_what_a_cut_add_left_is_known_when_it_is_given_again(world, monkeypatch):
    """Its journal goes; objects that got rows from `repair` are not stored twice."""
    from dicomcrypt.vault import adding

    world.plant("more", 3)
    with world.open() as vault:
        with monkeypatch.context() as patched:
            patched.setattr(adding._Book, "save", lambda book: None)
            world.add(vault)
    journals = list(world.folder.glob("vault.*.dcmx-journal"))
    for number in range(2):  # of a tree that is never added again
        other = world.folder / f"vault.{number:016x}.dcmx-journal"
        other.touch()
        journals.append(other)
    part = world.path / "objects" / "00" / f".dcmx-{18 * '0'}.part"
    part.touch()
    assert "orphan" in check(world)
    assert {"journal", "parts"} <= {*check(world, notes=True)}
    done = mend(world)
    assert done.adopted >= 3
    assert not [path for path in (*journals, part) if path.exists()]
    assert check(world, notes=True) == []
    before = len(objects(world))
    with world.open() as vault:
        assert {o.state for o in world.add(vault)} == {"skipped"}
    assert len(objects(world)) == before
    assert check(world, notes=True) == []


def test_objects_of_erased_records_are_told_apart(world):
    with world.open() as vault:
        (record,) = find_record(vault, patient="P1")
        (_, row), *_ = vault.catalogue.rows([record])
        name = object_name(row.object_id)
        data = vault.store.read(name)
        with vault.lease("erase"):
            erase(vault, [record])
        vault.store.put_new(name, data)
    assert check(world) == []
    assert check(world, notes=True) == ["erased"]
    mend(world)
    assert check(world, notes=True) == ["erased"]
    assert mend(world, remove_erased=True).removed == 1
    assert check(world, notes=True) == []


@pytest.mark.parametrize("what", ["head", "segment", "all", "old head"])
def test_the_catalogue_comes_back_from_the_objects(world, what):
    with world.open() as vault, vault.lease("merge"):
        merge(vault, find_record(vault, patient="P2"), find_record(vault, patient="P0"))
    before = rows(world)
    head = world.path / "catalogue/head"
    (segment, *_) = (world.path / "catalogue").glob("*.seg")
    if what == "head":
        head.write_bytes(head.read_bytes()[:-1] + b"\0")
    elif what == "segment":
        segment.write_bytes(segment.read_bytes()[:-1] + b"\0")
    elif what == "all":
        shutil.rmtree(world.path / "catalogue")
    else:
        old = head.read_bytes()
        with world.open() as vault:
            world.plant("late", 1)
            world.add(vault)
        before = rows(world)
        head.write_bytes(old)
    assert check(world) == ["segment" if what == "segment" else "head"]
    os.path.exists(f"{world.path}.cache") and os.unlink(f"{world.path}.cache")
    done = mend(world)
    assert done.left  # nothing is written anew unasked
    done = mend(world, rebuild=True)
    assert not done.left
    assert check(world, notes=True) == []
    # Only the second path of what is stored once stood nowhere else.
    stays = {row for row in before if row[0] not in (b"tree/copy.dcm", b"tree/p0-0.dcm")}
    assert stays <= rows(world)
    with world.open() as vault:
        assert {*find_record(vault, patient="P0")} == {*find_record(vault, patient="P2")}
        with vault.lease("erase"):
            done = erase(vault, find_record(vault, patient="P2"))
        assert done.objects == 2 * world.each
    assert check(world) == []


def test_a_rebuilt_catalogue_keeps_second_paths_if_it_can_be_read(world):
    before = rows(world)
    assert mend(world, rebuild=True).rebuilt == len(before)
    assert rows(world) == before


def test_strays(world):
    (world.path / "objects/zz").mkdir()
    (world.path / "objects/zz/patient-jones.dcm").write_bytes(b"?")
    (world.path / "catalogue" / ("0" * 32 + ".seg")).write_bytes(b"?")
    assert check(world) == ["stray"]
    assert check(world, notes=True) == ["segment", "stray"]
    assert [finding.kind for finding in mend(world).left] == ["stray"]
    assert check(world, notes=True) == ["stray"]


def test_what_repair_is_given_is_looked_at_first(world):
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        with pytest.raises(UsageError, match="lies in the vault"):
            repair(vault, aside=str(world.path / "objects"))
        with pytest.raises(UsageError, match="has no"):
            repair(vault, damaged=[object_name(bytes(16))])


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("size", [50_000, 5 << 20])
def test_whose_a_file_is_may_stand_far_behind(world, deflated, size):
    """Elements before the Patient ID are as long as they like to be."""
    path = world.tree / "far.dcm"
    write_dicom(path, "FAR", 1, 1)
    data = pydicom.dcmread(path)
    data.add_new(0x00090010, "LO", "somebody")
    data.add_new(0x00091001, "OB", os.urandom(size))
    if deflated:
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    with world.open() as vault:
        world.add(vault)
        found = find_record(vault, patient="FAR")
    mend(world, rebuild=True)
    with world.open() as vault:
        assert find_record(vault, patient="FAR") == found
        assert len(list(vault.catalogue.rows(found))) == 1
