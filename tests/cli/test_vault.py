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

from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.vault import Vault


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
                           (2, "--object", "00" * 16)):
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
    plant(tmp_path / "in", count=1000)
    first = _started(command, tmp_path / "in", vault, keys)
    for _ in range(5000):
        time.sleep(0.001)
        if [p for p in vault.parent.glob("vault.*.dcmx-journal")]:
            break
    first.send_signal(signal.SIGSTOP)  # so that it is there as long as the second one looks
    done = call("vault", "add", vault, tmp_path / "in", "-i", keys / "doctor.key", "-j", "1")
    first.send_signal(signal.SIGCONT)
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
            job.wait(noise.uniform(0.2, 0.5))
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


@pytest.fixture(scope="module")
def two_patients(tmp_path_factory, doctor, corpus):
    """A vault with a file each of two patients, which nothing changes."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "in").mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(next(p for p in corpus if p.name == name), folder / "in" / name)
    with Vault.create(folder / "vault", {"doctor": doctor.recipient}) as vault:
        found = list(add_tree(vault, str(folder / "in"), AddOptions(sync=False)))
    assert [outcome.state for outcome in found] == ["done"] * 2
    return folder / "vault"


@pytest.mark.parametrize("words", [
    ["--patient", ""], ["--patient", "*"], ["--patient", "1CT?"], ["--study", ""], [""], ["*"],
    ["--issuer", "", "--patient", "1CT1"],
])  # fmt: skip
@pytest.mark.parametrize("verb", ["get", "share"])
def test_what_names_nothing_gives_nothing_away(tmp_path, call, keys, two_patients, verb, words):
    vault, how = two_patients, ["-i", keys / "doctor.key"]
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


@pytest.fixture
def added(call, keys, vault, tree):
    assert call("vault", "add", vault, tree, "-i", keys / "doctor.key", "-q").status == 0
    return vault


def test_failures_of_one_cause_end_with_its_status(call, keys, added, tmp_path):
    who, names = ("-i", keys / "doctor.key"), sorted(added.rglob("objects/*/*.dcmx"))
    names[0].write_bytes(names[0].read_bytes()[:-1])
    for words in (["verify"], ["get", "--all", "-o", tmp_path / "a"]):
        done = call("vault", words[0], added, *words[1:], *who)
        assert (done.status, "1 failed" in done.err) == (4, True)
    names[0].unlink()
    share = ["share", "--all", "--to", keys / "other.pub", "-o", tmp_path / "s"]
    for words in (["verify"], ["get", "--all", "-o", tmp_path / "b"], share,
                  ["cat", "--object", names[0].stem]):
        done = call("vault", words[0], added, *words[1:], *who)
        assert done.status == 4, done.err
        assert names[0].name in done.err
        assert "vault repair --drop-missing" in done.err
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "ward").write_text("in the way")
    done = call("vault", "get", added, "--all", *who, "-o", tmp_path / "c")
    assert done.status == 1  # of two causes


def test_what_the_vault_has_not_is_wrong_usage(call, keys, added, tmp_path):
    who = ("-i", keys / "doctor.key")
    for words in (["cat", "--object", "00" * 16], ["cat", "no/such.dcm"],
                  ["get", "--object", "00" * 16, "-o", tmp_path / "x"],
                  ["verify", "--object", "00" * 16]):
        assert call("vault", words[0], added, *words[1:], *who).status == 2, words


def test_of_several_contents_one_is_chosen(call, command, keys, added, tree, tmp_path):
    who = ("-i", keys / "doctor.key")
    path = tree / "README.txt"
    before = path.read_bytes()
    path.write_bytes(b"newer")
    assert call("vault", "add", added, tree, *who, "-q").status == 0
    done = call("vault", "cat", added, "ward/README.txt", *who)
    assert (done.status, done.out) == (2, "")
    *shown, last = done.err.splitlines()
    assert len(shown) == 2
    assert all("added 20" in line and "ward/README.txt" in line for line in shown)
    assert "--object ID" in last
    assert "--latest" in last
    for words, content in ((["--object", shown[0][:32]], before),
                           (["--object", shown[1][:32]], b"newer"),
                           (["ward/README.txt", "--latest"], b"newer")):
        assert command("vault", "cat", added, *words, *who).stdout == content


def test_a_link_to_a_vault_is_the_vault(call, keys, added, tmp_path):
    who, link = ("-i", keys / "doctor.key"), tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(added)
    for name in (link, f"{link}/"):
        assert call("vault", "stats", name, *who).status == 0
    assert call("vault", "add", link, tmp_path / "ward", *who).status == 0
    assert os.listdir(link.parent) == ["link"]


def test_another_vaults_key_table_is_named_with_the_vault(call, keys, added, tmp_path):
    who, other = ("-i", keys / "doctor.key"), tmp_path / "other"
    assert call("vault", "create", other, "-r", keys / "doctor.pub").status == 0
    for words in (["ls", added, "--keys", f"{other}.keys"],
                  ["restore-keys", added, f"{other}.keys"]):
        done = call("vault", *words, *who)
        assert done.status == 2
        assert f"{other}.keys" in done.err
        assert f"'{added}'" in done.err


def test_named_files_are_one_job(call, keys, vault, tree, tmp_path):
    who, more = ("-i", keys / "doctor.key"), tmp_path / "more"
    more.mkdir()
    (more / "a.txt").write_text("a")
    (more / "link").symlink_to("a.txt")
    names = [*sorted(tree.iterdir()), more / "a.txt", more / "link", more / "a.txt"]
    done = call("vault", "add", vault, *names, tmp_path / "nothing", more, *who, "--json")
    assert done.status == 1
    facts = json.loads(done.out)
    assert [f["message"] for f in facts["files"] if f["state"] == "failed"] == [
        "no such file or directory"]
    assert facts["summary"]["done"] == len(names) - 1 + 2
    stats = json.loads(call("vault", "stats", vault, *who, "--json").out)
    assert stats["segments"] == 2  # of the files, and of the folder
    paths = [f["path"] for f in json.loads(call("vault", "find", vault, "--path", "*", *who,
                                                "--json").out)]
    assert sorted(paths) == sorted([*(p.name for p in tree.iterdir()), "a.txt", "link",
                                    "more/a.txt", "more/link"])
    done = call("vault", "add", vault, *(p for p in names if not p.is_symlink()), *who)
    assert "0 done" in done.err
    done = call("vault", "add", vault, tree / "README.txt", f"{vault}.keys.reserve", *who)
    assert (done.status, "the vault itself" in done.err) == (2, True)


def test_a_vault_is_made_in_no_other(call, keys, vault):
    done = call("vault", "create", vault / "objects" / "new", "-r", keys / "doctor.pub")
    assert (done.status, f"lies in the vault '{vault}'" in done.err) == (2, True)
    assert not (vault / "objects" / "new").exists()


def test_what_is_asked_for_and_not_there_is_not_passed_over(call, keys, added, tmp_path):
    who, ct = ("-i", keys / "doctor.key"), "ward/CT_small.dcm"
    (row,) = json.loads(call("vault", "find", added, *who, "--patient", "1CT1", "--json").out)
    for words, missing in (
        ([ct, "ward/none"], "'ward/none'"),
        ([ct, "none/", "nope"], "'none', nor 1 more"),
        (["--patient", "1CT1", "--patient", "none"], "'none'"),
        (["--object", row["object_id"], "--patient", "none"], "'none'"),
        (["--object", row["object_id"], "none"], "'none'"),
    ):
        for verb in (("get",), ("share", "--to", keys / "index.pub")):
            done = call("vault", *verb, added, *words, *who, "-o", tmp_path / "out")
            assert done.status == 2
            assert missing in done.err
            assert not (tmp_path / "out").exists()
    for words in ([ct, "ward"], ["ward", "--issuer", "x"], [ct, "--object", row["object_id"]],
                  ["--patient", "1CT1", "--patient", "4MR1"]):
        done = call("vault", "get", added, *words, *who, "-o", tmp_path / "out", "-f")
        assert done.status == (2 if "--issuer" in words else 0), done.err


def test_a_listing_that_an_old_key_table_cuts_short_says_so(call, keys, added, tree, tmp_path):
    who = ("-i", keys / "doctor.key")
    table = added.with_name("vault.keys")
    shutil.copy(table, tmp_path / "old")
    (tmp_path / "note.txt").write_text("of later")
    assert call("vault", "add", added, tmp_path / "note.txt", *who).status == 0
    added.with_name("vault.cache").unlink(missing_ok=True)
    shutil.copy(tmp_path / "old", table)
    for words in (["ls"], ["find", "--path", "*"], ["stats", "--json"],
                  ["get", "--all", "-o", tmp_path / "out"],
                  ["share", "--all", "-o", tmp_path / "shared", "--to", keys / "index.pub"]):
        done = call("vault", words[0], added, *words[1:], *who)
        assert done.status == 4, words
        assert "1 record keys that the key table has not" in done.err
    assert os.listdir(tmp_path / "out/ward")


def test_a_header_that_is_gone_is_made_again(call, keys, added):
    who, header = ("-i", keys / "doctor.key"), added / "vault"
    whole = header.read_bytes()
    for damaged in (None, b"", b"DCMXVLT1", whole[:8] + bytes(24)):
        header.unlink()
        if damaged is not None:
            header.write_bytes(damaged)
        assert call("vault", "ls", added, *who).status in (2, 4)
        done = call("vault", "check", added, *who)
        assert (done.status, "header" in done.err) == (4, True), done.err
        assert call("vault", "repair", added, *who).status == 0
        assert header.read_bytes() == whole
        assert call("vault", "check", added, *who).status == 0


def test_a_vault_is_for_somebody(call, tmp_path):
    done = call("vault", "create", tmp_path / "new")
    assert done.status == 2
    assert "give -r FILE" in done.err
    assert not (tmp_path / "new").exists()


def test_an_old_head_says_what_to_do(call, keys, added, tmp_path):
    who = ("-i", keys / "doctor.key")
    shutil.copytree(added, tmp_path / "old")
    (tmp_path / "note.txt").write_text("of later")
    assert call("vault", "add", added, tmp_path / "note.txt", *who).status == 0
    shutil.rmtree(added)
    (tmp_path / "old").rename(added)
    for verb in ("ls", "repair"):
        done = call("vault", verb, added, *who)
        assert done.status == 4
        assert "put back from a backup" in done.err
        assert "--rebuild" in done.err
    assert call("vault", "repair", added, "--rebuild", *who).status == 0
    assert call("vault", "check", added, *who).status == 0
