"""A vault as a whole: files in and out; and stores that somebody changed."""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import subprocess
import sys

import pytest
from vault_trees import add, contents, restore

from dicomcrypt.errors import (
    JobBusyError,
    NoIdentityError,
    OutputExistsError,
    UsageError,
)
from dicomcrypt.keys import keyfile
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault import lease
from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.getting import get, verify
from dicomcrypt.vault.lease import Lease
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.rekeying import rewrap_deep
from dicomcrypt.vault.vault import Vault, object_name


@pytest.mark.parametrize("jobs", [1, 2])
def test_everything_comes_back_byte_for_byte(opened, tree, tmp_path, jobs):
    os.symlink("CT_small.dcm", tree / "link")
    os.utime(tree / "rtplan.dcm", ns=(10**18, 10**18 + 7))
    outcomes = add(opened, tree, jobs)
    assert {o.state for o in outcomes} == {"done"}
    restore(opened, tmp_path / "back", jobs)
    back = tmp_path / "back" / tree.name
    assert contents(back) == contents(tree)
    assert os.readlink(back / "link") == "CT_small.dcm"
    assert os.stat(back / "rtplan.dcm").st_mtime_ns == 10**18 + 7
    assert {o.state for o in verify(opened, select(opened), jobs)} == {"done"}
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*dcmx-journal"))


def test_the_corpus_comes_back(opened, corpus, tmp_path):
    """Every real file, corrupt ones included."""
    root = tmp_path / "in"
    root.mkdir()
    for number, path in enumerate(corpus):
        if path.stat().st_size < 2 << 20:
            shutil.copy(path, root / f"{number:04}")
    add(opened, root, 2)
    restore(opened, tmp_path / "back", 2)
    assert contents(tmp_path / "back" / "in") == contents(root)


def test_works_in_spawned_workers(opened, tree, tmp_path):
    add(opened, tree, 2, start_method="spawn")
    assert restore(opened, tmp_path / "back") == {
        f"{tree.name}/{name}": data for name, data in contents(tree).items()
    }


def test_the_listing_tells_nothing(opened, made, tree, tmp_path):
    add(opened, tree)
    assert opened.catalogue.stats()["patients"] >= 3
    names = [os.fspath(p.relative_to(made)) for p in made.rglob("*")]
    words = {"doe", "jane", "ct_small", "readme.txt", "again"}
    for _, row in opened.catalogue.rows():
        words |= {str(value).lower() for value in (row.PatientID, row.PatientName,
                                                   row.StudyInstanceUID) if value}
    for path in made.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o600
            if path.parts[len(made.parts)] not in ("spec", "README", "dcmx_rescue.py"):
                data = path.read_bytes().lower()
                assert not [word for word in words if len(word) > 3 and word.encode() in data]
    shown = "\n".join(names).lower()
    assert not [word for word in words if len(word) > 3 and word in shown]
    # the key table lies outside, and holds no names in clear either
    table = (tmp_path / "vault.keys").read_bytes().lower()
    assert not [word for word in words if len(word) > 3 and word.encode() in table]


def test_how_to_get_out_without_the_program_lies_in_every_vault(made):
    assert (made / "spec" / "vault-v1.md").read_bytes().startswith(b"# Vault, version 1")
    assert b"DCMX" in (made / "dcmx_rescue.py").read_bytes()
    assert b"vault-v1.md" in (made / "README").read_bytes()


def test_the_commands_in_a_vaults_readme_are_right(made, identity, opened, tree, tmp_path):
    """What the README says, typed in the vault's folder."""
    add(opened, tree)
    opened.close()
    (tmp_path / "key").write_text(keyfile.identity_text(identity))
    lines = [line.split() for line in (made / "README").read_text().splitlines()
             if line.startswith("    ")]
    names = {"dicomcrypt": [sys.executable, "-m", "dicomcrypt"], "python": [sys.executable],
             "FOLDER": [str(made)], "KEYFILE": [str(tmp_path / "key")],
             "KEYTABLE": [str(tmp_path / "vault.keys")]}
    shown = []
    for number, line in enumerate(lines):
        names["OUT"] = [str(tmp_path / f"out{number}")]
        done = subprocess.run([part for word in line for part in names.get(word, [word])],
                              cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        shown.append(" ".join(line[:3]))
        if "OUT" in line:
            assert contents(tmp_path / f"out{number}" / tree.name) == contents(tree)
    assert shown == ["dicomcrypt vault ls", "dicomcrypt vault get", "python dcmx_rescue.py vault"]


def test_identical_files_of_a_record_are_stored_once(opened, tree, tmp_path):
    outcomes = add(opened, tree, 2)
    again = [o for o in outcomes if o.path.endswith(("again.dcm", "/CT_small.dcm"))]
    assert sorted(o.message for o in again)[0] == ""
    assert any(o.message for o in again)
    before = opened.catalogue.stats()
    assert before["rows"] == before["objects"] + 1
    # under other paths: a row each, no objects, but for what belongs to no patient or study
    add(opened, tree, 2, prefix="elsewhere")
    after = opened.catalogue.stats()
    loose = sum(row.PatientID is row.StudyInstanceUID is None
                for _, row in opened.catalogue.rows(query={"path": [b"elsewhere"]}))
    assert after["objects"] - before["objects"] == loose
    assert after["rows"] == 2 * before["rows"]
    assert len(list(opened.store.list("objects/"))) == after["objects"]
    assert len(restore(opened, tmp_path / "back", 2)) == after["rows"]


def test_the_same_command_again_adds_nothing(opened, tree):
    add(opened, tree)
    before = opened.catalogue.stats()
    assert {o.state for o in add(opened, tree, 2)} == {"skipped"}
    assert opened.catalogue.stats()["rows"] == before["rows"]


def test_two_patients_never_share_an_object(opened, corpus, tmp_path):
    data = next(p for p in corpus if p.name == "CT_small.dcm").read_bytes()
    assert data.count(b"1CT1") >= 1
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(data)
    (tmp_path / "in" / "b").write_bytes(data.replace(b"1CT1", b"2CT2"))
    add(opened, tmp_path / "in")
    rows = [row for _, row in opened.catalogue.rows()]
    assert len({row.object_id for row in rows}) == len({row.dedupe_digest for row in rows}) == 2
    assert len(opened.catalogue.records()) == 2
    assert opened.keys.table.check() == 4  # two records, a vault key, the cache's


def test_without_dedupe_everything_is_stored(opened, tree):
    add(opened, tree, dedupe=False)
    stats = opened.catalogue.stats()
    assert stats["objects"] == stats["rows"] == len(contents(tree))
    assert all(row.dedupe_digest is None for _, row in opened.catalogue.rows())


def test_a_deflated_file_is_in_its_patients_record(opened, tree):
    add(opened, tree)
    row = next(r for _, r in opened.catalogue.rows() if r.path.endswith(b"image_dfl.dcm"))
    assert row.StudyInstanceUID
    assert row.rows == 512
    assert row.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"


def test_a_newer_file_of_the_same_path_keeps_the_older_one(opened, tmp_path):
    for content in (b"one", b"two"):
        (tmp_path / "note").write_bytes(content)
        add(opened, tmp_path / "note")
    found = restore(opened, tmp_path / "back")
    assert found.pop("note") == b"two"
    assert list(found.values()) == [b"one"]
    assert restore(opened, tmp_path / "one", objects=[
        next(r.object_id for _, r in opened.catalogue.rows())])


def test_two_writers_refuse_each_other(opened, made, identity, tree):
    running = add_tree(opened, os.fspath(tree), AddOptions())
    next(running)
    with Vault.open(made, identities=[identity]) as second:
        with pytest.raises(JobBusyError, match="another job writes to this vault"):
            next(add_tree(second, os.fspath(tree), AddOptions()))
        with pytest.raises(JobBusyError):
            next(rewrap_deep(second))
    running.close()
    with Vault.open(made, identities=[identity]) as second:
        add(second, tree)


def test_a_lease_is_taken_over_when_its_holder_is_gone_or_silent(opened, monkeypatch):
    first = Lease(opened.keys, "one")
    with first:
        monkeypatch.setattr("dicomcrypt.vault.lease._started", lambda process: 1)
        with Lease(opened.keys, "two"), pytest.raises(JobBusyError, match="taken the vault over"):
            first.check()
    monkeypatch.undo()
    monkeypatch.setattr("dicomcrypt.vault.lease.VALID", -1.0)
    with Lease(opened.keys, "one"):
        monkeypatch.undo()
        with Lease(opened.keys, "two"):
            pass
    with Lease(opened.keys, "three"):
        pass
    assert opened.keys.document("leases") == {}


def test_a_holder_is_not_signalled_where_signals_end_processes(opened, monkeypatch):
    def kill(process, signal):
        raise AssertionError("it would be dead")

    with Lease(opened.keys, "one"):
        monkeypatch.setattr(lease, "_started", lambda process: 0)
        monkeypatch.setattr(lease.os, "kill", kill)
        monkeypatch.setattr(lease.os, "name", "nt")
        found = lease._gone(platform.node(), os.getpid(), 0)
        monkeypatch.undo()
        assert not found


@pytest.mark.parametrize("where", ["objects", "rows"])
def test_a_job_that_was_broken_off_goes_on(opened, made, identity, tree, tmp_path, monkeypatch,
                                           where):
    """Between their names and their rows, or while rows are put: nothing lost, nothing double."""
    from dicomcrypt.vault import adding

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    if where == "objects":
        monkeypatch.setattr(adding._Book, "save", killed)
    else:
        monkeypatch.setattr(opened.catalogue, "append", killed)
    with pytest.raises(Killed):
        add(opened, tree)
    monkeypatch.undo()
    opened.keys.table.delete_document("leases") if opened.keys.document("leases") else None
    assert opened.catalogue.stats()["rows"] == 0
    with Vault.open(made, identities=[identity]) as again:
        add(again, tree)
        stats = again.catalogue.stats()
        assert len(list(again.store.list("objects/"))) == stats["objects"]
        assert len(restore(again, tmp_path / "back")) == stats["rows"] == len(contents(tree))


# ---- a store that was changed ------------------------------------------------


def _two(vault):
    rows = {row.object_id: row for _, row in vault.catalogue.rows()}
    return list(rows.values())[:2]


def test_forged_stores_are_noticed(opened, tree, tmp_path):
    add(opened, tree)
    first, second = _two(opened)
    paths = [opened.store.local_path(object_name(row.object_id)) for row in (first, second)]
    keep = [pathlib.Path(p).read_bytes() for p in paths]

    def failures():
        return {o.path: o.message for o in verify(opened, select(opened)) if o.state == "failed"}

    def put(*data):
        for path, content in zip(paths, data, strict=True):
            pathlib.Path(path).write_bytes(content)

    put(keep[1], keep[0])  # swapped
    assert len(failures()) == 2
    assert all("another object" in text for text in failures().values())
    put(keep[0][:-10], keep[1])  # truncated
    assert len(failures()) == 1
    put(keep[0], bytes([*keep[1][:-200], keep[1][-200] ^ 1, *keep[1][-199:]]))
    assert len(failures()) == 1
    put(*keep)
    assert failures() == {}
    os.unlink(paths[0])
    assert len(failures()) == 1
    out = tmp_path / "back"
    outcomes = list(get(opened, select(opened), os.fspath(out), DecryptOptions(sync=False)))
    assert sum(o.state == "failed" for o in outcomes) == len(
        [row for _, row in opened.catalogue.rows() if row.object_id == first.object_id])
    assert all(contents(tree)[name.partition("/")[2]] == data
               for name, data in contents(out).items())


def test_paths_in_rows_do_not_lead_out_of_the_output(opened, tree, tmp_path, monkeypatch):
    from dicomcrypt.vault import getting

    add(opened, tree)
    rows = [row for _, row in opened.catalogue.rows()]
    for row, path in zip(rows, (b"../evil", b"/etc/evil", b"a/../../evil", b""), strict=False):
        row.path = path
    out = tmp_path / "deep" / "back"
    outcomes = list(getting.get(opened, rows[:4], os.fspath(out), DecryptOptions(sync=False)))
    assert [o.state for o in outcomes] == ["failed"] * 4
    assert not list(tmp_path.rglob("evil"))


def test_another_table_or_identity_does_not_open_it(made, identity, other, tmp_path):
    with pytest.raises(NoIdentityError):
        Vault.open(made, identities=[other])
    Vault.create(tmp_path / "second", {"me": identity.recipient}).close()
    with pytest.raises(UsageError, match="another vault"):
        Vault.open(made, identities=[identity], keys_path=tmp_path / "second.keys")
    os.unlink(tmp_path / "vault.keys")
    with pytest.raises(UsageError, match="is not there"):
        Vault.open(made, identities=[identity])
    with pytest.raises(UsageError, match="no vault"):
        Vault.open(tmp_path, identities=[identity])


def test_where_a_vault_is_not_made(tmp_path, identity, made):
    access = {"me": identity.recipient}
    with pytest.raises(UsageError, match="not empty"):
        Vault.create(made, access)
    with pytest.raises(UsageError, match="does not lie in the vault"):
        Vault.create(tmp_path / "v", access, keys_path=os.fspath(tmp_path / "v" / "keys"))
    with pytest.raises(OutputExistsError):
        Vault.create(tmp_path / "v", access, keys_path=os.fspath(tmp_path / "vault.keys"))
    with pytest.raises(UsageError):
        Vault.create(tmp_path / "v", {})
    assert not (tmp_path / "v").exists()


def test_a_vault_never_takes_in_itself(opened, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    add(opened, tmp_path, prefix="")
    assert {row.path for _, row in opened.catalogue.rows()} == {b"file"}
