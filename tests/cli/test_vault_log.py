"""What a vault's log and deduplication tell."""

import json
import shutil

import pytest


@pytest.fixture
def archive(tmp_path, keys, call, corpus, monkeypatch):
    """A vault with an audit log, in which two files are alike."""
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text('[audit]\nlog = "audit.log"\n')
    source = tmp_path / "in"
    source.mkdir()
    ct = next(p for p in corpus if p.name == "CT_small.dcm")
    for name in ("one.dcm", "two.dcm"):
        shutil.copy(ct, source / name)
    (source / "other.dcm").write_bytes(ct.read_bytes()[:-2] + b"\x01\x02")  # the same instance
    vault = tmp_path / "vault"
    done = call("vault", "create", vault, "-r", keys / "doctor.pub")
    assert done.status in (0, None), done.err
    assert "no recovery recipient is set" in done.err
    assert call("vault", "add", vault, source, "-i", keys / "doctor.key").status == 0
    return vault


def test_the_log_tells_what_was_done_with_this_vault(archive, call, keys, tmp_path):
    other = tmp_path / "other"
    call("vault", "create", other, "-r", keys / "doctor.pub")
    call("vault", "verify", other, "--all", "-i", keys / "doctor.key")
    assert call("vault", "verify", archive, "-i", keys / "doctor.key").status == 0
    assert call("vault", "recipients", "add", archive, "index", "-r", keys / "index.pub",
                "-i", keys / "doctor.key").status in (0, None)
    done = call("vault", "log", archive, "--json")
    events = [(e["action"], e["outcome"]) for e in json.loads(done.out)]
    assert events == [
        (f"vault.{verb}", outcome) for verb in ("add", "verify", "recipients")
        for outcome in ("started", "ok")
    ]
    shown = call("vault", "log", archive, "--action", "vault.add").out
    assert "vault.add" in shown
    assert "vault.verify" not in shown
    assert "CompressedSamples" not in (tmp_path / "audit.log").read_text()
    (tmp_path / "config.toml").write_text("")
    assert call("vault", "log", archive).status == 2
    assert call("vault", "log", archive, "--log", tmp_path / "audit.log").status in (0, None)
    assert call("vault", "log", tmp_path / "in").status == 2


def test_what_deduplication_saves(archive, call, keys):
    done = call("vault", "dedupe", archive, "--report", "--json", "-i", keys / "doctor.key")
    facts = json.loads(done.out)
    assert (facts["files"], facts["objects"], facts["shared"]) == (3, 2, 1)
    assert facts["saved"] > 30_000
    assert facts["instances"] == 1
    assert facts["several"][0]["paths"] == ["in/one.dcm", "in/other.dcm", "in/two.dcm"]
    shown = call("vault", "dedupe", archive, "--report", "-i", keys / "doctor.key")
    assert "3 files in 2 objects: 1 files were not stored again" in shown.err
    assert call("vault", "dedupe", archive, "-i", keys / "doctor.key").status == 2
