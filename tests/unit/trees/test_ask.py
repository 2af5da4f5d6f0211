"""Workers ask the job's process, also while the next chunks wait for them."""

from __future__ import annotations

import pytest
from tree_jobs import asking_factory

from dicomcrypt.errors import UsageError
from dicomcrypt.trees.job import run
from dicomcrypt.trees.walk import Entry, Survey

COUNT = 2000  # many chunks


def _entries():
    return iter([Entry(b"%d" % n, "file", 10) for n in range(COUNT)])


@pytest.mark.parametrize(("jobs", "method"), [(1, None), (2, None), (2, "spawn")])
def test_every_question_has_its_answer(jobs, method):
    found = run(Survey(_entries), _entries(), asking_factory, (), jobs, start_method=method,
                answer=lambda n: "a" * 2000 + str(2 * n))
    told = sorted(outcome.message for outcome in found)
    assert told == sorted("a" * 2000 + str(2 * n) if n % 7 == 0 else str(-n)
                          for n in range(COUNT))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_answer_raises_is_the_files_failure(jobs):
    def answer(number):
        raise UsageError("no such record")

    failed = [o for o in run(Survey(_entries), _entries(), asking_factory, (), jobs, answer=answer)
              if o.state == "failed"]
    assert {(o.message, o.exit_status) for o in failed} == {("no such record", 2)}
    assert len(failed) == len(range(0, COUNT, 7))
