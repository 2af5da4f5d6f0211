import pytest

from tests.conftest import require_module

require_module("sqlalchemy", "otp")
require_module("alembic", "otp")

from otp_world import World  # noqa: E402  if both are there

from dicomcrypt.otp import home  # noqa: E402


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
