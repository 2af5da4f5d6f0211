"""`dicomcrypt vault erase` where something is in the way: a full or read-only medium, a kill."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from vault_world import write_dicom

from dicomcrypt.keys.keyfile import parse_identities
from dicomcrypt.vault.erasing import LEFT, erasures, open_erasure
from dicomcrypt.vault.reserve import SIZE, fill, released, reserve_path
from dicomcrypt.vault.vault import Vault

PATIENTS, EACH = 3, 3


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "ward"
    for patient in range(PATIENTS):
        for number in range(EACH):
            write_dicom(root / f"{patient}-{number}.dcm", f"P{patient}", patient + 1, number,
                        issuer="HOSPITAL" if patient == 2 else "")
    return root


@pytest.fixture
def who(keys):
    return ("-i", keys / "doctor.key")


@pytest.fixture
def vault(call, keys, who, tree, tmp_path, monkeypatch):
    path = tmp_path / "mount" / "vault"
    path.parent.mkdir()
    (tmp_path / "config.toml").write_text(f'[audit]\nlog = "{tmp_path / "log"}"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", os.fspath(tmp_path / "config.toml"))
    assert call("vault", "create", path, "-r", keys / "doctor.pub").status == 0
    assert call("vault", "add", path, tree, *who, "-q").status == 0
    return path


@pytest.fixture
def script(namespace, command, vault, who):
    """Run shell lines in which `erase ID` and `vault VERB` are commands of this vault."""
    words = shlex.join(map(str, [*command.words, "vault"]))

    def run(*lines, how=who):
        rest = shlex.join(map(str, [vault, *how]))
        done = namespace("\n".join([
            f'vault() {{ verb=$1; shift; {words} $verb {rest} "$@" 2>&1; echo status $?; }}',
            'erase() { vault erase --patient "$1" --yes-erase; }', *lines,
        ]), env=command.environment())  # fmt: skip
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout + done.stderr

    return run


def proofs(tmp_path):
    lines = map(json.loads, (tmp_path / "log").read_text().splitlines())
    return [(e["outcome"], e["details"].get("erasure")) for e in lines
            if e.get("action") == "vault.erase" and e["outcome"] != "started"]


@pytest.mark.parametrize("login", [False, True])
def test_a_full_medium_keeps_nothing_from_being_erased(
    script, vault, call, who, tmp_path, keys, login
):
    """Nor by a login, whose attempts are counted in the key table."""
    place, safe, how = vault.parent, tmp_path / "safe", who
    if login:
        how = ("--login", "anna", "--passphrase-file", keys / "passphrase")
        assert call("vault", "recipients", "add", vault, "anna", *who, "--new-passphrase-file",
                    keys / "passphrase").status == 0
    shown = script(
        f"cp -r {place} {safe}; mount -t tmpfs -o size=8m tmpfs {place}; cp -r {safe}/. {place}",
        f"head -c 9m /dev/zero > {place}/ballast",
        f"vault add {tmp_path}/ward/0-0.dcm -q; erase P1; erase P1",
        f"rm {place}/ballast; vault ls; vault check",
        how=how,
    )
    assert "no room is left for key table" in shown
    assert [line for line in shown.splitlines() if "status" in line] == [
        "status 1", "status 0", "status 0", "status 0", "status 0"]
    assert shown.count("erased") == 2
    assert "P1" not in shown
    assert "P0" in shown
    assert f"{(PATIENTS - 1) * EACH} objects, 0 things wrong" in shown
    assert [outcome for outcome, _ in proofs(tmp_path)] == ["ok", "ok"]


def test_the_reserve_is_given_when_there_is_no_other_room(tmp_path, monkeypatch):
    keys = os.fspath(tmp_path / "v.keys")
    assert fill(keys)
    assert fill(keys)
    assert os.stat(reserve_path(keys)).st_size == SIZE
    with released(keys):
        assert os.path.exists(reserve_path(keys))
    real = os.write

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with released(keys):
        pass
    monkeypatch.setattr(os, "write", full)
    with released(keys):
        assert os.listdir(tmp_path) == []
    assert os.listdir(tmp_path) == []
    assert not fill(keys)
    monkeypatch.setattr(os, "write", real)
    with released(keys):  # there was none
        pass
    assert os.listdir(tmp_path) == []


def test_a_store_that_cannot_be_written_to(script, vault, tmp_path, call, who):
    shown = script(
        f"mount --bind {vault} {vault}; mount -o remount,ro,bind {vault}",
        "erase P1; erase P1; vault ls; vault check",
    )
    assert shown.count("keys are destroyed, nobody can read it any more") == 2
    assert shown.count(f"its {EACH} objects") == 2
    assert "read-only file system" in shown
    assert shown.count("status 1") == 2
    assert "P1" not in shown
    assert len(list(vault.rglob("*/*/*.dcmx"))) == PATIENTS * EACH
    done = call("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase", "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert facts["before"]
    assert len(list(vault.rglob("*/*/*.dcmx"))) == (PATIENTS - 1) * EACH
    assert proofs(tmp_path) == [("partial", facts["erasure"]), ("ok", facts["erasure"])]


def test_an_object_that_cannot_be_deleted(script, vault, tmp_path, call, who, keys):
    """It keeps nobody from working, and nothing else from being erased."""
    found = json.loads(call("vault", "find", vault, *who, "PatientID=P1", "--json").out)
    name = f"objects/{found[0]['object_id'][:2]}/{found[0]['object_id']}.dcmx"
    shown = script(
        f"mount --bind {vault}/{name} {vault}/{name}",
        f"erase P1; erase P1; erase P0; vault add {tmp_path}/ward/0-0.dcm -q; vault check",
    )
    assert shown.count(f"cannot be deleted ({name})") == 3
    assert "erased before, at 20" in shown
    assert [line for line in shown.splitlines() if "status" in line] == [
        "status 1", "status 1", "status 1", "status 0", "status 0"]
    identities = parse_identities((keys / "doctor.key").read_text())
    with Vault.open(vault, identities=identities) as opened:
        assert opened.keys.document(LEFT) == {0: [bytes.fromhex(found[0]["object_id"])]}
    assert (vault / name).exists()
    assert call("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase").status == 0
    assert not (vault / name).exists()
    with Vault.open(vault, identities=identities) as opened:
        assert opened.keys.document(LEFT) is None


def test_what_was_erased_before_is_said_with_its_proof(call, vault, who, tmp_path):
    words = ("vault", "erase", vault, *who, "--yes-erase", "--json")
    copy = json.loads(call("vault", "backup-keys", vault, tmp_path / "c.keys", *who, "--json").out)
    first = json.loads(call(*words, "--patient", "P2").out)
    assert not first["before"]
    for which in (["--patient", "P2"], ["--patient", " P2", "--issuer", "HOSPITAL"],
                  ["--record", first["tombstones"][0]]):
        done = call(*words, *which)
        assert done.status == 0, done.err
        assert json.loads(done.out) == first | {"before": True}
        assert [b["id"] for b in first["backups"]] == [copy["id"]]
    for which in (["--patient", "P2", "--issuer", ""], ["--patient", "P3"], ["--patient", "P"],
                  ["--study", "1.2.826.2.3"], ["--record", "00" * 16]):
        done = call(*words, *which)
        assert (done.status, "no such record" in done.err) == (2, True), which
    assert {proof for _, proof in proofs(tmp_path)} == {first["erasure"]}
    # Added again it is another record, erased as such.
    assert call("vault", "add", vault, tmp_path / "ward" / "2-0.dcm", *who).status == 0
    again = json.loads(call(*words, "--patient", "P2").out)
    assert (again["before"], again["objects"]) == (False, 1)
    assert again["erasure"] != first["erasure"]
    assert json.loads(call(*words, "--patient", "P2").out)["erasure"] == again["erasure"]


def test_who_was_erased_shows_to_nobody_without_the_vaults_keys(call, vault, who, keys):
    call("vault", "erase", vault, *who, "--yes-erase", "--patient", "P2")
    identities = parse_identities((keys / "doctor.key").read_text())
    with Vault.open(vault, identities=identities) as opened:
        ((name, _),) = erasures(opened.store, opened.keys)
        blob = opened.store.read(name)
        tags = open_erasure(opened.keys, blob)[3]
        assert [len(tag) for tag in tags] == [16, 16]
        assert opened.keys.document("erasing") is None
    stored = b"".join(p.read_bytes() for p in vault.parent.rglob("*") if p.is_file())
    assert not any(tag in stored for tag in tags)
    assert b"HOSPITAL" not in stored


def test_erasing_needs_a_record_named(call, vault, who):
    done = call("vault", "erase", vault, *who, "--yes-erase")
    assert (done.status, "--patient" in done.err) == (2, True)


def test_a_cache_that_cannot_be_written_keeps_nobody_from_reading(call, vault, who, keys):
    identities = parse_identities((keys / "doctor.key").read_text())
    with Vault.open(vault, identities=identities) as opened:
        assert opened.catalogue.save_cache()
        opened.catalogue._cache_path = os.fspath(vault.parent / "none" / "cache")
        assert not opened.catalogue.save_cache()
