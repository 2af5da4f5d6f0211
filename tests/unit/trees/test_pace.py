"""How far a job is, as it is shown."""

from types import SimpleNamespace

from dicomcrypt.trees.job import _Pace
from dicomcrypt.trees.pool import Outcome


def test_what_one_worker_ends_takes_nothing_back_of_another():
    shown = []
    pace = _Pace(SimpleNamespace(through=0), None, lambda survey, done: shown.append(done))
    pace.tick(100, "a")
    pace.tick(500, "b")
    pace.tick(50, "a")
    list(pace.take([Outcome("x", "done", bytes_in=200)], "a"))
    pace.tick(300, "b")
    list(pace.take([Outcome("y", "done", bytes_in=900)], "b"))
    assert shown == [100, 600, 650, 700, 1000, 1100]
