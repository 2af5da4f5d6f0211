"""Jobs killed at random moments: nothing is lost, damaged or left over. Run with -s for the table.

The short form has six kills; `make soak` has more than sixty.
"""

import pytest
from kill_table import KillTable


def check(table):
    print("\n" + table.text())
    for row in table.rows:
        assert (row.damaged, row.lost, row.double, row.left_over) == (0, 0, 0, 0), row
        if row.done is not None:
            assert row.skipped + row.done == len(table.tree), row
            # What had its name at the kill, or only lacked it, is not done again.
            assert row.skipped >= row.in_place, row


def test_six_kills(tmp_path, keys, doctor, command):
    table = KillTable(tmp_path, keys, doctor, command, count=100, files=6)
    table.run(6)
    check(table)


@pytest.mark.soak
def test_sixty_four_kills(tmp_path, keys, doctor, command):
    table = KillTable(tmp_path, keys, doctor, command, count=600)
    table.run(64)
    check(table)
    assert sum(0 < row.in_place < len(table.tree) for row in table.rows) >= 10
