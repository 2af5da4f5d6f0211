"""Jobs on a real Dask cluster: a scheduler and workers as processes of their own, on loopback."""

import json
import os
import signal
import subprocess
import sys
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
