import pytest

pytest.importorskip("sqlalchemy", reason="sqlalchemy missing: pip install 'dicomcrypt[otp]'")
pytest.importorskip("alembic", reason="alembic missing: pip install 'dicomcrypt[otp]'")

from otp_world import World

from dicomcrypt.otp import home


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("otp") / "template"
    home.create(folder, bits=2048)
    return folder


@pytest.fixture
def world(template, tmp_path):
    found = World(template, tmp_path / "otp")
    yield found
    found.home.close()
