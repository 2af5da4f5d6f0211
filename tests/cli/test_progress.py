"""What a job shows: a bar on a terminal, a summary, rows as JSON, and what it would do."""

import json
import os
import re

import pytest
from terminal import screen
from tree_jobs import Job


def on_a_terminal(words, environment):
    """Run a command on a terminal of its own; return (exit status, what it showed)."""
    environment = {**environment, "COLUMNS": "150", "TERM": "xterm"}
    status, shown = screen(words, environment)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    return status, text


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_bar_of_a_tree(tmp_path, doctor, keys, command, verb, jobs):
    job = Job(tmp_path, verb, doctor, count=8, size=1000)
    with open(job.root / "large.dcm", "wb") as file:
        file.truncate(300_000_000)
    key = ["-r", keys / "doctor.pub", "--method", "none"]
    if verb == "decrypt":
        done = command("encrypt", job.root / "large.dcm", *key, "-o",
                       job.source / "large.dcm.dcmx")
        assert done.returncode == 0
        key = ["-i", keys / "doctor.key"]
    bad = job.source / "bad.dcmx"
    bad.write_bytes(b"no object") if verb == "decrypt" else bad.symlink_to(tmp_path / "nowhere")
    more = ["--links", "follow"] if verb == "encrypt" else []
    words = [*command.words, verb, job.source, *key, *more, "-o", job.out, "-j", jobs]
    status, shown = on_a_terminal([*map(str, words)], command.environment())
    assert status == (1 if verb == "encrypt" else 4)
    assert re.search(r"\d+ of 10 files, ", shown), shown[-2000:]
    assert re.search(r"[\d.]+ [kM]B, [\d.]+ [kMG]?B/s, \d+:\d\d left, ", shown)
    assert ", 0 failed" in shown or ", 1 failed" in shown
    assert re.search(r"failed  \S*large\.dcm", shown), "the file that is being done"
    assert re.search(r"failed: \S+/bad\.dcmx: ", shown)
    assert re.search(rf"{verb}: 9 done, 0 skipped, 1 failed, 30\d\.\d MB in, ", shown)


def test_one_large_file_shows_a_bar_too(tmp_path, keys, command):
    with open(tmp_path / "large.dcm", "wb") as file:
        file.truncate(300_000_000)
    for words in (
        ["encrypt", tmp_path / "large.dcm", "-r", keys / "doctor.pub", "--method", "none"],
        ["decrypt", tmp_path / "large.dcm.dcmx", "-i", keys / "doctor.key", "-o", tmp_path / "b"],
        ["verify", tmp_path / "large.dcm.dcmx", "-i", keys / "doctor.key"],
    ):
        status, shown = on_a_terminal([*map(str, [*command.words, *words])],
                                      command.environment())
        assert status == 0
        assert re.search(r"of 1 files, \d+\.\d [kM]B, \d+\.\d [kMG]B/s, \d+:\d\d left", shown)
        assert re.search(r"0 failed  \S*large\.dcm", shown)


def test_no_bar_where_it_is_not_wanted(tmp_path, doctor, keys, command):
    job = Job(tmp_path, "encrypt", doctor)
    words = [*command.words, "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out, "-q"]
    assert on_a_terminal([*map(str, words)], command.environment()) == (0, "")


def test_hard_links_are_noticed(tmp_path, keys, call):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"one")
    os.link(tmp_path / "in" / "a", tmp_path / "in" / "b")
    (tmp_path / "in" / "c").write_bytes(b"alone")
    done = call("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "out", "-j",
                "1")
    assert done.status == 0
    assert "2 files have other names (hard links); each name was encrypted" in done.err


# ---- JSON ----------------------------------------------------------------------------


def test_a_row_a_file(tmp_path, doctor, keys, call):
    job = Job(tmp_path, "encrypt", doctor)
    os.symlink("gone", job.root / "link")
    os.link(job.root / min(job.plain), job.root / "again")
    done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "-j", "2", "--json",
                "--links", "follow", "--verify")
    assert done.status == 1
    found = json.loads(done.out)
    rows = {os.path.relpath(row["path"], job.root): row for row in found["files"]}
    assert len(found["files"]) == len(rows) == len(job.plain) + 2
    for name, data in job.plain.items():
        row = rows[name]
        assert row["state"] == "done"
        assert row["output"] == str(job.out / f"{name}.dcmx")
        assert row["bytes_in"] == len(data)
        assert row["bytes_out"] == os.path.getsize(row["output"])
        assert row["exit_status"] == 0
        assert row["verified"] in ("medium", "cache")
    assert rows["link"]["state"] == "failed"
    assert "no such file" in rows["link"]["message"]
    assert rows["again"]["hard_links"] == rows[min(job.plain)]["hard_links"] == 2
    summary = found["summary"]
    assert (summary["done"], summary["failed"]) == (len(job.plain) + 1, 1)
    assert summary["exit_status"] == 1


# ---- what would be done -------------------------------------------------------------------


@pytest.mark.parametrize("names", ["keep", "encrypted"])
@pytest.mark.parametrize("one", [False, True], ids=["tree", "file"])
def test_a_dry_run_writes_nothing(tmp_path, doctor, keys, call, snapshot, names, one, forge):
    job = Job(tmp_path, "encrypt", doctor)
    forge(job.root, file=b"old.dcmx")
    before = snapshot(tmp_path)
    source = job.root / min(job.plain) if one else job.root
    words = ("encrypt", source, "-r", keys / "doctor.pub", "-o", job.out, "--names", names)
    done = call(*words, "--dry-run")
    assert done.status == 0
    count = 1 if one else len(job.plain)
    assert f"encrypt, dry run: {count} to do, {0 if one else 1} skipped, 0 failed" in done.err
    assert "nothing was written" in done.err
    done = call(*words, "--dry-run", "--json")
    found = json.loads(done.out)
    planned = [row for row in found["files"] if row["state"] == "planned"]
    assert len(planned) == found["summary"]["planned"] == count
    assert snapshot(tmp_path) == before
    # And what was planned is what is done.
    done = call(*words, "--json", "-j", "1")
    rows = [row for row in json.loads(done.out)["files"] if row["state"] == "done"]
    assert {r["path"] for r in rows} == {r["path"] for r in planned}
    if names == "keep":
        assert {r["output"] for r in rows} == {r["output"] for r in planned}


def test_a_dry_run_names_what_is_in_the_way(tmp_path, doctor, keys, call):
    job = Job(tmp_path, "encrypt", doctor)
    words = ("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out)
    assert call(*words).status == 0
    done = call(*words, "--dry-run")
    assert done.status == 1
    assert "give --force to overwrite it, or --resume" in done.err
    done = call(*words, "--dry-run", "--resume")
    assert f"0 to do, {len(job.plain)} skipped" in done.err or "skipped" in done.err
    assert f"{len(job.plain)} to do" in call(*words, "--dry-run", "--force").err


def test_a_dry_run_of_a_shard(tmp_path, doctor, keys, call):
    job = Job(tmp_path, "encrypt", doctor)
    planned = 0
    for shard in ("1/2", "2/2"):
        done = call("encrypt", job.root, "-r", keys / "doctor.pub", "-o", job.out, "--dry-run",
                    "--shard", shard)
        planned += int(re.search(r"dry run: (\d+) to do", done.err)[1])
    assert planned == len(job.plain)


def test_a_dry_run_into_several_makes_no_folder(tmp_path, keys, call):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    done = call("encrypt", tmp_path / "a", tmp_path / "b", "-r", keys / "doctor.pub", "-o",
                tmp_path / "out", "--dry-run")
    assert done.status == 0
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
