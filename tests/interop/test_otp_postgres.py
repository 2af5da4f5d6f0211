"""The rules of one-time passwords on PostgreSQL: a server of the tests' own, or one that
DICOMCRYPT_TEST_POSTGRES names, such as postgresql+psycopg://otp@127.0.0.1:5432/postgres, by
somebody who may make databases."""

import os
import secrets

import postgres
import pytest
from otp_world import World

from tests.conftest import absent, require_module
from tests.unit.otp.test_race import *  # noqa: F403  the same races
from tests.unit.otp.test_rules import *  # noqa: F403  the same rules


@pytest.fixture(scope="session")
def server():
    """Return the URL of a server."""
    require_module("sqlalchemy", "otp")
    require_module("psycopg", "test")
    url = os.environ.get("DICOMCRYPT_TEST_POSTGRES")
    if url:
        yield url
        return
    folder = postgres.programs()
    if folder is None:
        absent("initdb missing: apt-get install postgresql")
    with postgres.serve(folder) as url:
        yield url


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    from dicomcrypt.otp import home

    folder = tmp_path_factory.mktemp("otp") / "template"
    home.create(folder, bits=2048)
    return folder


@pytest.fixture
def database(server):
    """Return the URL of a new database."""
    import sqlalchemy as sa

    name = f"otp_{secrets.token_hex(8)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def world(template, tmp_path, database):
    found = World(_with(template, tmp_path / "template", database), tmp_path / "otp")
    yield found
    found.home.close()


def _with(template, folder, url):
    from dicomcrypt.otp import home

    folder.mkdir()
    for name in ("code.key", "secret.key"):
        (folder / name).write_bytes((template / name).read_bytes())
        (folder / name).chmod(0o600)
    text = (template / "otp.toml").read_text()
    (folder / "otp.toml").write_text(text.replace("sqlite:///otp.db", url))
    home.upgrade(folder)
    return folder
