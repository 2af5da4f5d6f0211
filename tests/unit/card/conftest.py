"""A physician's and a patient's card."""

import clinic
import pytest


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
