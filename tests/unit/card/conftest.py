"""Cards whose PIN and passphrase are hashed in no time: guessing does not matter here."""

import pytest

from dicomcrypt.card import state


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes():
    real = state.STATE_COST, state.PIN_COST
    state.STATE_COST, state.PIN_COST = 64, 8
    yield real
    state.STATE_COST, state.PIN_COST = real
