"""Erasing records: what is left, what keeps it from happening, and every crash on the way."""

import pathlib
import shutil
import time

import pytest
from vault_crash import Crasher
from vault_world import write_dicom

from dicomcrypt.container.reader import Container
from dicomcrypt.errors import DamagedError, NoIdentityError, PolicyError, UsageError
from dicomcrypt.objects.buffers import FileSource
from dicomcrypt.vault import backups, holds
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.erasing import erase, erasures, seal_erasure
from dicomcrypt.vault.keys import TOMBSTONE
from dicomcrypt.vault.merging import merge
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.selecting import find_record
from dicomcrypt.vault.vault import Vault


def erase_patient(vault, patient, **how):
    with vault.lease("erase"):
        return erase(vault, find_record(vault, patient=patient, **how))


def wrong(world) -> list:
    with world.open(catalogue=False) as vault:
        return [finding for finding in Check(vault).run() if finding.wrong]


def all_bytes(folder) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(pathlib.Path(folder).rglob("*"))
                    if p.is_file() and "tree" not in p.parts and "copy" not in p.parts)


def test_no_byte_of_the_key_is_left(world):
    with world.open() as vault:
        (record,) = find_record(vault, patient="P1")
        key = vault.keys.record_key(record)
        row = vault.keys.table._store.get("entries", record)
        cache = vault.keys.cache_key()
        vault.catalogue.save_cache()
        derived = vault.keys.row_key(record)
        assert row in all_bytes(world.folder)
        # What a killed change of recipients and a killed copy leave.
        shutil.copy(world.keys_path, f"{world.keys_path}.new")
        lost = backups.Backup(bytes(16), 1, (1 << 63) - 1, str(world.folder / "lost"), bytes(16))
        backups._replace(vault.keys, lost)
        shutil.copy(world.keys_path, f"{lost.place}.part")
        done = erase_patient(vault, "P1")
        assert done.objects == world.each
        assert done.records == [record]
        assert [backup.id for backup in done.backups] == [lost.id]
        assert vault.keys.table.info(record).kind == TOMBSTONE
        assert vault.keys.cache_key() != cache
        with pytest.raises(UsageError, match="no such record"):
            find_record(vault, patient="P1")
    data = all_bytes(world.folder)
    for secret in (key, row, row[-60:], derived):
        pieces = {secret[at : at + 16] for at in range(0, len(secret) - 15, 8)}
        # generation and kind in front of a row are those of others, too
        assert not any(piece in data for piece in pieces - {row[:16], row[8:24]}), secret
    assert b"Name^P1" not in all_bytes(world.folder)
    assert not wrong(world)


def test_what_is_deduplicated_goes_with_its_record(world):
    with world.open() as vault:
        objects = {r.object_id for _, r in vault.catalogue.rows(find_record(vault, patient="P0"))}
        assert len(objects) == world.each  # p0-0 and copy are one
        assert erase_patient(vault, "P0").objects == world.each
        assert not list(vault.catalogue.rows(query={"PatientID": "P0"}))
        assert not any(vault.catalogue.object(found) for found in objects)
    assert not wrong(world)


def test_copies_of_objects_and_catalogue_are_noise(world, tmp_path):
    """With the present key table; with a copy of it from before they are not, and it is named."""
    before = world.backup()
    with world.open() as vault:
        place = tmp_path / "safe" / "copy.keys"
        place.parent.mkdir()
        copy = backups.backup_keys(vault, str(place))
        late = find_record(vault, patient="P2")
        done = erase_patient(vault, "P1")
        assert [found.id for found in done.backups] == [copy.id]
        world.plant("new", 2, patient="P7", study=7)
        world.add(vault)
        assert not backups.holding(vault.keys, find_record(vault, patient="P7"))
        assert backups.holding(vault.keys, late)
        identity, closed = vault.identity, 0
        for path in before.rglob("*.dcmx"):
            container = Container(FileSource(path))
            try:
                container.unlock([identity])
            except NoIdentityError:
                closed += 1
        assert closed == world.each
        objects = {p.stem for p in before.rglob("*.dcmx")}
    # The catalogue from before, under the present key table: not accepted as it is, and mute.
    shutil.rmtree(world.path)
    shutil.copytree(before, world.path)
    with pytest.raises(DamagedError, match="old copy"):
        world.open()
    with world.open(catalogue=False) as vault:
        vault.keys.put_document("state", {0: 0})
    with world.open() as vault:
        assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
        assert list(vault.catalogue.rows(query={"PatientID": "P2"}))
    # With the copy of the key table everything opens: that is why it is named.
    with Vault.open(before, keys_path=str(place), identities=[world.identity]) as vault:
        found = {row.object_id.hex() for _, row in vault.catalogue.rows(query={"PatientID": "P1"})}
        assert found <= objects
        assert len(found) == world.each
        for path in before.rglob("*.dcmx"):
            Container(FileSource(path)).unlock([vault.identity])


def test_each_crash_of_an_erasure(world, monkeypatch, tmp_path):
    safe = tmp_path / "copy"
    shutil.copytree(world.path, safe / "vault")
    shutil.copy(world.keys_path, safe / "keys")
    crasher = Crasher(monkeypatch)
    with world.open() as vault:
        erase_patient(vault, "P1")
    steps = crasher.count
    assert steps >= 2 + 1 + world.each + 2 + 1 + 1, crasher.log
    for at in range(steps):
        shutil.rmtree(world.path)
        shutil.copytree(safe / "vault", world.path)
        shutil.copy(safe / "keys", world.keys_path)
        with world.open(catalogue=False) as vault:
            (key_id,) = [i.id for i in vault.keys.table.labels() if i.id == keys_of(world)[0]]
        crasher.count, crasher.at = 0, at
        with crasher.dying():
            with world.open() as vault:
                erase_patient(vault, "P1")
        # another process opens it: readable or erased, nothing between; the next writer ends it
        with world.open() as vault:
            pending = vault.keys.document("erasing") is not None
            gone = vault.keys.record_key(key_id) is None
            assert len(list(vault.catalogue.rows(query={"PatientID": "P1"}))) == (
                0 if gone else world.each)
            with vault.lease("next"):
                assert bool(vault.ended) == pending
                if not gone:
                    erase(vault, find_record(vault, patient="P1"))
            assert vault.keys.document("erasing") is None
            assert len(list(erasures(vault.store, vault.keys))) == 1
            assert len(list(vault.catalogue.rows(query={"PatientID": "P2"}))) == world.each
        assert not wrong(world), at
        objects = list((world.path / "objects").rglob("*.dcmx"))
        assert len(objects) == 2 * world.each + 2
        assert not list(world.path.rglob("*.part"))


def keys_of(world, patient="P1"):
    with world.open() as vault:
        return find_record(vault, patient=patient)


def test_each_crash_of_a_compaction(world, monkeypatch, tmp_path):
    with world.open() as vault:
        for number in range(3):
            world.plant(f"more{number}", 2)
            world.add(vault)
        rows = sorted((row.path, row.object_id) for _, row in vault.catalogue.rows())
    safe = tmp_path / "copy"
    shutil.copytree(world.path, safe / "vault")
    shutil.copy(world.keys_path, safe / "keys")
    crasher = Crasher(monkeypatch)
    with world.open() as vault, vault.lease("compact"):
        assert len(vault.catalogue.head.segments) == 4
        assert vault.catalogue.compact(full=True)
        assert len(vault.catalogue.head.segments) == 1
    for at in range(crasher.count):
        shutil.rmtree(world.path)
        shutil.copytree(safe / "vault", world.path)
        shutil.copy(safe / "keys", world.keys_path)
        crasher.count, crasher.at = 0, at
        with crasher.dying():
            with world.open() as vault, vault.lease("compact"):
                vault.catalogue.compact(full=True)
        assert not wrong(world), at
        with world.open() as vault, vault.lease("compact"):
            vault.catalogue.compact(full=True)
            assert sorted((row.path, row.object_id) for _, row in vault.catalogue.rows()) == rows
            assert len(list(vault.store.list("catalogue/"))) == 2
        assert not wrong(world), at


def test_holds(world):
    with world.open() as vault:
        record = find_record(vault, study="1.2.826.2.2")
        assert record == find_record(vault, patient="P1")
        holds.hold(vault, record, "court")
        holds.hold(vault, record, "audit-7")
        with pytest.raises(PolicyError, match=r"held \(audit-7, court\)"):
            erase_patient(vault, "P1")
        holds.release(vault, record, "court")
        with pytest.raises(UsageError):
            holds.release(vault, record, "court")
        with pytest.raises(PolicyError):
            erase_patient(vault, "P1")
        # A key that is added later is held, too.
        vault.keys.new_generation()
        world.plant("late", 1)
        world.add(vault)
        assert len(find_record(vault, patient="P1")) == 2
        with pytest.raises(PolicyError):
            erase_patient(vault, "P1")
        holds.release(vault, record, "audit-7")
        assert len(erase_patient(vault, "P1").records) == 2
        with pytest.raises(UsageError, match="code"):
            holds.hold(vault, record, "Jane Doe")
    assert b"court" not in all_bytes(world.folder)


def test_retention(world):
    with world.open() as vault:
        holds.set_default(vault.keys, holds.parse_span("10y"))
        with pytest.raises(PolicyError, match="to be kept until"):
            erase_patient(vault, "P1")
        record = find_record(vault, patient="P1")
        holds.set_retention(vault.keys, record, int(time.time()) - 1)
        assert erase_patient(vault, "P1").objects == world.each
        assert not holds.retentions(vault.keys)
        holds.set_retention(vault.keys, find_record(vault, patient="P2"),
                            holds.parse_until("2999-12-31"))
        with pytest.raises(PolicyError, match="2999-12-31"):
            erase_patient(vault, "P2")
        write_dicom(world.tree / "old.dcm", "P8", 8, 1, StudyDate="19990101")
        world.add(vault)
        assert erase_patient(vault, "P8").objects == 1
    for text in ("10", "x", "0d", "1999-13-01"):
        with pytest.raises(UsageError):
            holds.parse_until(text)


def test_merged_records_are_one(world):
    with world.open() as vault:
        one, into = find_record(vault, patient="P1"), find_record(vault, patient="P2")
        with vault.lease("merge"):
            assert merge(vault, one, into) == world.each
            assert merge(vault, one, find_record(vault, patient="P2")) == 0
        assert {*find_record(vault, patient="P1")} == {*one, *into}
        assert len(list(vault.catalogue.rows(query={"PatientID": "P2"}))) == 2 * world.each
        patients = [p["PatientID"] for p in vault.catalogue.listing("patient")]
        assert patients.count("P2") == 1
        assert "P1" not in patients
    assert not wrong(world)
    with world.open() as vault:
        vault.keys.new_generation()
        world.plant("late", 1, patient="P1")
        world.add(vault)
        whole = find_record(vault, patient="P2")
        assert len(whole) == 3
        assert {*one, *into} < {*whole}
        done = erase_patient(vault, "P2")
        assert done.objects == 2 * world.each + 1
        assert len(done.records) == 3
    assert not wrong(world)


def test_which_record_is_meant(world):
    for issuer in ("A", "B"):
        write_dicom(world.tree / f"{issuer}.dcm", "SAME", f"5{ord(issuer)}", 1, issuer=issuer)
    with world.open() as vault:
        world.add(vault)
        with pytest.raises(UsageError, match="--issuer"):
            find_record(vault, patient="SAME")
        one = find_record(vault, patient="SAME", issuer="A")
        other = find_record(vault, patient="SAME", issuer="B")
        assert one != other
        with pytest.raises(UsageError):
            find_record(vault, patient="SAME", issuer="C")
        with pytest.raises(UsageError):
            find_record(vault)
        assert find_record(vault, key_id=one[0]) == one
        assert find_record(vault, study="1.2.826.2.9")
        with vault.lease("merge"):
            merge(vault, one, other)
        assert {*find_record(vault, patient="SAME")} == {*one, *other}


def test_the_journal_of_erasures(world):
    with world.open() as vault:
        done = erase_patient(vault, "P1")
        name = f"erased/{done.id.hex()}"
        data = vault.store.read(name)
        assert done.records[0] not in data
        assert len(data) < 200
        assert list(erasures(vault.store, vault.keys)) == [(name, done.records)]
        vault.store.replace(name, data[:-1] + bytes([data[-1] ^ 1]))
        assert list(erasures(vault.store, vault.keys)) == [(name, None)]
        vault.store.replace(name, seal_erasure(vault.keys, done)[:20])
        assert list(erasures(vault.store, vault.keys)) == [(name, None)]
    assert {finding.kind for finding in wrong(world)} == {"erasure"}


@pytest.mark.parametrize("lost", [True, False])
def test_a_note_that_is_lost_is_made_again(world, lost):
    with world.open() as vault:
        records = erase_patient(vault, "P1").records
        (name,) = vault.store.list("erased/")
        if lost:
            vault.store.delete(name)
        else:
            vault.store.replace(name, b"noise")
    assert {finding.kind for finding in wrong(world)} == {"erasure"}
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        assert not repair(vault).left
        assert [found for _, found in erasures(vault.store, vault.keys)] == [records]
    assert not wrong(world)
