"""Copies of a vault's key table: made while others write, put back, and what they bring back."""

import os
import pathlib
import shutil
import threading
import time

import pytest
from vault_world import World

from dicomcrypt.errors import NoIdentityError, OutputExistsError, UsageError
from dicomcrypt.keys import keyfile
from dicomcrypt.keytable import KeyTable
from dicomcrypt.vault import backups, holds
from dicomcrypt.vault.backups import backup_keys, restore_keys
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.rekeying import rewrap_deep
from dicomcrypt.vault.repairing import repair
from dicomcrypt.vault.selecting import find_record
from dicomcrypt.vault.vault import Vault, read_header


def restore(world, source, *, force=False):
    store, vault_id = read_header(world.path)
    return restore_keys(
        store, vault_id, world.keys_path, str(source),
        lambda table, strict: table.unlock(identities=[world.identity], strict=strict),
        force=force,
    )  # fmt: skip


def copy_of(world, name="copy.keys", **how):
    with world.open() as vault:
        return backup_keys(vault, str(world.folder / name), **how)


def wrong(world):
    with world.open(catalogue=False) as vault:
        return [finding.kind for finding in Check(vault).run() if finding.wrong]


def erase_patient(world, patient):
    with world.open() as vault, vault.lease("erase"):
        return erase(vault, find_record(vault, patient=patient))


def test_a_copy_opens_as_the_table_did(world):
    made = copy_of(world)
    assert os.stat(made.place).st_mode & 0o777 == 0o600
    with Vault.open(world.path, keys_path=made.place, identities=[world.identity]) as vault:
        assert vault.keys.table.counter == made.counter
        assert len(list(vault.catalogue.rows())) == len(world.files())
    with world.open() as vault:
        assert backups.backups(vault.keys) == [made]
        with pytest.raises(OutputExistsError):
            backup_keys(vault, made.place)
        with pytest.raises(UsageError, match="does not lie in the vault"):
            backup_keys(vault, str(world.path / "x"))
        again = backup_keys(vault, made.place, force=True)
        backups.forget_backup(vault.keys, made.id)
        with pytest.raises(UsageError):
            backups.forget_backup(vault.keys, made.id)
        assert backups.backups(vault.keys) == [again]
        for error, place in ((UsageError, "none/x"), (OSError, "x" * 300)):
            with pytest.raises(error):
                backup_keys(vault, str(world.folder / place))
        assert backups.backups(vault.keys) == [again]


def test_a_copy_takes_the_place_of_nothing_that_is_in_use(world):
    with world.open() as vault:
        before = pathlib.Path(world.keys_path).read_bytes()
        for place in (*vault.private_paths[1:], vault.private_paths[0] + "/x"):
            with pytest.raises(UsageError):
                backup_keys(vault, place, force=True)
        assert not backups.backups(vault.keys)
    link = world.folder / "link"
    link.symlink_to(world.keys_path)
    with world.open() as vault, pytest.raises(UsageError, match="the vault's own"):
        backup_keys(vault, str(link), force=True)
    with pytest.raises(UsageError, match="the present key table"):
        restore(world, link, force=True)
    assert pathlib.Path(world.keys_path).read_bytes() == before


def test_a_copy_is_consistent_while_others_write(world):
    stop = threading.Event()

    def write():
        with world.open(catalogue=False) as vault:
            while not stop.is_set():
                vault.keys.new_record_key()
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            made = copy_of(world, f"copy{number}")
            with KeyTable(made.place).unlock(identities=[world.identity]) as table:
                table.check()
    finally:
        stop.set()
        writer.join()


def test_a_lost_table_comes_back(world):
    made = copy_of(world)
    os.unlink(world.keys_path)
    done = restore(world, made.place)
    assert (done.keys, done.buried, done.aside) == (5, 0, None)
    assert not wrong(world)
    with world.open() as vault:
        world.plant("late", 2)
        world.add(vault)
    assert not wrong(world)


@pytest.mark.parametrize("present", [True, False])
def test_no_copy_of_before_a_restoration_is_said_to_hold_what_came_after(world, present):
    made = copy_of(world)
    if not present:
        os.unlink(world.keys_path)
    restore(world, made.place)
    with world.open() as vault:
        found = backups.backups(vault.keys)
        assert len(found) == 1 + present
        assert all(backup.change is not None for backup in found)
        old = find_record(vault, patient="P1")
        assert backups.holding(vault.keys, old) == found
        world.plant("late", 1, patient="P7", study=7)
        world.add(vault)
        assert backups.holding(vault.keys, find_record(vault, patient="P7")) == []


@pytest.mark.parametrize("present", [True, False])
def test_what_was_erased_stays_erased(world, present):
    made = copy_of(world)
    erase_patient(world, "P1")
    with world.open() as vault:
        holds.hold(vault, find_record(vault, patient="P2"), "court")
    if not present:
        os.unlink(world.keys_path)
    done = restore(world, made.place)
    assert (done.keys, done.buried, done.accesses) == (5, 1, ("who",))
    assert (done.aside is not None) == present
    with world.open() as vault:
        assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
        assert len(holds.holds(vault.keys)) == present
        with pytest.raises(UsageError):
            find_record(vault, patient="P1")
    assert not wrong(world)


def test_what_was_erased_after_rewraps_stays_erased(world):
    """Copies of before have keys of the record that others took the places of."""
    made = [copy_of(world, "first.keys")]
    shutil.copytree(world.path, world.folder / "before")
    for name in ("second.keys", "third.keys"):
        with world.open() as vault:
            assert all(o.state == "done" for o in rewrap_deep(vault))
        made.append(copy_of(world, name))
    done = erase_patient(world, "P1")
    assert len(done.records) == 3
    assert len(done.backups) == 3
    for backup in made:
        assert restore(world, backup.place, force=True).buried == 1
        with world.open(catalogue=False) as vault:
            assert all(vault.keys.record_key(key) is None for key in done.records)
    restore(world, made[0].place, force=True)
    shutil.rmtree(world.path)
    (world.folder / "before").rename(world.path)
    with world.open(catalogue=False) as vault, vault.lease("repair"):
        repair(vault, rebuild=True)
    with world.open() as vault:
        assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
        assert list(vault.catalogue.rows(query={"PatientID": "P2"}))


def test_an_old_table_that_was_copied_over_is_noticed(world):
    made = copy_of(world)
    erase_patient(world, "P1")
    shutil.copy(made.place, world.keys_path)
    assert "revived" in wrong(world)
    with world.open(catalogue=False) as vault, vault.lease("repair", finish=False):
        done = repair(vault)
    assert done.buried == 1
    assert not wrong(world)
    with world.open() as vault:
        assert not list(vault.catalogue.rows(query={"PatientID": "P1"}))
        assert list(vault.catalogue.rows(query={"PatientID": "P2"}))


def test_keys_are_not_lost_unasked(world):
    made = copy_of(world)
    with world.open() as vault:
        world.plant("late", 2, patient="P7", study=7)
        world.add(vault)
    with pytest.raises(UsageError, match="would be lost"):
        restore(world, made.place)
    done = restore(world, made.place, force=True)
    assert done.lost >= 1
    assert {*wrong(world)} == {"keyless"}
    restore(world, done.aside)
    assert not wrong(world)


def test_a_damaged_table_is_put_aside(world):
    made = copy_of(world)
    with open(world.keys_path, "r+b") as file:
        file.seek(100)
        file.write(bytes(4000))
    with pytest.raises(UsageError, match="--force"):
        restore(world, made.place)
    done = restore(world, made.place, force=True)
    assert os.path.exists(done.aside)
    with world.open() as vault:
        assert done.aside in {found.place for found in backups.backups(vault.keys)}
    assert done.aside in {found.place for found in erase_patient(world, "P1").backups}
    assert not wrong(world)


def test_of_another_vault_nothing_is_taken(world, tmp_path):
    made = copy_of(world)
    (tmp_path / "b").mkdir()
    other = World(tmp_path / "b", each=1)
    with pytest.raises(NoIdentityError):
        restore(other, made.place)
    with other.open() as vault:
        vault.keys.table.grant("mine", world.identity.recipient)
    other.identity = world.identity
    with pytest.raises(UsageError, match="another vault"):
        restore(other, made.place)


def test_after_a_rotation_older_copies_count_for_older_keys(world):
    from dicomcrypt.vault.recipients import add

    made = copy_of(world)
    second = keyfile.ALGORITHMS["x25519"].generate()
    with world.open() as vault:
        add(vault.keys, "second", second.recipient)
        vault.remove_recipients(["second"])
        assert backups.backups(vault.keys) == [made]
        old = find_record(vault, patient="P1")
        assert [b.id for b in backups.holding(vault.keys, old)] == [made.id]
        world.plant("late", 1, patient="P7", study=7)
        world.add(vault)
        assert not backups.holding(vault.keys, find_record(vault, patient="P7"))
    erase_patient(world, "P1")
    assert not wrong(world)
