"""Jobs on a real Dask cluster: a scheduler and workers as processes of their own, on loopback."""

import contextlib
import gc
import http.server
import json
import re
import signal
import subprocess
import threading
import time

import pytest
from dask_cluster import FEW, DaskCluster
from tree_jobs import Job
from vault_world import write_dicom

from dicomcrypt.errors import UsageError
from tests.conftest import require_module

require_module("distributed", "dask")


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
def begin(cluster, command):
    """Start a command on the cluster, as a process."""

    def start(*words):
        words = [*command.words, *words, "--engine", "dask", "--scheduler", cluster.address]
        return subprocess.Popen([*map(str, words), "--json"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=command.environment())

    return start


def test_a_killed_worker_s_shard_goes_on_from_its_journal(tmp_path, doctor, cluster, begin, keys):
    job = Job(tmp_path, "encrypt", doctor, count=40)
    with cluster.slow():
        running = begin("encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out,
                        "--shards", "2")
        until(lambda: len(job.in_place()) >= 3 * FEW and job.parts())
        before = set(job.in_place())
        cluster.kill_busy()
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
    tmp_path, doctor, cluster, begin, dask, keys
):
    job = Job(tmp_path, "encrypt", doctor, count=40)
    words = "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out
    with cluster.slow():
        running = begin(*words, "--shards", "2")
        until(lambda: len(job.in_place()) >= 3 * FEW)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=100)
    assert running.returncode == 130, err
    assert b"goes on where it stopped" in err
    assert job.parts() == []
    some = job.check_nothing_damaged()
    assert FEW <= some < len(job.plain)
    # Its journals tell how many shards there are.
    status, document, _ = dask(*words)
    assert status == 0
    assert states(document)["skipped"] == some
    job.check_done()


def test_a_second_job_on_an_output_is_refused_and_the_first_goes_on(
    tmp_path, doctor, cluster, begin, dask, keys
):
    job = Job(tmp_path, "encrypt", doctor, count=40)
    words = "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out, "--shards", "2"
    with cluster.slow():
        running = begin(*words)
        until(lambda: len(job.in_place()) >= FEW)
        status, document, _ = dask(*words)
        assert running.poll() is None
    assert status == 1
    assert "another job writes into" in document["summary"]["error"]
    out, err = running.communicate(timeout=100)
    assert running.returncode == 0, err
    assert states(json.loads(out)) == {"done": 40}
    job.check_done()


def test_a_job_whose_process_was_killed_goes_on_when_it_is_given_again(
    tmp_path, doctor, cluster, begin, dask, keys
):
    job = Job(tmp_path, "encrypt", doctor, count=40)
    words = "encrypt", job.source, "-r", keys / "doctor.pub", "-o", job.out, "--shards", "2"
    with cluster.slow():
        running = begin(*words)
        until(lambda: len(job.in_place()) >= 2 * FEW)
        running.kill()
        running.communicate(timeout=100)
    # Its workers have the journals until they notice.
    status, document, err = until(lambda: (done := dask(*words))[0] != 1 and done)
    assert status == 0, err
    assert states(document)["skipped"] >= FEW
    job.check_done()
    assert list(tmp_path.glob("*journal*")) == []


def test_verify_and_rewrap_as_on_one_machine(tmp_path, doctor, dask, call, keys):
    job = Job(tmp_path, "decrypt", doctor)
    names = sorted(job.sources().values())
    damaged = names[5]
    data = bytearray(damaged.read_bytes())
    data[-40] ^= 1
    damaged.write_bytes(data)
    status, document, _ = dask("verify", job.source, "-i", keys / "doctor.key", "--shards", "3")
    local = call("verify", job.source, "-i", keys / "doctor.key", "--json")
    assert status == local.status == 4
    assert sorted(document["files"], key=str) == sorted(json.loads(local.out)["files"], key=str)
    assert states(document) == {"done": len(names) - 1, "failed": 1}
    damaged.unlink()
    for expected in ("done", "skipped"):
        status, document, _ = dask("rewrap", job.source, "-i", keys / "doctor.key", "--add",
                                   keys / "other.pub", "--shards", "3")
        assert (status, states(document)) == (0, {expected: len(names) - 1})
    assert call("verify", job.source, "-i", keys / "other.key").status == 0


def test_workers_read_an_identity_of_their_own(tmp_path, doctor, dask, keys):
    job = Job(tmp_path, "decrypt", doctor, count=6)
    status, document, _ = dask("verify", job.source, "--worker-identity", keys / "doctor.key")
    assert (status, states(document)) == (0, {"done": 6})
    status, document, _ = dask("verify", job.source, "--worker-identity", tmp_path / "none.key")
    assert status == 2
    assert "none.key" in document["summary"]["error"]


def test_no_identity_fits(tmp_path, doctor, dask, keys):
    job = Job(tmp_path, "decrypt", doctor, count=6)
    status, document, _ = dask("verify", job.source, "-i", keys / "other.key", "--shards", "2")
    assert (status, states(document)) == (3, {"failed": 6})


def test_a_folder_that_workers_do_not_see(tmp_path, cluster, keys, dask, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_bytes(b"x")
    from dicomcrypt.cluster import shards

    # The file by which they know the folder is not there, as on another machine.
    monkeypatch.setattr(shards, "probing", lambda out: contextlib.nullcontext(f"{out}/missing"))
    status, document, _ = dask("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o",
                               tmp_path / "out")
    assert status == 2
    assert "does not see this machine's" in document["summary"]["error"]
    assert list((tmp_path / "out").iterdir()) == []


def test_another_job_s_shard_is_not_waited_for(tree, dask, keys):
    from dicomcrypt.trees.journal import Journal, place

    journal = Journal(place(str(tree.out), (2, 3), None), bytes(32))
    try:
        status, document, _ = dask("encrypt", tree.source, "-r", keys / "doctor.pub", "-o",
                                   tree.out)
    finally:
        journal.close()
    assert status == 1
    assert "another job has the journal" in document["summary"]["error"]


@pytest.mark.parametrize(("words", "said"), [
    (("--engine", "dask"), "--scheduler tcp"),
    (("--scheduler", "tcp://127.0.0.1:1"), "--engine dask only"),
    (("--engine", "dask", "--scheduler", "127.0.0.1:1"), "give tcp://"),
    (("--engine", "dask", "--scheduler", "tcp://127.0.0.1"), "give tcp://"),
    (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:65536"), "give tcp://"),
    (("--engine", "dask", "--scheduler", "tls://127.0.0.1:1"),
     "needs --dask-ca, --dask-cert and --dask-key"),
    (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--dask-ca", "x"), "tls://"),
    (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--shard", "1/2"), "--shard is"),
    (("--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "-j", "2"), "--jobs is"),
])
def test_what_cannot_be_meant_is_refused(tmp_path, call, keys, words, said):
    (tmp_path / "in").mkdir()
    done = call("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "out",
                *words)
    assert done.status == 2
    assert said in done.err


def test_a_scheduler_that_is_not_there(tmp_path, call, keys, monkeypatch):
    monkeypatch.setattr("dicomcrypt.cluster.connection.PATIENCE", 1)
    (tmp_path / "in").mkdir()
    done = call("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "out",
                "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1")
    assert done.status == 1
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in done.err


@pytest.mark.filterwarnings("error")
def test_what_is_no_scheduler_is_not_waited_for(tmp_path, call, keys, monkeypatch):
    monkeypatch.setattr("dicomcrypt.cluster.connection.PATIENCE", 0.5)
    (tmp_path / "in").mkdir()
    # As the port of the scheduler's dashboard, which may be taken for the scheduler's.
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        done = call("encrypt", tmp_path / "in", "-r", keys / "doctor.pub", "-o", tmp_path / "out",
                    "--engine", "dask", "--scheduler", address)
        server.shutdown()
    gc.collect()  # a connection that did not come about has nothing to close
    assert done.status == 1
    assert f"no Dask scheduler answers at '{address}'" in done.err


class QuietHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *said):
        pass


def test_keys_go_to_a_scheduler_on_loopback_only(tmp_path, doctor, dask, keys, monkeypatch):
    from dicomcrypt.cluster import connection

    job = Job(tmp_path, "decrypt", doctor, count=4)
    words = ("verify", job.source, "-i", keys / "doctor.key", "--shards", "1")
    monkeypatch.setattr(connection, "is_loopback", lambda address: False)
    status, document, _ = dask(*words)
    assert status == 5
    assert "keys would travel in clear" in document["summary"]["error"]
    status, document, _ = dask(*words, "--secrets-in-clear")
    assert (status, states(document)) == (0, {"done": 4})


@pytest.fixture
def certified(tmp_path):
    """{name: file} of an authority, and of a certificate of this machine by it."""
    import trustme

    ca = trustme.CA()
    mine = ca.issue_cert("127.0.0.1", "localhost")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    ca.cert_pem.write_to_path(files["ca"])
    mine.cert_chain_pems[0].write_to_path(files["cert"])
    mine.private_key_pem.write_to_path(files["key"])
    return files


def test_keys_go_over_tls(tmp_path, doctor, keys, call, certified):
    files = certified
    job = Job(tmp_path, "decrypt", doctor, count=4)
    security = ("--tls-ca-file", files["ca"], "--tls-cert", files["cert"], "--tls-key",
                files["key"])
    (tmp_path / "dask").mkdir()
    with DaskCluster(tmp_path / "dask", workers=1, security=security) as cluster:
        assert cluster.address.startswith("tls://")
        words = ("verify", job.source, "-i", keys / "doctor.key", "--engine", "dask",
                 "--scheduler", cluster.address, "--json", "--dask-ca", files["ca"])
        done = call(*words, "--dask-cert", files["cert"], "--dask-key", files["key"])
        assert done.status == 0, done.err
        assert states(json.loads(done.out)) == {"done": 4}


@pytest.mark.parametrize(("changed", "said"), [
    ({"ca": b"none"}, "ca.pem': what is there cannot be used"),
    ({"cert": b"none"}, "--dask-cert and --dask-key, or Dask's configuration: what is there"),
    ({"key": b"none"}, "--dask-cert and --dask-key, or Dask's configuration: what is there"),
    ({"cert": None}, "needs --dask-ca, --dask-cert and --dask-key"),
    ({"ca": None}, "needs --dask-ca, --dask-cert and --dask-key"),
])
def test_certificates_that_are_none(certified, changed, said):
    from dicomcrypt.cluster.connection import Cluster, Place

    for name, data in changed.items():
        if data is None:
            del certified[name]
        else:
            certified[name].write_bytes(data)
    given = (str(certified[name]) if name in certified else None for name in ("ca", "cert", "key"))
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        Cluster(Place("tls://127.0.0.1:1", *given))
    assert "--dask-ca" in str(refused.value)


# ---- vaults ------------------------------------------------------------------


@pytest.fixture
def vault(tmp_path, keys, call):
    path = tmp_path / "vault"
    assert call("vault", "create", path, "-r", keys / "doctor.pub").status == 0
    return path


def restored(call, vault, keys, out):
    done = call("vault", "get", vault, "--all", "-i", keys / "doctor.key", "-o", out, "-q")
    assert done.status == 0, done.err
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture
def ward(tmp_path):
    """Files of eight patients, five and a double each; {path in the vault: bytes}."""
    folder = tmp_path / "ward"
    for patient in range(8):
        (folder / f"p{patient}").mkdir(parents=True)
        for number in range(5):
            write_dicom(folder / f"p{patient}" / f"i{number}.dcm", f"P{patient}", f"1.2.{patient}",
                        number)
        (folder / f"p{patient}" / "double.dcm").write_bytes(
            (folder / f"p{patient}" / "i0.dcm").read_bytes())
    return {str(p.relative_to(tmp_path)): p.read_bytes() for p in folder.rglob("*.dcm")}


def check_vault(call, vault, keys, ward, out, objects):
    """Every file comes back, each object is there once, and nothing is left over."""
    assert restored(call, vault, keys, out) == ward
    assert call("vault", "check", vault, "-i", keys / "doctor.key").status == 0
    assert len(list(vault.glob("objects/*/*.dcmx"))) == objects
    assert [p for p in vault.parent.rglob(".dcmx-*") if p.is_file()] == []
    assert list(vault.parent.glob("*journal*")) == []


def test_a_ward_is_added_on_a_cluster(tmp_path, vault, ward, keys, dask, call):
    words = "vault", "add", vault, tmp_path / "ward", "-i", keys / "doctor.key"
    status, document, err = dask(*words)
    assert status == 0, err
    assert states(document) == {"done": 48}
    check_vault(call, vault, keys, ward, tmp_path / "out", 40)
    status, document, _ = dask(*words)
    assert states(document) == {"skipped": 48}


def test_a_worker_killed_while_it_seals_for_a_vault(
    tmp_path, vault, ward, keys, cluster, begin, call
):
    with cluster.slow():
        running = begin("vault", "add", vault, tmp_path / "ward", "-i", keys / "doctor.key")
        until(lambda: len(list(vault.glob("objects/*/.dcmx-*.part"))) >= 8)
        cluster.kill_busy()
    out, err = running.communicate(timeout=100)
    document = json.loads(out)
    assert running.returncode == 0, err
    print(f"\nvault: {states(document)}; {document['summary']['warnings']}")
    assert states(document) == {"done": 48}
    check_vault(call, vault, keys, ward, tmp_path / "out", 40)
