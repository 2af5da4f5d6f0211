"""`dicomcrypt vault` as people use it, and jobs that are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from tree_jobs import plant


@pytest.fixture
def tree(tmp_path, corpus):
    root = tmp_path / "ward"
    root.mkdir()
    for path in corpus:
        if path.name in ("CT_small.dcm", "MR_small.dcm", "README.txt"):
            shutil.copy(path, root / path.name)
    return root


@pytest.fixture
def vault(call, keys, tmp_path):
    path = tmp_path / "vault"
    done = call("vault", "create", path, "-r", keys / "doctor.pub", "-r", keys / "other.pub")
    assert done.status == 0, done.err
    return path


def test_from_creation_to_a_shared_copy(call, command, keys, vault, tree, tmp_path):
    who = ("-i", keys / "doctor.key")
    done = call("vault", "add", vault, tree, *who, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["summary"]["done"] == 3
    assert "1CT1" in call("vault", "ls", vault, *who, "--level", "patient").out
    assert json.loads(call("vault", "ls", vault, *who, "--json", "--patient", "1CT1").out)
    found = json.loads(call("vault", "find", vault, *who, "PatientID=1CT*", "--json").out)
    assert [row["path"] for row in found] == ["ward/CT_small.dcm"]
    plain = (tree / "CT_small.dcm").read_bytes()
    assert call("vault", "get", vault, "--patient", "1CT1", *who, "-o", tmp_path / "a").status == 0
    assert (tmp_path / "a/ward/CT_small.dcm").read_bytes() == plain
    assert not (tmp_path / "a/ward/MR_small.dcm").exists()
    assert call("vault", "get", vault, "ward", *who, "-o", tmp_path / "b").status == 0
    assert sorted(os.listdir(tmp_path / "b/ward")) == sorted(os.listdir(tree))
    piped = command("vault", "cat", vault, "--object", found[0]["object_id"], *who)
    assert piped.stdout == plain
    assert call("vault", "verify", vault, *who, "-j", "1").status == 0
    done = call("vault", "share", vault, "--patient", "1CT1", "--to", keys / "index.pub", *who,
                "-o", tmp_path / "shared")
    assert done.status == 0, done.err
    done = call("decrypt", tmp_path / "shared", "-i", keys / "index.key", "-o", tmp_path / "c")
    assert done.status == 0, done.err
    assert (tmp_path / "c/ward/CT_small.dcm").read_bytes() == plain
    stats = json.loads(call("vault", "stats", vault, *who, "--json").out)
    assert stats["objects"] == stats["rows"] == 3


def test_recipients_come_and_go(call, keys, vault, tree):
    who, other = ("-i", keys / "doctor.key"), ("-i", keys / "other.key")
    assert call("vault", "add", vault, tree, *other).status == 0
    done = call("vault", "recipients", "add", vault, "anna", *who, "--new-passphrase-file",
                keys / "passphrase")
    assert done.status == 0, done.err
    anna = ("--login", "anna", "--passphrase-file", keys / "passphrase")
    assert call("vault", "stats", vault, *anna).status == 0
    listed = json.loads(call("vault", "recipients", "list", vault, *who, "--json").out)
    assert [r["name"] for r in listed] == ["anna", "doctor", "other"]
    done = call("vault", "recipients", "remove", vault, "other", *who)
    assert done.status == 2
    assert "anna" in done.err
    done = call("vault", "recipients", "remove", vault, "other", *anna)
    assert done.status == 0, done.err
    assert call("vault", "stats", vault, *other).status == 3
    assert call("vault", "rewrap", vault, "--deep", *who).status == 0
    assert call("vault", "verify", vault, *anna).status == 0


def test_what_is_refused(call, keys, vault, tree, tmp_path):
    who = ("-i", keys / "doctor.key")
    assert call("vault", "create", vault, "-r", keys / "doctor.pub").status == 2
    assert call("vault", "create", tmp_path / "none").status == 2
    assert call("vault", "stats", vault).status == 2
    assert call("vault", "stats", tmp_path, *who).status == 2
    assert call("vault", "stats", vault, "-i", keys / "index.key").status == 3
    assert call("vault", "get", vault, *who, "-o", tmp_path / "x").status == 2
    for status, *which in ((2, "--patient", "nobody"), (2, "--object", "zz"),
                           (4, "--object", "00" * 16)):
        assert call("vault", "get", vault, *which, *who, "-o", tmp_path / "x").status == status
    assert call("vault", "find", vault, "PatientID", *who).status == 2
    assert call("vault", "find", vault, "Patient=1", *who).status == 2
    done = call("vault", "stats", vault, "--login", "anna", "--passphrase-file",
                keys / "passphrase")
    assert done.status == 3
    text = call("vault", "recipients", "remove", "--help").out
    assert "cannot be undone" in text
    assert "old key table" in text


def _started(command, folder, vault, keys):
    words = [*command.words, "vault", "add", vault, folder, "-i", keys / "doctor.key", "-j", "2",
             "-q"]
    return subprocess.Popen([os.fspath(w) for w in words], env=command.environment(),
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _checked(call, vault, keys, plain, out):
    """Everything is there once: returns nothing, or fails."""
    who = ("-i", keys / "doctor.key")
    stats = json.loads(call("vault", "stats", vault, *who, "--json").out)
    assert stats["rows"] == len(plain)
    assert len(list((vault / "objects").rglob("*.dcmx"))) == stats["objects"]
    assert not [p for p in vault.rglob(".dcmx-*")]
    assert call("vault", "get", vault, "--all", *who, "-o", out, "-q").status == 0
    found = {os.fspath(p.relative_to(out / "in")): p.read_bytes() for p in out.rglob("*")
             if p.is_file()}
    assert found == plain


def test_two_adds_at_once_refuse_each_other(call, command, keys, vault, tmp_path):
    plant(tmp_path / "in", count=3000)
    first = _started(command, tmp_path / "in", vault, keys)
    for _ in range(500):
        time.sleep(0.01)
        if [p for p in vault.parent.glob("vault.*.dcmx-journal")]:
            break
    done = call("vault", "add", vault, tmp_path / "in", "-i", keys / "doctor.key", "-j", "1")
    assert first.wait() == 0
    first.stderr.close()
    assert done.status == 1
    assert "another job writes to this vault" in done.err


def test_a_killed_add_goes_on_with_nothing_lost_and_nothing_double(
    call, command, keys, vault, tmp_path
):
    """SIGKILL at random points; the same command finishes it. The long form is `make soak`'s."""
    noise = random.Random(5)
    plain = plant(tmp_path / "in", count=2500)
    kills = 0
    for _ in range(8):
        job = _started(command, tmp_path / "in", vault, keys)
        try:
            job.wait(noise.uniform(0.25, 1.2))
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            kills += 1
        job.wait()
        job.stderr.close()
        if job.returncode == 0:
            break
    assert kills
    for _ in range(2):  # and once more, when it is done
        for _ in range(20):
            done = call("vault", "add", vault, tmp_path / "in", "-i", keys / "doctor.key", "-q")
            if "another job" not in done.err:  # workers of the last one may take a moment to end
                break
            time.sleep(0.5)
        assert done.status == 0, done.err
    _checked(call, vault, keys, plain, tmp_path / "back")


@pytest.mark.parametrize("words", [
    ["--patient", ""], ["--patient", "*"], ["--patient", "1CT?"], ["--study", ""], [""], ["*"],
    ["--issuer", "", "--patient", "1CT1"],
])  # fmt: skip
@pytest.mark.parametrize("verb", ["get", "share"])
def test_what_names_nothing_gives_nothing_away(tmp_path, call, keys, corpus, verb, words):
    source, vault = tmp_path / "in", tmp_path / "vault"
    source.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(next(p for p in corpus if p.name == name), source / name)
    how = ["-i", keys / "doctor.key"]
    call("vault", "create", vault, "-r", keys / "doctor.pub")
    assert call("vault", "add", vault, source, *how).status == 0
    more = ["--to", keys / "other.pub"] if verb == "share" else []
    done = call("vault", verb, vault, *words, *more, *how, "-o", tmp_path / "out")
    assert done.status == 2, done.err
    assert not (tmp_path / "out").exists()
    assert call("vault", verb, vault, "--patient", "1CT1", *more, *how, "-o",
                tmp_path / "out").status == 0
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 1


def test_nothing_is_written_into_the_vault_itself(tmp_path, call, keys, corpus):
    source, vault = tmp_path / "in", tmp_path / "vault"
    source.mkdir()
    shutil.copy(next(p for p in corpus if p.name == "CT_small.dcm"), source)
    how = ["-i", keys / "doctor.key"]
    call("vault", "create", vault, "-r", keys / "doctor.pub")
    assert call("vault", "add", vault, source, *how).status == 0
    for out in (vault, vault / "objects" / "00"):
        for words in (["get", vault, "--all"], ["share", vault, "--all", "--to",
                                                keys / "other.pub"]):
            done = call("vault", *words, *how, "-o", out, "-f")
            assert (done.status, "lies in the vault" in done.err) == (2, True)
    for path in (vault, vault / "objects", f"{vault}.keys"):
        done = call("vault", "add", vault, path, *how)
        assert (done.status, "the vault itself" in done.err) == (2, True)
    for prefix in ("../up", "a//b", ".", "a/../../b"):
        assert call("vault", "add", vault, source, "--prefix", prefix, *how).status == 2
    assert call("vault", "check", vault, *how).status in (0, None)
