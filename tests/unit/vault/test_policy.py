"""A vault under the policies that are shipped."""

import pytest
from vault_world import World

from dicomcrypt import policy
from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault.getting import get, verify
from dicomcrypt.vault.reading import select
from dicomcrypt.vault.rekeying import rewrap_deep


@pytest.fixture
def force():
    yield policy.use
    policy.use(None)
    policy.listen(None)


@pytest.mark.parametrize("name", policy.PRESETS)
def test_a_vault_is_used_under_every_policy_that_is_shipped(tmp_path, force, name):
    world = World(tmp_path, each=2)
    heard = []
    with world.open() as vault:
        force(policy.preset(name))
        policy.listen(heard.append)
        assert {o.state for o in world.add(vault)} == {"done"}
        assert {o.state for o in verify(vault, select(vault))} == {"done"}
        assert {o.state for o in rewrap_deep(vault)} == {"done"}
        got = list(get(vault, select(vault), str(tmp_path / "out"), DecryptOptions()))
        assert {o.state for o in got} == {"done"}
    assert heard == []
