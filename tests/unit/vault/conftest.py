from __future__ import annotations

import shutil

import pytest
from vault_trees import FEW
from vault_world import World

import dicomcrypt as dc
from dicomcrypt.vault.vault import Vault


@pytest.fixture(scope="session")
def other():
    return dc.Identity.generate()


@pytest.fixture
def tree(tmp_path, corpus):
    """A few real files, one of them twice, and something that is no DICOM."""
    root = tmp_path / "Doe^Jane"
    (root / "sub").mkdir(parents=True)
    for path in corpus:
        if path.name in FEW and not (root / path.name).exists():
            shutil.copy(path, root / path.name)
    shutil.copy(root / "CT_small.dcm", root / "sub" / "again.dcm")
    (root / "empty").write_bytes(b"")
    return root


@pytest.fixture
def made(tmp_path, identity):
    """A vault's path."""
    path = tmp_path / "vault"
    Vault.create(path, {"me": identity.recipient}).close()
    return path


@pytest.fixture
def opened(made, identity):
    with Vault.open(made, identities=[identity]) as vault:
        yield vault


@pytest.fixture
def world(tmp_path):
    """A small vault of a small tree, filled (`vault_world`)."""
    made = World(tmp_path)
    with made.open() as vault:
        made.add(vault)
    return made
