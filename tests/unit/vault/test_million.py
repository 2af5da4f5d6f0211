"""A large catalogue: five thousand rows in the tests, a million in `make soak`."""

from __future__ import annotations

import pytest
from vault_rows import measure


def check(figures, count):
    """The answers; how long they took is for whoever reads the output (`pytest -s`)."""
    assert figures["stats"]["objects"] == count
    for name, figure in figures.items():
        print(f"{name}: {figure}")


def test_five_thousand_rows(tmp_path):
    check(measure(str(tmp_path), 100), 100 * 50)


@pytest.mark.soak
def test_a_million_rows(tmp_path):
    check(measure(str(tmp_path), 20000), 1_000_000)
