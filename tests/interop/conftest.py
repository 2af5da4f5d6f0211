"""A pcscd of the tests' own with both cards in its readers."""

import importlib.util

import clinic
import pcscd
import pytest

from tests.conftest import absent


@pytest.fixture(scope="session")
def room():
    missing = pcscd.available()
    if missing is not None:
        absent(missing)
    if not importlib.util.find_spec("smartcard"):
        absent("pyscard missing: apt-get install libpcsclite-dev; pip install 'dicomcrypt[card]'")
    with pcscd.serve() as room:
        yield room


@pytest.fixture(scope="session")
def ward(tmp_path_factory):
    return clinic.Clinic(tmp_path_factory.mktemp("ward"))


@pytest.fixture(scope="session")
def readers(room, ward):
    """Both cards in the readers, personalised through them."""
    with clinic.Inserted(room, ward.cards) as inserted:
        for number in range(2):
            with inserted.session(number) as session:
                ward.personalise(session)
        yield inserted


@pytest.fixture
def card(readers):
    """The doctor's card in its reader, all its tries there again after the test."""
    yield readers.cards[0]
    readers.cards[0].pull_at = 0
    readers.settle()
    with readers.session() as session:
        session.unblock_pin(clinic.PUK, clinic.PIN) if session.tries() != 3 else None


@pytest.fixture
def command(readers, tmp_path, monkeypatch):
    """The command line, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return clinic.invoke


# ---- the C-STORE receiver ------------------------------------------------------


@pytest.fixture
def receive(tmp_path):
    from cstore import Receiver

    started = []

    def start(*options, **more):
        started.append(Receiver(tmp_path / f"receiver{len(started)}", *options, **more))
        return started[-1]

    yield start
    for receiver in started:
        assert receiver.stop() == 0, receiver.log
        assert receiver.parts() == []
        assert "Traceback" not in receiver.log


@pytest.fixture
def file_of(corpus):
    return lambda name: next(path for path in corpus if path.name == name)
