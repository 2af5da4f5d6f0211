"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0001", None, None, None

ID, DIGEST, TIME = sa.String(32), sa.String(64), sa.BigInteger()


def column(name: str, kind: Any, nullable: bool = False, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable, **options)


def key(table: str, name: str = "id") -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(name, name=f"pk_{table}")


def reference(table: str, name: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [to], name=f"fk_{table}_{name}")


def upgrade() -> None:
    op.create_table("clock", column("id", sa.Integer(), autoincrement=False),
                    column("latest", TIME), key("clock"))
    op.execute("INSERT INTO clock (id, latest) VALUES (1, 0)")
    op.create_table(
        "persons", column("id", ID), column("name_mac", DIGEST), column("sealed", sa.LargeBinary()),
        column("created", TIME), key("persons"),
        sa.UniqueConstraint("name_mac", name="uq_persons_name_mac"),
    )
    op.create_table(
        "totp", column("person", ID), column("sealed", sa.LargeBinary()), column("step", TIME),
        column("created", TIME), key("totp", "person"), reference("totp", "person", "persons.id"),
    )
    op.create_table(
        "grants", column("id", ID), column("objects", sa.Text()), column("scope", sa.String(16)),
        column("person", ID), column("until", TIME), column("uses", sa.Integer()),
        column("left", sa.Integer()), column("created", TIME), column("revoked", TIME, True),
        key("grants"),
    )
    op.create_table(
        "links", column("id", ID), column("token", DIGEST), column("grant", ID),
        column("person", ID), column("expires", TIME), column("created", TIME),
        column("revoked", TIME, True), key("links"), reference("links", "grant", "grants.id"),
        sa.UniqueConstraint("token", name="uq_links_token"),
    )
    op.create_table(
        "codes", column("id", ID), column("purpose", sa.String(8)), column("link", ID),
        column("person", ID), column("nonce", sa.LargeBinary(16)), column("issued", TIME),
        column("tries", sa.Integer()), column("ready", TIME), column("state", sa.String(8)),
        column("verifier", sa.LargeBinary(32)), key("codes"),
    )
    op.create_index("ix_codes_issued", "codes", ["issued"])
    op.create_index("ix_codes_link_person_purpose_issued", "codes",
                    ["link", "person", "purpose", "issued"])
    op.create_table(
        "deliveries", column("code", ID), column("channel", sa.String(8)),
        column("state", sa.String(8)), column("round", sa.Integer()), column("at", TIME),
        key("deliveries", "code"),
    )
    op.create_index("ix_deliveries_state", "deliveries", ["state"])
    op.create_table(
        "events", column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        column("kind", sa.String(16)), column("subject", ID), column("at", TIME), key("events"),
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_kind_subject_at", "events", ["kind", "subject", "at"])
    op.create_table(
        "requests", column("id", ID), column("person", ID), column("sealed", sa.LargeBinary()),
        column("state", sa.String(8)), column("created", TIME), column("decided", TIME, True),
        column("grant", ID), key("requests"),
    )
    op.create_index("ix_requests_state", "requests", ["state"])
