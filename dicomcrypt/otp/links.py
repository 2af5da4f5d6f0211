"""Grants and the links that lead to them.

A grant says which objects, in which scope, for whom, until when and how often. A link is a random
token of 256 bits bound to a grant; the database has its SHA-256. It is of use to the person it is
bound to, who is the first that proves to be registered (`registration`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import PolicyError, UsageError
from .context import Context
from .persons import Persons
from .store import Transaction
from .tables import grants, links, sa

SCOPES = ("all", "tags", "pixels")
MOST_OBJECTS = 10_000
_OBJECT = re.compile("(?:[0-9a-f]{2}){8,32}")
_TOKEN = re.compile("[A-Za-z0-9_-]{43}")


class Subject(NamedTuple):
    """Who wants in, by which link. genuine: there is such a link, it is alive, and it is this
    person's; where it is not, ids are pseudonyms, and all goes the same way to a refusal."""

    link: str
    person: str
    genuine: bool


class Access(NamedTuple):
    """What a link opened. left: how often it may be opened after this."""

    link: str
    person: str
    objects: tuple[str, ...]
    scope: str
    left: int


def new_token() -> str:
    """Return 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def url_of(base: str, token: str) -> str:
    """Return a link's address. The token is its fragment, which browsers do not send."""
    return f"{base}#{token}"


class Links:
    def __init__(self, context: Context, persons: Persons) -> None:
        self._context, self._persons = context, persons

    def create(
        self, objects: Iterable[str], *, scope: str = "all", person: str | None = None,
        seconds: int, uses: int = 1, bound: bool = False,
    ) -> tuple[str, str]:
        """Make a grant and its link; return the link's id and the token, which is nowhere else.

        objects: their random ids, hexadecimal. person: the name of whom it is for; None for the
        first registered person who proves to be. bound: the administrator vouches for the person,
        who need not register with the link. Raises UsageError."""
        with self._context.store.transaction() as tx:
            owner = "" if person is None else self._persons.registered(tx, person)
            grant = self.grant(tx, objects, scope, owner, seconds, uses)
            return self.link_to(tx, grant, bound=bound)

    def grant(
        self, tx: Transaction, objects: Iterable[str], scope: str, person: str, seconds: int,
        uses: int,
    ) -> str:
        """Write a grant for a person's id, or for nobody yet (empty); return its id."""
        found = check_objects(objects, scope)
        if not 0 < seconds <= 10 * 366 * 86_400 or not 0 < uses <= 1 << 20:
            raise UsageError("a grant is for up to ten years and a million uses")
        grant = secrets.token_hex(16)
        tx.execute(grants.insert().values(
            id=grant, objects=json.dumps(found), scope=scope, person=person,
            until=tx.now + 1000 * seconds, uses=uses, left=uses, created=tx.now))
        return grant

    def link_to(self, tx: Transaction, grant: str, *, bound: bool = False) -> tuple[str, str]:
        """Write a link to a grant; return its id and token."""
        row = tx.first(sa.select(grants).where(grants.c.id == grant))
        if row is None:
            raise UsageError("there is no such grant")
        if bound and not row.person:
            raise UsageError("a link is bound to a person: say for whom")
        link, token = secrets.token_hex(16), new_token()
        tx.execute(links.insert().values(
            id=link, token=_digest(token), grant=grant, person=row.person if bound else "",
            expires=row.until, created=tx.now))
        self._context.note("otp.link", link=link, person=row.person or None)
        return link, token

    def revoke(self, link: str) -> None:
        """Take a link back; raises UsageError if there is none."""
        with self._context.store.transaction() as tx:
            if not tx.changed(links.update().where(links.c.id == link, links.c.revoked.is_(None))
                              .values(revoked=tx.now)):
                raise UsageError("there is no such link, or it was revoked before")
        self._context.note("otp.revoke", link=link)

    def all(self) -> list[dict[str, Any]]:
        """Return what is known of every link, newest first."""
        with self._context.store.transaction() as tx:
            rows = tx.execute(_joined().order_by(links.c.created.desc())).all()
            now = tx.now
        return [
            {"link": row.id, "grant": row.grant, "objects": json.loads(row.objects),
             "scope": row.scope, "for": row.owner or None, "bound": row.person or None,
             "until": min(row.until, row.expires), "left": row.left, "uses": row.uses,
             "state": _state(row, now)}
            for row in rows
        ]  # fmt: skip

    def subject(
        self, tx: Transaction, purpose: str, name: str, *, token: str | None = None,
        link: str | None = None,
    ) -> Subject:
        """Return who wants in. token: as who opens the link gave it; link: its id, as who
        administers gives it. The same statements run whether they are known or not."""
        person, known = self._persons.find(tx, name)
        if token is not None:
            wanted = links.c.token == _digest(token)
            other = self._context.secret.pseudonym("no link", token.encode())
        else:
            wanted, other = links.c.id == link, ""
        row = tx.first(_joined().where(wanted))
        if row is None:
            if token is None:
                raise UsageError("there is no such link: see `otp link list`")
            return Subject(other, person, False)
        fits = row.person == person if purpose == "open" else (
            not row.person and row.owner in ("", person))
        return Subject(row.id, person, known and fits and _state(row, tx.now) == "alive")

    def bind(self, tx: Transaction, subject: Subject) -> bool:
        """Bind a link to the first who proved to be registered; False if it is bound, or was
        revoked."""
        return tx.changed(links.update().where(
            links.c.id == subject.link, links.c.person == "", links.c.revoked.is_(None)
        ).values(person=subject.person))

    def use(self, tx: Transaction, subject: Subject) -> Access:
        """Use a link once, in the transaction that uses up the factor.

        Raises PolicyError if it was revoked, has expired or was used up meanwhile."""
        row = tx.first(_joined().where(links.c.id == subject.link))
        if row is None or row.person != subject.person or _state(row, tx.now) != "alive" or \
                not tx.changed(grants.update().where(grants.c.id == row.grant, grants.c.left > 0)
                               .values(left=grants.c.left - 1)):
            raise PolicyError("the link has expired, was revoked, or is used up")
        return Access(row.id, row.person, tuple(json.loads(row.objects)), row.scope, row.left - 1)


def check_objects(objects: Iterable[str], scope: str) -> list[str]:
    """Return the objects of a grant, each once; raises UsageError for what cannot be granted."""
    found = list(dict.fromkeys(objects))
    if not 0 < len(found) <= MOST_OBJECTS or not all(map(_OBJECT.fullmatch, found)):
        raise UsageError(f"a grant is for 1 to {MOST_OBJECTS} objects, by their ids in "
                         "hexadecimal digits")
    if scope not in SCOPES:
        raise UsageError(f"a grant's scope is one of {', '.join(SCOPES)}")
    return found


def check_token(token: str) -> str:
    """Return a token that has the form of one; raises UsageError, without showing it."""
    if not _TOKEN.fullmatch(token):
        raise UsageError("that is no whole link: was it copied whole?")
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _joined() -> Any:
    gone = sa.func.coalesce(links.c.revoked, grants.c.revoked)
    return sa.select(
        links.c.id, links.c.grant, links.c.person, links.c.expires, gone.label("revoked"),
        grants.c.person.label("owner"), grants.c.objects, grants.c.scope, grants.c.until,
        grants.c.uses, grants.c.left,
    ).join(grants, grants.c.id == links.c.grant)  # fmt: skip


def _state(row: Any, now: int) -> str:
    if row.revoked is not None:
        return "revoked"
    if now >= min(row.until, row.expires):
        return "expired"
    return "alive" if row.left > 0 else "used"
