"""Real files for the tests, and what they share."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
from typing import NoReturn

import pcscd
import pytest

import dicomcrypt as dc

os.environ["DICOMCRYPT_CONFIG"] = ""  # whose tests these are does not matter
os.environ["PCSCLITE_CSOCK_NAME"] = pcscd.name()  # never the machine's card service

#: Rounds of PBKDF2 for keys that tests make in this process: guessing does not matter.
FEW_ROUNDS = 1000

METHODS = ("randomized", "aes-transposition", "vigenere", "multilevel", "none")


def pytest_configure(config) -> None:
    """Refuse a compiled module that hides a newer source."""
    for built in pathlib.Path(dc.__file__).parent.rglob("*.so"):
        source = built.with_name(built.name.split(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > built.stat().st_mtime + 60:
            pytest.exit(f"{source} is newer than {built.name}: build again", returncode=3)


def corpus_files() -> list[pathlib.Path]:
    """Every file that pydicom and pydicom-data ship, corrupt ones included."""
    found = []
    for package, folder in (("pydicom", "data"), ("data_store", "data")):
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations:
            root = pathlib.Path(place) / folder
            found += sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return found


def absent(message: str) -> NoReturn:
    """Skip, naming what is missing, a whole module too; under CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def need(command: str, package: str) -> str:
    """Return a peer's path, or skip naming its package; under CI its absence is a failure."""
    path = shutil.which(command)
    if path is None:
        absent(f"{command} missing: apt-get install {package}")
    return path


def require_module(name: str, extra: str) -> None:
    """Skip naming the extra if a library is missing; under CI its absence is a failure."""
    if importlib.util.find_spec(name) is None:
        absent(f"{name} missing: pip install 'dicomcrypt[{extra}]'")


@pytest.fixture(scope="session")
def need_command():
    """`need`, for tests that cannot import this file."""
    return need


@pytest.fixture(scope="session")
def need_module():
    """`require_module`, for tests that cannot import this file."""
    return require_module


@pytest.fixture(scope="session", autouse=True)
def few_rounds():
    """Private keys under a passphrase, made in no time; `test_sealing` looks at the real number."""
    from dicomcrypt.pki import sealing

    real, sealing.ROUNDS = sealing.ROUNDS, FEW_ROUNDS
    yield real
    sealing.ROUNDS = real


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes():
    """Cards whose PIN and passphrase are hashed in no time; yields what they cost otherwise."""
    from dicomcrypt.card import state

    real = state.STATE_COST, state.PIN_COST
    state.STATE_COST, state.PIN_COST = 64, 8
    yield real
    state.STATE_COST, state.PIN_COST = real


@pytest.fixture(scope="session")
def identity():
    return dc.Identity.generate()


@pytest.fixture(scope="session")
def corpus():
    files = corpus_files()
    assert len(files) > 200
    return files


def pytest_generate_tests(metafunc):
    """`corpus_file` stands for every file of the corpus, one test each."""
    if "corpus_file" in metafunc.fixturenames:
        files = corpus_files()
        names = ["/".join(path.parts[-2:]) for path in files]
        metafunc.parametrize("corpus_file", files, ids=names)
