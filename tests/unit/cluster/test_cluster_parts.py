"""What the engine for clusters is made of, without a cluster."""

import pytest

import dicomcrypt
from dicomcrypt.errors import DicomcryptError, JobBusyError, UsageError, WorkerLostError
from tests.conftest import require_module

require_module("distributed", "dask")


def test_a_job_keeps_its_number_of_shards(tmp_path):
    from dicomcrypt.cluster.shards import shard_count

    out = str(tmp_path / "out")
    assert [shard_count(out, None, 5), shard_count(out, 7, 5), shard_count(None, None, 1)] == [
        20, 7, 4]
    (tmp_path / "out.dcmx-journal-3-of-6").touch()
    assert shard_count(out, None, 5) == shard_count(out, 6, 5) == 6
    with pytest.raises(UsageError, match="give --shards 6"):
        shard_count(out, 7, 5)


@pytest.mark.parametrize(("address", "local"), [
    ("tcp://127.0.0.1:8786", True), ("tcp://[::1]:8786", True), ("tcp://localhost:1", True),
    ("tcp://0.0.0.0:8786", False), ("tcp://10.0.0.5:8786", False), ("tcp://[::]:8786", False),
    ("tcp://127.0.0.1.example:8786", False),
])
def test_which_addresses_only_this_machine_reaches(address, local):
    from dicomcrypt.cluster.connection import is_loopback

    assert is_loopback(address) is local


def test_jobs_show_no_secrets():
    from dicomcrypt.cluster.jobs import EncryptShards, WorkerKeys
    from dicomcrypt.cluster.work import Answers, Chunks
    from dicomcrypt.keys.passphrase import Passphrase
    from dicomcrypt.trees.tree import EncryptOptions

    job = EncryptShards("a", "b", {1: [Passphrase("secret")]}, False, False, EncryptOptions())
    assert job.secret
    shown = repr([job, WorkerKeys([dicomcrypt.Identity.generate()]), Answers({1: b"secret"}),
                  Chunks(print, (b"secret",), "", "", True)])
    assert "secret" not in shown
    assert shown.count("...") == 3


class Ended:
    """A future of Dask's that has ended."""

    def __init__(self, status, error=None):
        self.status, self._error = status, error

    def exception(self):
        return self._error


class KilledWorker(Exception):
    pass


@pytest.mark.parametrize(("ended", "kind", "said"), [
    (Ended("cancelled"), WorkerLostError, "goes on where it stopped"),
    (Ended("error", KilledWorker()), WorkerLostError, "died again and again"),
    (Ended("error", UsageError("as it is")), UsageError, "^as it is$"),
    (Ended("error", ImportError("/home/someone")), DicomcryptError, "part .ImportError.: has it"),
])
def test_what_ended_a_task_is_said_in_our_words(ended, kind, said):
    from dicomcrypt.cluster.connection import result_of

    with pytest.raises(kind, match=said):
        result_of(ended)


def test_a_worker_of_another_version_does_nothing(tmp_path):
    from dicomcrypt.cluster.work import check_same

    check_same(dicomcrypt.__version__, str(tmp_path), str(tmp_path))
    with pytest.raises(UsageError, match="must be the same"):
        check_same("0.0", None, None)


def test_a_probe_that_a_killed_job_left_goes(tmp_path):
    from dicomcrypt.cluster.tasks import LOCK, probing

    part = tmp_path / (".dcmx-da5c0000" + "0" * 12 + ".part")  # a job's own, which is longer
    part.touch()
    (tmp_path / LOCK).touch()
    with probing(str(tmp_path)) as first:
        left = tmp_path / (first[:-9] + "0000.part")
        left.touch()
    with probing(str(tmp_path)) as second:
        assert {str(p) for p in tmp_path.iterdir()} == {second, str(part), str(tmp_path / LOCK)}
    assert list(tmp_path.iterdir()) == [part]


def test_a_probe_of_a_job_that_goes_on_stays(tmp_path):
    from dicomcrypt.cluster.tasks import probing

    with probing(str(tmp_path)) as first:
        there = set(tmp_path.iterdir())
        with pytest.raises(JobBusyError, match="another job writes into"), probing(str(tmp_path)):
            pass
        assert set(tmp_path.iterdir()) == there
        assert first in map(str, there)
