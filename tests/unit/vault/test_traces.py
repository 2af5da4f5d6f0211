"""What is left of a record that was erased, and what a listing of the folder tells.

Every byte string in which the record's key was ever sealed is remembered, and looked for in all
files afterwards."""

import os
import pathlib

import pytest
from vault_world import World

from dicomcrypt.container.reader import Container
from dicomcrypt.errors import DicomcryptError, NoIdentityError
from dicomcrypt.keys import keyfile
from dicomcrypt.keytable.seals import Seals
from dicomcrypt.objects.buffers import FileSource
from dicomcrypt.vault import adding
from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.erasing import erase
from dicomcrypt.vault.merging import merge
from dicomcrypt.vault.recipients import add as add_recipient
from dicomcrypt.vault.selecting import find_record
from dicomcrypt.vault.stanza import VaultIdentity

PIECE = 8


class Watched:
    """Remembers each sealed row of the key table that has a key in it."""

    def __init__(self, monkeypatch) -> None:
        self.rows: list[tuple[bytes, bytes]] = []
        seal = Seals.seal

        def watching(seals, purpose, name, head, content):
            sealed = seal(seals, purpose, name, head, content)
            if purpose == b"entry":
                self.rows.append((content[:32], sealed))
            return sealed

        monkeypatch.setattr(Seals, "seal", watching)

    def of(self, keys) -> list[bytes]:
        return [sealed for key, sealed in self.rows if key in keys]


def files(folder) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()
            and "tree" not in path.parts and "kept" not in path.parts}


def left(folder, secrets) -> set[str]:
    """Names of files that have any eight bytes in a row of one of these."""
    pieces = {s[at : at + PIECE] for s in secrets for at in range(len(s) - PIECE + 1)}
    found = set()
    for path, data in files(folder).items():
        if pieces & {data[at : at + PIECE] for at in range(len(data) - PIECE + 1)}:
            found.add(path.name)
    return found


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


def test_no_piece_of_the_key_is_left_anywhere(tmp_path, watched, monkeypatch):
    """After the vault has had a change of recipients, a merge, a killed add with its journal, a
    killed copy of the table, and a cache: nothing of the key, of what is derived from it, and of
    any row in which it was ever sealed."""
    world = World(tmp_path, each=2)
    with world.open() as vault:
        world.add(vault)
        add_recipient(vault.keys, "second",
                      keyfile.ALGORITHMS["x25519"].generate().recipient)
        vault.remove_recipients(["second"])  # a new table, and a new key for what comes
        world.plant("late", 2)
        world.add(vault)
        with vault.lease("merge"):
            merge(vault, find_record(vault, patient="P2"), find_record(vault, patient="P1"))
        world.plant("cut", 2)
        with monkeypatch.context() as patched:
            patched.setattr(adding._Book, "take", lambda *_: iter(()))
            world.add(vault)
        vault.catalogue.save_cache()
        records = find_record(vault, patient="P1")
        assert len(records) == 3
        keys = [vault.keys.record_key(record) for record in records]
        secrets = [*keys, vault.keys.cache_key()]
        for record in records:
            secrets += [vault.keys.row_key(record), vault.keys.dedupe_key(record)]
        # The search finds what is there.
        rows = watched.of(keys)
        assert len(rows) >= 5  # two of them twice, in both tables
        assert left(tmp_path, rows) == {"vault.keys"}
        with vault.lease("erase"):
            erase(vault, records)
        assert not left(tmp_path, [*secrets, *watched.of(keys)])
    assert not left(tmp_path, [*secrets, *watched.of(keys)])


def test_a_backup_from_before_stays_noise(tmp_path, watched):
    """Objects and catalogue of a backup, with every key that the table still has: nothing of the
    record, as a row or a file, whoever tries."""
    world = World(tmp_path, each=2)
    with world.open() as vault:
        world.add(vault)
    world.backup("kept")
    with world.open() as vault:
        (record,) = find_record(vault, patient="P1")
        key = vault.keys.record_key(record)
        objects = {row.object_id.hex() for _, row in vault.catalogue.rows([record])}
        with vault.lease("erase"):
            erase(vault, [record])
        left_keys = [vault.keys.table.get(info.id) for info in vault.keys.table.labels()]
        assert key not in left_keys
    assert len(objects) == world.each
    with world.open() as vault:
        identity = vault.identity
        for path in (tmp_path / "kept").rglob("*.dcmx"):
            if path.stem not in objects:
                continue
            with pytest.raises(NoIdentityError):
                Container(FileSource(path)).unlock([identity])
            for other in left_keys:
                guess = VaultIdentity(vault.keys.vault_id,
                                      lambda g: vault.keys.derive(g, "stanza"),
                                      lambda _, k=other: k)
                with pytest.raises(DicomcryptError):
                    Container(FileSource(path)).unlock([guess])
            # and with the key it would open: it is that key alone that is missing
            right = VaultIdentity(vault.keys.vault_id, lambda g: vault.keys.derive(g, "stanza"),
                                  lambda _: key)
            Container(FileSource(path)).unlock([right])


def test_a_listing_does_not_tell_what_belongs_together(tmp_path):
    """Two patients' files of one size: neither sizes nor times of the objects differ. Their names
    are drawn by chance."""
    world = World(tmp_path, each=2)
    for path in world.tree.iterdir():
        path.unlink()
    for patient in ("A1", "A2"):
        world.plant(patient, 12, patient=patient, study=int(patient[1]))
    with world.open() as vault:
        assert all(o.state == "done" for o in add_tree(vault, str(world.tree), AddOptions()))
        whose = {row.object_id.hex(): row.PatientID for _, row in vault.catalogue.rows()}
    found = [*(world.path / "objects").rglob("*.dcmx")]
    assert len(found) == 24
    day = 86400 * 10**9
    times = {path.stat().st_mtime_ns for path in found}
    assert not any(time % day for time in times)
    assert max(times) - min(times) in (0, day)  # at midnight two
    sizes = {patient: sorted(p.stat().st_size for p in found if whose[p.stem] == patient)
             for patient in ("A1", "A2")}
    assert sizes["A1"] == sizes["A2"]
    # Besides objects there are catalogue segments, which have names by chance, too.
    names = {os.fspath(p.relative_to(world.path).parent) for p in world.path.rglob("*")
             if p.is_file() and p.suffix != ".dcmx"}
    assert names == {".", "spec", "catalogue"}
