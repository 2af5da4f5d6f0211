"""The database: migrations, PostgreSQL's SQL, forks, damage; and the folder around it."""

import contextlib
import io
import os
import sqlite3
import stat

import pytest
from otp_world import World

from dicomcrypt.errors import DamagedError, JobBusyError, OutputExistsError, UsageError
from dicomcrypt.otp import home, store, tables
from dicomcrypt.otp.secret import Secret
from dicomcrypt.otp.statistics import statistics
from dicomcrypt.otp.store import Store, alembic_config


def test_the_migrations_make_the_tables(world):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with world.home.context.store._engine.begin() as connection:
        found = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(found, tables.metadata) == []


def test_head_is_the_newest_migration():
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == store.HEAD


def test_the_migrations_are_sql_for_postgresql_too():
    from alembic import command

    config = alembic_config()
    config.output_buffer = io.StringIO()
    config.set_main_option("sqlalchemy.url", "postgresql://")
    command.upgrade(config, "head", sql=True)
    made = config.output_buffer.getvalue()
    assert made.count("CREATE TABLE ") == len(tables.metadata.tables) + 1
    assert "BIGSERIAL" in made
    assert "BYTEA" in made


def test_every_statement_compiles_for_postgresql(world):
    from sqlalchemy.dialects import postgresql

    statements = []
    tables.sa.event.listen(world.home.context.store._engine, "before_execute",
                           lambda c, statement, *rest: statements.append(statement))
    token = world.anna()
    world.service.open("anna", world.send(token), token=token)
    world.home.totp.enroll("anna")
    world.home.requests.ask("anna", ["ab" * 16])
    world.home.requests.all()
    world.home.links.all()
    statistics(world.home.context)
    world.home.context.store.reset_clock()
    world.home.persons.remove("anna")
    assert len(statements) > 60
    for statement in statements:
        if not isinstance(statement, str):
            statement.compile(dialect=postgresql.dialect())


def test_files_are_for_their_owner_alone(world):
    world.anna()
    for path in world.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("name", ["code.key", "secret.key"])
def test_keys_that_others_may_read_are_refused(world, name):
    world.home.close()
    (world.folder / name).chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        home.Home(world.folder).codes  # noqa: B018


def test_a_second_folder_over_the_first_is_refused(world):
    with pytest.raises(OutputExistsError):
        home.create(world.folder, bits=2048)


def test_a_database_of_another_version_is_refused_until_it_is_upgraded(world):
    world.home.close()
    path = world.folder / "otp.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
        connection.commit()
    with pytest.raises(UsageError, match="upgrade"):
        home.Home(world.folder)


def test_upgrading_makes_an_empty_database_whole(world):
    world.home.close()
    for path in world.folder.glob("otp.db*"):
        path.unlink()
    with pytest.raises(UsageError, match="not there"):
        home.Home(world.folder)
    (world.folder / "otp.db").touch(mode=0o600)
    with pytest.raises(UsageError, match="empty"):
        home.Home(world.folder)
    home.upgrade(world.folder)
    home.Home(world.folder).close()


def test_damage_is_told_without_statements(world):
    world.home.close()
    for path in world.folder.glob("otp.db-*"):
        path.unlink()
    (world.folder / "otp.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedError, match="backup") as caught:
        home.Home(world.folder)
    assert "SELECT" not in str(caught.value)


def test_a_busy_database_is_told(world, monkeypatch):
    monkeypatch.setattr(store, "_BUSY_MS", 50)
    world.restart()
    with contextlib.closing(sqlite3.connect(world.folder / "otp.db",
                                            isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JobBusyError):
            world.home.links.all()
    world.home.links.all()


@pytest.mark.parametrize(("url", "said"), [
    ("nonsense", "malformed"), ("sqlite://", "is a file"), ("oracle+none://x", "kind"),
    ("postgresql+psycopg://otp:words@db/otp", "password"),
])  # fmt: skip
def test_databases_that_cannot_be_are_refused(url, said):
    with pytest.raises(UsageError, match=said) as caught:
        Store(url)
    assert "words" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_connections_of_its_own(world):
    world.anna()
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            world.home.persons.add("bert", "bert@klinikum.example")
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert [person.name for person in world.home.persons.all()] == ["anna", "bert"]


# ---- settings ---------------------------------------------------------------------


@pytest.mark.parametrize(("text", "said"), [
    ("[[", "TOML"), ("colour = 1", "unknown key 'colour'"), ("smtp = 1", "not a section"),
    ("[smtp]\nhost = 1\nsender = 'x'", "host"), ("[smtp]\nport = 0", "port"),
    ("[sms]\nurl = 'https://x.example/'", "secret_file"), ("[limits]\ntries = 6", "5 at most"),
    ("[limits]\nwishes = 3", "not known"), ("[sms]\nsecret = 'x'", "unknown key 'secret'"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(world, text, said):
    world.home.close()
    path = world.folder / "otp.toml"
    path.write_text(path.read_text() + "\n" + text + "\n")
    with pytest.raises(UsageError, match=said):
        home.Home(world.folder).outbox  # noqa: B018


def test_channels_are_made_of_settings(world, tmp_path):
    world.home.close()
    path = world.folder / "otp.toml"
    secret = world.folder / "words"
    secret.write_text("words\n")
    path.write_text(path.read_text() + """
[smtp]
host = "mail.example"
sender = "portal@klinikum.example"
user = "portal"
password_file = "words"
[sms]
url = "https://gateway.example/"
secret_file = "words"
""")
    secret.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        home.Home(world.folder).outbox  # noqa: B018
    secret.chmod(0o600)
    found = home.Home(world.folder)
    assert set(found.outbox._channels) == {"email", "mobile", "console"}
    found.close()


def test_a_key_under_a_passphrase_is_asked_for(world, tmp_path):
    from cryptography.hazmat.primitives import serialization

    world.home.close()
    path = world.folder / "code.key"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"words")))
    with pytest.raises(UsageError, match="passphrase"):
        home.Home(world.folder).codes  # noqa: B018
    found = home.Home(world.folder, passphrase=lambda: "words")
    assert found.codes._key.bits == 2048
    found.close()


# ---- the key file ---------------------------------------------------------------------


def test_what_is_sealed_opens_in_its_own_place_alone():
    secret = Secret(bytes(range(32)))
    sealed = secret.seal("person", "a", b"data")
    assert secret.open("person", "a", sealed) == b"data"
    assert secret.seal("person", "a", b"data") != sealed
    for key, label, owner, data in (
        (secret, "person", "b", sealed), (secret, "totp", "a", sealed),
        (Secret(bytes(32)), "person", "a", sealed), (secret, "person", "a", sealed[:-1]),
        (secret, "person", "a", b""), (secret, "person", "a", sealed[:12] + b"x" + sealed[13:]),
    ):  # fmt: skip
        with pytest.raises(DamagedError):
            key.open(label, owner, data)


def test_another_key_file_reads_nothing(world):
    world.anna()
    world.home.close()
    (world.folder / "secret.key").write_text("00" * 32 + "\n")
    found = home.Home(world.folder, clock=lambda: world.now)
    with pytest.raises(DamagedError):
        list(found.persons.all())
    found.close()


@pytest.mark.parametrize("text", ["", "00" * 31, "xx" * 32, "00" * 33])
def test_key_files_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "secret.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError):
        Secret.load(path)


def test_statistics_count(world):
    token = world.anna()
    world.send(token)
    found = statistics(world.home.context)
    assert (found["persons"], found["links_alive"], found["codes_valid"]) == (1, 1, 1)
    assert found["codes"] == {"live": 1}
    assert found["deliveries"] == {"sent": 1}
    assert found["with_an_authenticator"] < 1e-4


def test_two_worlds_share_nothing(world, template, tmp_path):
    other = World(template, tmp_path / "other")
    world.anna()
    assert list(other.home.persons.all()) == []
    other.home.close()
