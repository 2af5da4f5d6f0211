"""`dicomcrypt vault hold|retention|erase|merge|backup-keys|restore-keys|check|repair`."""

from __future__ import annotations

import json
import os
import shutil

import click
import pytest
from vault_world import write_dicom


@pytest.fixture
def who(keys):
    return ("-i", keys / "doctor.key")


@pytest.fixture
def vault(call, keys, who, tmp_path):
    tree, path = tmp_path / "ward", tmp_path / "vault"
    for patient in range(3):
        for number in range(2):
            write_dicom(tree / f"{patient}-{number}.dcm", f"P{patient}", patient + 1, number)
    assert call("vault", "create", path, "-r", keys / "doctor.pub").status == 0
    assert call("vault", "add", path, tree, *who, "-q").status == 0
    return path


def patients(call, vault, who):
    done = call("vault", "ls", vault, *who, "--level", "patient", "--json")
    return sorted(patient["PatientID"] for patient in json.loads(done.out))


def test_erasing(call, vault, who, tmp_path):
    words = ("vault", "erase", vault, *who, "--patient", "P1")
    done = call(*words)
    assert (done.status, patients(call, vault, who)) == (2, ["P0", "P1", "P2"])
    assert "--yes-erase" in done.err
    done = call("vault", "backup-keys", vault, tmp_path / "copy.keys", *who, "--json")
    copy = json.loads(done.out)
    done = call(*words, "--yes-erase", "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert facts["objects"] == 2
    assert [found["id"] for found in facts["backups"]] == [copy["id"]]
    assert patients(call, vault, who) == ["P0", "P2"]
    assert call("vault", "erase", vault, *who, "--patient", "P9", "--yes-erase").status == 2
    done = call("vault", "erase", vault, *who, "--study", "1.2.826.2.1", "--yes-erase")
    assert done.status == 2
    assert "--patient" in done.err
    assert call("vault", "erase", vault, *who, "--yes-erase").status == 2
    assert call("vault", "check", vault, *who).status == 0
    done = call("vault", "backup-keys", vault, *who, "--forget", copy["id"], "--json")
    assert json.loads(done.out) == []


@pytest.mark.parametrize(("typed", "status"), [("P1", 0), ("P2", 2), ("p1", 2)])
def test_the_id_is_typed_again(call, vault, who, monkeypatch, typed, status):
    from dicomcrypt.cli import vault_keep

    asked = []
    monkeypatch.setattr(vault_keep, "on_terminal", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda text, **how: asked.append(text) or typed)
    done = call("vault", "erase", vault, *who, "--patient", "P1")
    assert done.status == status, done.err
    assert len(asked) == 1
    assert patients(call, vault, who) == (["P0", "P2"] if status == 0 else ["P0", "P1", "P2"])


def test_what_keeps_a_record(call, vault, who):
    erase = ("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase")
    hold = ("vault", "hold", vault, *who, "--patient", "P1", "--reason", "court")
    assert call(*hold).status == 0
    assert call(*erase).status == 5
    (found,) = json.loads(call("vault", "hold", vault, *who, "--json").out)
    assert found["reason"] == "court"
    assert call("vault", "hold", vault, *who, "--patient", "P1").status == 2
    assert call("vault", "hold", vault, *who, "--off").status == 2
    assert call(*hold, "--off").status == 0
    keep = ("vault", "retention", vault, *who)
    assert call(*keep, "--default", "10y").status == 0
    assert call(*erase).status == 5
    done = call(*keep, "2001-01-01", "--patient", "P1", "--json")
    (facts,) = (json.loads(done.out),)
    assert facts["default_days"] == 3652
    assert [*facts["records"].values()] == ["2001-01-01"]
    assert call(*keep, "--patient", "P1", "--off").status == 0
    assert call(*erase).status == 5
    assert call(*keep, "--patient", "P1").status == 2
    assert call(*keep, "--default", "0").status == 0
    assert call(*erase).status == 0


def test_merging_and_putting_keys_back(call, vault, who, tmp_path):
    copy = tmp_path / "copy.keys"
    assert call("vault", "backup-keys", vault, copy, *who).status == 0
    assert call("vault", "backup-keys", vault, copy, *who).status == 1
    assert call("vault", "merge", vault, *who, "--patient", "P2", "--into", "P0").status == 0
    assert patients(call, vault, who) == ["P0", "P1"]
    done = call("vault", "erase", vault, *who, "--patient", "P2", "--yes-erase", "--json")
    assert json.loads(done.out)["objects"] == 4
    assert patients(call, vault, who) == ["P1"]
    done = call("vault", "restore-keys", vault, copy, *who, "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert (facts["keys"], facts["erased_again"]) == (3, 2)
    assert os.path.exists(facts["aside"])
    assert patients(call, vault, who) == ["P1"]
    assert call("vault", "check", vault, *who).status == 0
    assert call("vault", "restore-keys", vault, tmp_path / "no", *who).status == 2
    assert call("vault", "restore-keys", tmp_path, copy, *who).status == 2


def test_checking_and_repairing(call, vault, who, tmp_path):
    one, two, *_ = sorted(vault.rglob("objects/*/*.dcmx"))
    one.write_bytes(one.read_bytes()[:-1])
    two.unlink()
    done = call("vault", "check", vault, *who, "--json")
    assert done.status == 4
    facts = json.loads(done.out)
    assert sorted(found["kind"] for found in facts["findings"]) == ["damaged", "missing"]
    assert all(found["path"].startswith("ward/") for found in facts["findings"])
    assert call("vault", "check", vault, *who, "-q").status == 4
    done = call("vault", "repair", vault, *who, "--json", "--aside", tmp_path / "aside")
    assert done.status == 4
    assert [found["kind"] for found in json.loads(done.out)["left"]] == ["missing"]
    assert os.listdir(tmp_path / "aside") == [one.name]
    assert call("vault", "repair", vault, *who, "--drop-missing").status == 0
    assert call("vault", "check", vault, *who).status == 0
    shutil.rmtree(vault / "catalogue")
    assert call("vault", "check", vault, *who).status == 4
    assert call("vault", "repair", vault, *who).status == 4
    done = call("vault", "repair", vault, *who, "--rebuild", "--json")
    assert done.status == 0
    assert json.loads(done.out)["rebuilt"] == 4
    assert call("vault", "check", vault, *who).status == 0


def test_the_audit_log_has_a_proof_without_names(call, vault, who, tmp_path, monkeypatch):
    settings = tmp_path / "config.toml"
    settings.write_text(f'[audit]\nlog = "{tmp_path / "log"}"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", os.fspath(settings))
    done = call("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase", "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    lines = (tmp_path / "log").read_text().splitlines()
    events = [e for e in map(json.loads, lines) if e.get("action") == "vault.erase"]
    assert [event["outcome"] for event in events] == ["started", "ok"]
    assert events[1]["objects"] == facts["tombstones"]
    assert events[1]["details"]["erasure"] == facts["erasure"]
    assert events[1]["details"]["done"] == 2
    assert "P1" not in "".join(lines)
    for words in (("hold", "--patient", "P0", "--reason", "x"), ("check",), ("repair",),
                  ("retention", "--default", "1d"), ("merge", "--patient", "P0", "--into", "P2"),
                  ("backup-keys", tmp_path / "copy")):
        assert call("vault", words[0], vault, *words[1:], *who).status == 0, words
    assert call("audit", "verify", tmp_path / "log").status == 0


def test_an_interrupted_erasure_is_ended_by_the_next_writer(call, vault, who, monkeypatch):
    from dicomcrypt.vault.catalogue import Catalogue

    def fail(this, **how):
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "compact", fail)
        words = ("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase")
        assert call(*words).status == 1
    assert patients(call, vault, who) == ["P0", "P2"]
    done = call("vault", "check", vault, *who, "--json")
    assert (done.status, json.loads(done.out)["findings"][0]["kind"]) == (0, "erasing")
    done = call(*words)
    assert done.status == 0
    assert "was ended" in done.err
    assert json.loads(call("vault", "check", vault, *who, "--json").out)["findings"] == []


def test_times_that_no_calendar_has_are_not_taken(call, vault, who):
    keep = ("vault", "retention", vault, *who)
    for words in (("9999-12-31", "--patient", "P1"), ("9000y", "--patient", "P1"),
                  ("--default", "9000y"), ("--default", "1001y")):
        assert call(*keep, *words).status == 2, words
    erase = ("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase")
    for until in ("9998-12-31", "2999-02-28"):
        assert call(*keep, until, "--patient", "P1").status == 0
        done = call(*erase)
        assert done.status == 5
        assert until in done.err  # the same day
    assert call(*keep, "--patient", "P1", "--off").status == 0
    assert call(*keep, "--default", "1000y").status == 0
    assert call(*erase).status == 5


def test_a_time_that_is_too_late_already_is_shown(call, vault, who):
    from dicomcrypt.vault.holds import last_day

    assert last_day(1 << 60) == "9999-12-31"


def test_frames_whose_keys_are_lost_stay_until_they_are_back(call, vault, who, tmp_path, keys):
    from dicomcrypt.keys.keyfile import parse_identities
    from dicomcrypt.vault.selecting import find_record
    from dicomcrypt.vault.vault import Vault

    table, safe = tmp_path / "vault.keys", tmp_path / "whole.keys"
    shutil.copy(table, safe)
    found = parse_identities((keys / "doctor.key").read_text())
    with Vault.open(vault, identities=found) as opened:
        opened.keys.delete_records(find_record(opened, patient="P1"))
    assert call("vault", "verify", vault, *who, "-q").status == 4
    assert call("vault", "check", vault, *who, "-q").status == 4
    done = call("vault", "repair", vault, *who, "--json")
    assert done.status == 4
    left = json.loads(done.out)["left"]
    assert {finding["kind"] for finding in left} == {"keyless"}
    with Vault.open(vault, identities=found) as opened, opened.lease("compact"):
        opened.catalogue.compact(full=True)
    shutil.copy(safe, table)
    assert call("vault", "repair", vault, *who).status == 0
    assert patients(call, vault, who) == ["P0", "P1", "P2"]
    assert call("vault", "verify", vault, *who, "-q").status == 0
