"""A large catalogue: twenty thousand rows in the tests, a million in `make soak`."""

from __future__ import annotations

import pytest
from vault_rows import measure


def test_twenty_thousand_rows(tmp_path):
    figures = measure(str(tmp_path), 400)
    assert figures["stats"]["objects"] == 400 * 50
    assert figures["cached open"] < 1
    assert figures["find name: patient"] < 0.5


@pytest.mark.soak
def test_a_million_rows_open_in_ten_seconds_and_a_patient_is_found_in_a_tenth(tmp_path):
    figures = measure(str(tmp_path), 20000)
    assert figures["stats"]["objects"] == 1_000_000
    assert figures["cold open, no cache"] < 10
    assert figures["cached open"] < 2
    assert max(figures[f"find {key}: patient"] for key in ("patient id", "name")) < 0.1
