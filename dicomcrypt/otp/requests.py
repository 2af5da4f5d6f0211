"""Asking for access: a registered person does, an administrator grants or refuses."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

from ..errors import ThrottledError, UsageError
from .context import Context
from .limits import DAY_MS, address_of, take
from .links import Links, check_objects
from .persons import Person, Persons
from .store import Transaction
from .tables import persons, requests, sa

_LONGEST_REASON = 1000


class Requests:
    def __init__(self, context: Context, persons: Persons, links: Links) -> None:
        self._context, self._persons, self._links = context, persons, links

    def ask(
        self, name: str, objects: Iterable[str], *, scope: str = "all", reason: str = "",
        address: str | None = None,
    ) -> None:
        """Ask for access to objects. Nothing tells whether the person is registered: what somebody
        unknown asks for is kept for a day, and shown to nobody.

        Raises UsageError, ThrottledError."""
        asked = {"objects": check_objects(objects, scope), "scope": scope,
                 "reason": reason[:_LONGEST_REASON]}
        context, request = self._context, secrets.token_hex(16)
        sealed = context.secret.seal("request", request, json.dumps(asked).encode())
        where = address_of(context.secret, address)
        person = None
        try:
            with context.store.transaction() as tx:
                person, _ = self._persons.find(tx, name)
                if where is not None:
                    take(tx, "ask.address", where, context.limits.address_codes)
                take(tx, "ask.person", person, context.limits.asks)
                tx.execute(requests.delete().where(
                    requests.c.created < tx.now - DAY_MS,
                    requests.c.person.not_in(sa.select(persons.c.id))))
                tx.execute(requests.insert().values(id=request, person=person, sealed=sealed,
                                                    state="open", created=tx.now, grant=""))
        except ThrottledError:
            context.note("otp.ask", "refused", person=person, reason="too-many")
            raise
        context.note("otp.ask", person=person)

    def all(self, *, state: str = "open") -> list[dict[str, Any]]:
        """Return what registered persons asked for, oldest first."""
        with self._context.store.transaction() as tx:
            rows = tx.execute(
                sa.select(requests).join(persons, persons.c.id == requests.c.person)
                .where(requests.c.state == state).order_by(requests.c.created)
            ).all()
            return [{"request": row.id, "person": row.person, "created": row.created,
                     "name": self._contact(tx, row.person).name, **self._asked(row)}
                    for row in rows]  # fmt: skip

    def grant(
        self, request: str, *, seconds: int, uses: int = 1, bound: bool = False
    ) -> tuple[str, str, Person]:
        """Grant a request; return the link's id, its token, and for whom it is."""
        with self._context.store.transaction() as tx:
            row = self._open(tx, request)
            asked, person = self._asked(row), self._contact(tx, row.person)
            grant = self._links.grant(tx, asked["objects"], asked["scope"], row.person, seconds,
                                      uses)
            link, token = self._links.link_to(tx, grant, bound=bound)
            self._decide(tx, request, "granted", grant)
        self._context.note("otp.grant", link=link, person=person.id)
        return link, token, person

    def refuse(self, request: str) -> None:
        with self._context.store.transaction() as tx:
            row = self._open(tx, request)
            self._decide(tx, request, "refused", "")
        self._context.note("otp.refuse", person=row.person)

    def _open(self, tx: Transaction, request: str) -> Any:
        row = tx.first(sa.select(requests).where(requests.c.id == request,
                                                 requests.c.state == "open"))
        if row is None:
            raise UsageError("there is no such open request: see `otp requests`")
        return row

    def _decide(self, tx: Transaction, request: str, state: str, grant: str) -> None:
        tx.execute(requests.update().where(requests.c.id == request)
                   .values(state=state, decided=tx.now, grant=grant))

    def _contact(self, tx: Transaction, person: str) -> Person:
        found = self._persons.contact(tx, person)
        if found is None:
            raise UsageError("who asked is not registered any more: refuse the request")
        return found

    def _asked(self, row: Any) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(
            self._context.secret.open("request", row.id, row.sealed))
        return asked
