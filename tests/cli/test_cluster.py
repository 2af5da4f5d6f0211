"""Jobs on a real Dask cluster: a scheduler and workers as processes of their own, on loopback."""

import json
import signal
import subprocess
import time

import pytest
from tree_jobs import Job

pytest.importorskip("distributed", reason="distributed missing: pip install 'dicomcrypt[dask]'")

from dask_cluster import FEW, DaskCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with DaskCluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


@pytest.fixture
def dask(cluster, call):
    """Run a command on the cluster, in this process; its JSON document."""

    def run(*words):
        done = call(*words, "--engine", "dask", "--scheduler", cluster.address, "--json")
        return done.status, json.loads(done.out) if done.out else None, done.err

    return run


def states(document):
    found = {}
    for row in document["files"]:
        found[row["state"]] = found.get(row["state"], 0) + 1
    return found


@pytest.fixture
def tree(tmp_path, doctor):
    return Job(tmp_path, "encrypt", doctor)


@pytest.mark.parametrize("names", ["keep", "encrypted"])
def test_a_tree_comes_out_as_from_one_machine(tree, dask, keys, names):
    status, document, _ = dask("encrypt", tree.source, "-r", keys / "doctor.pub", "-o", tree.out,
                               "--names", names, "--shards", "3")
    assert status == 0
    assert states(document) == {"done": len(tree.plain)}
    tree.names = names
    tree.check_done()
    assert list(tree.folder.glob("*journal*")) == []


def until(look, seconds=60):
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def slow(tmp_path_factory):
    """A cluster whose workers take their time with every file."""
    with DaskCluster(tmp_path_factory.mktemp("slow"), workers=0) as found:
        found.workers = [found.start_worker(0.08) for _ in range(2)]
        for worker in found.workers:
            found.wait_joined(worker)
        yield found


def test_a_killed_worker_s_shard_goes_on_from_its_journal(tmp_path, doctor, slow, command, keys):
    job = Job(tmp_path, "encrypt", doctor, count=48)
    words = [*command.words, "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out,
             "--engine", "dask", "--scheduler", slow.address, "--shards", "2", "--json"]
    running = subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=command.environment())
    until(lambda: len(job.in_place()) >= 2 * FEW and job.parts())
    before = set(job.in_place())
    slow.workers[0].send_signal(signal.SIGKILL)
    assert slow.workers[0].wait() == -signal.SIGKILL
    out, err = running.communicate(timeout=100)
    document = json.loads(out)
    assert running.returncode == 0, err
    found = states(document)
    print(f"\nfiles in place when the worker was killed: {len(before)} of {len(job.plain)}; rows: "
          f"{found}; summary: {document['summary']}")
    job.check_done()  # all there, each once, each whole, nothing else
    assert list(tmp_path.glob("*journal*")) == []
    # Of the killed worker's shard, what its journal had was left out.
    assert found["skipped"] >= FEW
    assert found["done"] + found["skipped"] == len(job.plain)
    assert {r["message"] for r in document["files"] if r["state"] == "skipped"} == {
        "encrypted before"}
    assert "a worker was lost" in document["summary"]["warnings"][-1]


def test_an_interrupt_ends_the_workers_shards_and_the_same_command_goes_on(
    tmp_path, doctor, slow, command, keys
):
    job = Job(tmp_path, "encrypt", doctor, count=48)
    words = [*command.words, "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out,
             "--engine", "dask", "--scheduler", slow.address, "--json"]
    running = subprocess.Popen([*map(str, words), "--shards", "2"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=command.environment())
    until(lambda: len(job.in_place()) >= 2 * FEW)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert b"goes on where it stopped" in err
    assert job.parts() == []
    some = job.check_nothing_damaged()
    assert FEW <= some < len(job.plain)
    # Its journals tell how many shards there are.
    done = subprocess.run([*map(str, words)], capture_output=True, check=False, timeout=100,
                          env=command.environment())
    assert done.returncode == 0, done.stderr
    assert states(json.loads(done.stdout))["skipped"] == some
    job.check_done()
