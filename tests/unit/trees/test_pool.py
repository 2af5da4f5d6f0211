"""Chunks of tasks, and a pool whose workers do, fail, or go away."""


import pytest
from tree_jobs import echo_factory

from dicomcrypt.errors import WorkerLostError
from dicomcrypt.trees import pool
from dicomcrypt.trees.job import Guarded
from dicomcrypt.trees.pool import Outcome, Pool, next_chunk
from dicomcrypt.trees.walk import Entry


def entries(sizes, name=b"x"):
    return [Entry(name + b"%d" % n, "file", size) for n, size in enumerate(sizes)]


def test_a_large_file_is_a_chunk_and_small_ones_share_one():
    tasks = iter(entries([10] * 200 + [pool.CHUNK_BYTES] + [10] * 3))
    sizes = [len(chunk) for chunk in iter(lambda: next_chunk(tasks), [])]
    assert sizes[0] == pool.CHUNK_TASKS
    assert sum(sizes) == 204
    assert sizes[-1] == 3


def test_long_names_do_not_fill_a_pipe():
    tasks = iter(entries([0] * 100, b"n" * 4000))
    assert all(sum(len(e.relative) for e in chunk) <= pool.CHUNK_NAMES + 4100
               for chunk in iter(lambda: next_chunk(tasks), []))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_task_is_done_once(method):
    tasks, found = entries(range(50)), []
    with Pool(echo_factory, ("did ",), 2, method) as workers:
        waiting = [tasks[at : at + 5] for at in range(0, 50, 5)]
        while waiting or workers.busy:
            while waiting and workers.wants:
                workers.give(waiting.pop())
            for _, news in workers.take(1):
                if isinstance(news, list):
                    found += news
    assert sorted(o.path for o in found) == sorted(f"did x{n}" for n in range(50))


def test_a_worker_that_goes_away_is_noticed_and_the_others_end():
    processes = []

    def lose():
        with Pool(echo_factory, ("",), 2, "fork") as workers:
            processes.extend(workers._workers.values())
            workers.give([Entry(b"die", "file")])
            while True:
                list(workers.take(5))

    with pytest.raises(WorkerLostError):
        lose()
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def test_outcomes_that_nobody_read_leave_no_outputs(tmp_path):
    part = tmp_path / ".dcmx-0123456789ab.part"
    part.touch()

    def break_off():
        with Pool(echo_part, (str(part),), 1, "fork") as workers:
            workers.give([Entry(b"a", "file")])
            (connection,) = workers._workers
            assert connection.poll(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert not part.exists()


def echo_part(part, tell):
    return Guarded(lambda entry: Outcome("a", "done", part=part), b"")


def test_an_outcome_goes_through_a_pipe_whole():
    import pickle

    first = Outcome("p", "done", "o", 1, 2, "m", 3, {"a": 1}, "part", b"r", (1, 2), b"id", True,
                    (4, 5))
    second = pickle.loads(pickle.dumps(first))  # noqa: S301
    assert all(getattr(first, name) == getattr(second, name) for name in Outcome.__slots__)
