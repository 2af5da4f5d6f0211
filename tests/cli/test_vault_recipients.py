"""`dicomcrypt vault recipients`, and copies of the key table from before it changed."""

from __future__ import annotations

import json

import pytest
from vault_world import write_dicom

from dicomcrypt.vault.catalogue import Catalogue


@pytest.fixture
def who(keys):
    return ("-i", keys / "doctor.key")


@pytest.fixture
def other(keys):
    return ("-i", keys / "other.key")


@pytest.fixture
def vault(call, keys, who, tmp_path):
    for patient in range(2):
        write_dicom(tmp_path / "ward" / f"{patient}.dcm", f"P{patient}", patient + 1, 1)
    path = tmp_path / "vault"
    assert call("vault", "create", path, "-r", keys / "doctor.pub", "-r",
                keys / "other.pub").status == 0
    assert call("vault", "add", path, tmp_path / "ward" / "0.dcm", *who, "-q").status == 0
    return path


def patients(call, vault, how):
    done = call("vault", "ls", vault, *how, "--level", "patient", "--json")
    assert done.status == 0, done.err
    return [found["PatientID"] for found in json.loads(done.out)]


def test_a_removal_that_was_cut_short_is_ended_by_the_same_command(
    call, vault, who, other, monkeypatch
):
    def killed(this):
        raise KeyboardInterrupt

    words = ("vault", "recipients", "remove", vault, "other", *who)
    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "reseal", killed)
        assert call(*words).status == 130
    assert call("vault", "stats", vault, *other).status == 3
    assert patients(call, vault, who) == ["P0"]
    before = (vault / "catalogue" / "head").read_bytes()
    done = call(*words)
    assert done.status == 0, done.err
    assert "other: removed before; what was still to be done after that is done now" in done.err
    head, header = (vault / "catalogue" / "head").read_bytes(), (vault / "vault").read_bytes()
    assert (before[24], head[24], header[24]) == (1, 2, 2)  # the vault key that it names
    done = call(*words)
    assert done.status == 2
    assert "no recipient 'other'" in done.err
    assert "doctor" in done.err
    assert patients(call, vault, who) == ["P0"]


@pytest.mark.parametrize("since", ["remove", "rewrap"])
def test_a_copy_from_before_the_keys_changed(call, vault, who, other, tmp_path, since):
    copy = tmp_path / "copy.keys"
    assert call("vault", "backup-keys", vault, copy, *who).status == 0
    words = ["recipients", "remove", vault, "other"] if since == "remove" else [
        "rewrap", vault, "--deep"]
    assert call("vault", *words, *who).status == 0
    assert call("vault", "add", vault, tmp_path / "ward" / "1.dcm", *who, "-q").status == 0
    restore = ("vault", "restore-keys", vault, copy)
    for how in (who, other):
        done = call(*restore, *how)
        assert done.status == 2
        for part in ("older than the last", "1 vault keys, the vault has 2", "doctor, other",
                     "--force", "--rebuild", str(copy)):
            assert part in done.err
    assert patients(call, vault, who) == ["P0", "P1"]
    done = call(*restore, *other, "--force", "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert (facts["older"], facts["accesses"]) == (True, ["doctor", "other"])
    assert call("vault", "ls", vault, *who).status == 4
    assert call("vault", "repair", vault, *other, "--rebuild").status == 0
    assert patients(call, vault, other) == (["P0"] if since == "remove" else [])
    assert call("vault", "check", vault, *other).status == 0
    # The later table is kept: with it everything is there again.
    done = call("vault", "restore-keys", vault, facts["aside"], *who, "--force")
    assert done.status == 0, done.err
    for path in (vault / "damaged").iterdir():
        path.rename(vault / "objects" / path.name[:2] / path.name)
    assert call("vault", "repair", vault, *who, "--rebuild").status == 0
    assert patients(call, vault, who) == ["P0", "P1"]


def test_who_opens_a_copy_is_said(call, vault, keys, who, tmp_path):
    copy = tmp_path / "copy.keys"
    assert call("vault", "backup-keys", vault, copy, *who).status == 0
    done = call("vault", "restore-keys", vault, copy, "-i", keys / "index.key")
    assert done.status == 3
    assert str(copy) in done.err
    assert "made for doctor, other" in done.err


def test_what_is_added_under_an_id_that_was_merged_away(call, vault, who, tmp_path):
    assert call("vault", "add", vault, tmp_path / "ward" / "1.dcm", *who).status == 0
    merge = ("vault", "merge", vault, *who, "--patient", "P1", "--into")
    done = call(*merge, "P9")
    assert done.status == 2
    assert "--into: add a file under it first" in done.err
    done = call("vault", "merge", vault, *who, "--patient", "P9", "--into", "P0")
    assert (done.status, "no such record" in done.err) == (2, True)
    assert call(*merge, "P0").status == 0
    write_dicom(tmp_path / "ward" / "2.dcm", "P1", 2, 2)
    write_dicom(tmp_path / "ward" / "3.dcm", "P0", 3, 2)
    for _ in range(2):  # once they are there, they are not added again
        assert call("vault", "add", vault, tmp_path / "ward", *who, "--prefix", "",
                    "-q").status == 0
        assert patients(call, vault, who) == ["P0"]
    stats = json.loads(call("vault", "stats", vault, *who, "--json").out)
    assert stats["objects"] == 4
    assert call("vault", "repair", vault, *who, "--rebuild").status == 0
    assert patients(call, vault, who) == ["P0"]
    done = call("vault", "erase", vault, *who, "--patient", "P1", "--yes-erase", "--json")
    assert json.loads(done.out)["objects"] == 4


def test_a_key_of_two_names_is_not_half_removed(call, vault, keys, who):
    assert call("vault", "recipients", "add", vault, "again", *who, "-r",
                keys / "other.pub").status == 0
    remove = ("vault", "recipients", "remove", vault, *who)
    done = call(*remove, "other")
    assert done.status == 2
    assert "'other' and 'again' are the same key" in done.err
    assert call(*remove, "other", "again").status == 0
