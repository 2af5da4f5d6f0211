"""A vault's writers killed at random moments: nothing is lost. Run with -s for the table.

The short form has six kills; `make soak` has 120.
"""

import pytest
from vault_kill import VERBS, VaultKills


def check(table):
    print("\n" + table.text())
    for row in table.rows:
        assert (row.lost, row.damaged, row.wrong) == (0, 0, 0), row


def test_a_kill_of_each_command(tmp_path, command):
    table = VaultKills(tmp_path, command.environment())
    table.run(len(VERBS))
    check(table)


@pytest.mark.soak
def test_a_hundred_and_twenty_kills(tmp_path, command):
    table = VaultKills(tmp_path, command.environment(), files=60)
    table.run(120)
    check(table)
