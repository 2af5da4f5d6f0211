"""Cards whose PIN and passphrase are hashed in no time: guessing does not matter here."""

import clinic
import pytest

from dicomcrypt.card import state


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes():
    real = state.STATE_COST, state.PIN_COST
    state.STATE_COST, state.PIN_COST = 64, 8
    yield real
    state.STATE_COST, state.PIN_COST = real


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    return clinic.Clinic(tmp_path_factory.mktemp("ward"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return clinic.invoke


@pytest.fixture
def card(run, ward):
    """The options that name a new doctor's card, personalised by the command."""
    return ward.new_file("doctor.hpjc", "physician", "Arzt", "Anna")


@pytest.fixture
def pin(ward):
    return ward.pin
