"""The database: SQLite for one machine, PostgreSQL by another URL.

Every transaction first locks the one row of the clock, so transactions come one after the other,
in all processes, and share one time that never runs backwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..errors import (
    DamagedError,
    DicomcryptError,
    JobBusyError,
    MissingExtraError,
    PolicyError,
    UsageError,
)
from . import tables
from .tables import sa

#: The newest migration.
HEAD = "0001"
#: By so much the clocks of machines that share a database may differ.
TOLERANCE_MS = 2000
_BUSY_MS = 30_000


def system_time() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Transaction(NamedTuple):
    """now: the time of all that happens in it, Unix time in milliseconds."""

    connection: Any
    now: int

    def execute(self, statement: Any, *parameters: Any) -> Any:
        return self.connection.execute(statement, *parameters)

    def first(self, statement: Any) -> Any:
        """Return the first row, or None."""
        return self.connection.execute(statement).first()

    def changed(self, statement: Any) -> bool:
        """Whether a statement changed any row."""
        count: int = self.connection.execute(statement).rowcount
        return count > 0


class Store:
    """A database by its URL, such as `sqlite:////srv/otp/otp.db` or `postgresql+psycopg://otp@db`.

    clock: gives Unix time in milliseconds. sync: what is committed is on the medium (SQLite); a
    spent try must not come back after a failure of power. Raises UsageError for a database that is
    not there, or of another version.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], int] = system_time, sync: bool = True,
        create: bool = False,
    ) -> None:
        self._clock = clock
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise UsageError("the database's URL is malformed") from None
        if parsed.password is not None:
            raise UsageError("the database's URL holds a password: put it where the driver looks "
                             "for it, such as ~/.pgpass")
        if parsed.get_backend_name() == "sqlite":
            _sqlite_file(parsed.database, create)
        with _said():
            self._engine = _engine(parsed, sync)
            if create:
                self.migrate()
            else:
                self._check_version()

    def __repr__(self) -> str:
        return f"Store({self._engine.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction, which nobody else's runs beside.

        Raises PolicyError while the machine's clock is behind what was stored."""
        with _said(), self._engine.begin() as connection:
            yield Transaction(connection, self._tick(connection))

    def _tick(self, connection: Any) -> int:
        now, latest = self._clock(), tables.clock.c.latest
        connection.execute(
            tables.clock.update().values(latest=sa.case((latest < now, now), else_=latest))
        )
        found: int = connection.execute(sa.select(latest)).scalar_one()
        if now < found - TOLERANCE_MS:
            raise PolicyError(
                f"this machine's clock is {(found - now) // 1000} s behind a time that was stored "
                "before: nothing is issued or accepted; set the clock, or see `otp clock --help`"
            )
        return found

    def behind(self) -> int:
        """Return by how many milliseconds the clock is behind the latest time stored."""
        with _said(), self._engine.begin() as connection:
            latest: int = connection.execute(sa.select(tables.clock.c.latest)).scalar_one()
            return max(0, latest - self._clock())

    def reset_clock(self) -> None:
        """Take the machine's time for right, though a later one was stored.

        All codes become void, and what was counted counts from now on anew for a whole day."""
        now = self._clock()
        with _said(), self._engine.begin() as connection:
            for statement in (
                tables.clock.update().values(latest=now),
                tables.codes.update().values(state="void"),
                tables.codes.update().where(tables.codes.c.issued > now).values(issued=now),
                tables.events.update().where(tables.events.c.at > now).values(at=now),
                tables.totp.update().values(step=now // 30_000 + 1),
            ):
                connection.execute(statement)

    # ---- versions ----------------------------------------------------------

    def _version(self) -> str | None:
        with self._engine.begin() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(
                sa.text("SELECT version_num FROM alembic_version")).scalar()
            return found

    def _check_version(self) -> None:
        found = self._version()
        if found is None:
            raise UsageError("the database is empty: make it with `dicomcrypt otp init`")
        if found != HEAD:
            raise UsageError(f"the database is of version {found}, and this program of {HEAD}: "
                             "`dicomcrypt otp upgrade` brings an older one forward")

    def migrate(self) -> None:
        """Bring the database to the newest version."""
        try:
            from alembic import command
        except ImportError:
            raise MissingExtraError("migrations need alembic: pip install 'dicomcrypt[otp]'"
                                    ) from None

        with self._engine.begin() as connection:
            command.upgrade(alembic_config(connection=connection), "head")
        self._check_version()


def alembic_config(**attributes: Any) -> Any:
    """Return the configuration of alembic, for the migrations that lie beside this file."""
    from alembic.config import Config

    found = Config(attributes=attributes)
    here = os.path.join(os.path.dirname(__file__), "migrations")
    found.set_main_option("script_location", here.replace("%", "%%"))
    found.set_main_option("path_separator", "os")
    return found


def _sqlite_file(path: str | None, create: bool) -> None:
    """Make the file with mode 0600 before SQLite would make it with another."""
    if not path or path == ":memory:":
        raise UsageError("the database is a file: many processes share it")
    if create:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass  # migrated, if it is one
    elif not os.path.isfile(path):
        raise UsageError(f"the database {path!r} is not there: make it with `dicomcrypt otp init`")


def _engine(url: Any, sync: bool) -> Any:
    try:
        engine = sa.create_engine(url, hide_parameters=True)
    except sa.exc.NoSuchModuleError:
        raise UsageError("the database's URL is of a kind that is not known here") from None
    except ModuleNotFoundError as error:
        raise UsageError(f"the database's driver {error.name!r} is not installed") from None

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        record.info["pid"] = os.getpid()
        if engine.dialect.name != "sqlite":
            return
        connection.isolation_level = None  # transactions begin where `_begun` says so
        for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "foreign_keys=ON",
                       f"synchronous={'FULL' if sync else 'OFF'}", "trusted_schema=OFF",
                       "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "checkout")
    def _taken(connection: Any, record: Any, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():  # of the process that this one was forked from
            record.dbapi_connection = proxy.dbapi_connection = None
            raise sa.exc.DisconnectionError("a connection of another process")

    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "begin")
        def _begun(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _said() -> Iterator[None]:
    """Turn the library's errors into ours, without statements and values."""
    try:
        yield
    except sa.exc.TimeoutError:  # of threads that wait for a connection
        raise JobBusyError("the database is busy: try again") from None
    except sa.exc.DBAPIError as error:
        said = str(error.orig).partition("\n")[0].lower()
        if "locked" in said or "busy" in said:
            raise JobBusyError("the database is busy: try again") from None
        if "malformed" in said or "not a database" in said:
            raise DamagedError("the database is damaged: take it from a backup") from None
        raise DicomcryptError(f"the database cannot do it ({type(error.orig).__name__})") from None
