"""The tables, as SQLAlchemy Core knows them; `migrations` makes them.

Times are Unix time in milliseconds. Ids are 16 random bytes in hexadecimal; where a person or link
is not known, a keyed pseudonym of the same form stands in, so that its rows look and cost the same.
Nothing here tells a code, a token, a name, an address or a telephone number without the key file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError

try:
    import sqlalchemy as sa
except ImportError:
    raise MissingExtraError(
        "one-time passwords need SQLAlchemy: pip install 'dicomcrypt[otp]'"
    ) from None

if TYPE_CHECKING:
    from sqlalchemy.schema import SchemaItem
    from sqlalchemy.types import TypeEngine

__all__ = [
    "clock", "codes", "deliveries", "events", "grants", "links", "metadata", "persons", "requests",
    "sa", "totp",
]  # fmt: skip

metadata = sa.MetaData(naming_convention={
    "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s",
})  # fmt: skip
_ID, _DIGEST = sa.String(32), sa.String(64)


def _table(name: str, *columns: SchemaItem) -> sa.Table:
    return sa.Table(name, metadata, *columns)


def _column(
    name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]], **options: Any
) -> sa.Column[Any]:
    return sa.Column(name, kind, **{"nullable": False, **options})


#: One row, locked by every transaction: none of them sees time run backwards.
clock = _table("clock", _column("id", sa.Integer, primary_key=True, autoincrement=False),
               _column("latest", sa.BigInteger))
persons = _table(
    "persons", _column("id", _ID, primary_key=True), _column("name_mac", _DIGEST, unique=True),
    _column("sealed", sa.LargeBinary), _column("created", sa.BigInteger),
)  # fmt: skip
#: step: the last one that was used.
totp = _table(
    "totp", sa.Column("person", _ID, sa.ForeignKey("persons.id"), primary_key=True),
    _column("sealed", sa.LargeBinary), _column("step", sa.BigInteger),
    _column("created", sa.BigInteger),
)  # fmt: skip
#: person: for whom, or empty for the first one who proves to be registered.
grants = _table(
    "grants", _column("id", _ID, primary_key=True), _column("objects", sa.Text),
    _column("scope", sa.String(16)), _column("person", _ID), _column("until", sa.BigInteger),
    _column("uses", sa.Integer), _column("left", sa.Integer), _column("created", sa.BigInteger),
    _column("revoked", sa.BigInteger, nullable=True),
)  # fmt: skip
#: person: to whom it is bound, or empty. token: SHA-256 of it.
links = _table(
    "links", _column("id", _ID, primary_key=True), _column("token", _DIGEST, unique=True),
    sa.Column("grant", _ID, sa.ForeignKey("grants.id"), nullable=False),
    _column("person", _ID), _column("expires", sa.BigInteger), _column("created", sa.BigInteger),
    _column("revoked", sa.BigInteger, nullable=True),
)  # fmt: skip
#: state: making, live, used, void. verifier: keyed hash of the code and the sum of its digits.
codes = _table(
    "codes", _column("id", _ID, primary_key=True), _column("purpose", sa.String(8)),
    _column("link", _ID), _column("person", _ID), _column("nonce", sa.LargeBinary(16)),
    _column("issued", sa.BigInteger, index=True), _column("tries", sa.Integer),
    _column("ready", sa.BigInteger), _column("state", sa.String(8)),
    _column("verifier", sa.LargeBinary(32)),
    sa.Index(None, "link", "person", "purpose", "issued"),
)  # fmt: skip
#: state: waiting, sending, sent, failed. round: how often somebody asked for it again.
deliveries = _table(
    "deliveries", _column("code", _ID, primary_key=True), _column("channel", sa.String(8)),
    _column("state", sa.String(8), index=True), _column("round", sa.Integer),
    _column("at", sa.BigInteger),
)  # fmt: skip
#: What is counted: kind and subject (a pseudonym), and when it happened.
events = _table(
    "events", _column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    _column("kind", sa.String(16)), _column("subject", _ID),
    _column("at", sa.BigInteger, index=True), sa.Index(None, "kind", "subject", "at"),
)  # fmt: skip
#: state: open, granted, refused. sealed: what was asked for, and why.
requests = _table(
    "requests", _column("id", _ID, primary_key=True), _column("person", _ID),
    _column("sealed", sa.LargeBinary), _column("state", sa.String(8), index=True),
    _column("created", sa.BigInteger), _column("decided", sa.BigInteger, nullable=True),
    _column("grant", _ID),
)  # fmt: skip
