"""Messages that are to go out: templates, and codes that wait to be delivered.

A code is put down for delivery as it is made, and delivered by whoever calls `Outbox.deliver`: so
the answer to who asked for it takes as long for somebody unknown. No code is stored; the outbox
computes it again from its row, so a failed delivery is repeated with the same code.
"""

from __future__ import annotations

import html
import os
import string
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ..errors import DeliveryError, UsageError
from .channels import Channel, Message
from .context import Context
from .factors import CodeFactor
from .limits import VALID_MS, take
from .links import Subject
from .persons import Person, Persons
from .tables import codes, deliveries, sa

#: After this, who claimed a delivery is taken to have died over it.
_CLAIM_MS = 120_000


class Delivery(NamedTuple):
    """What became of one. state: sent or failed; said: why it failed."""

    code: str
    channel: str
    state: str
    said: str = ""


@cache
def _template(name: str) -> string.Template:
    path = os.path.join(os.path.dirname(__file__), "templates", name)
    with open(path, encoding="utf-8") as file:
        return string.Template(file.read())


def render(kind: str, language: str, to: str, **values: Any) -> Message:
    """Return a message from its templates. kind: `code`, `link` or `sms`; the first line of a text
    is its subject, and `sms` has no HTML."""
    text = _template(f"{kind}.{language}.txt").substitute(values)
    subject, _, body = text.partition("\n\n")
    page = ""
    if kind != "sms":
        safe = {key: html.escape(str(value)) for key, value in values.items()}
        page = _template(f"{kind}.{language}.html").substitute(safe)
    return Message(to, subject, body.rstrip("\n") if kind == "sms" else body, page)


class Outbox:
    """channels: by `email`, `mobile` and `console`."""

    def __init__(
        self, context: Context, persons: Persons, factor: CodeFactor,
        channels: Mapping[str, Channel],
    ) -> None:
        self._context, self._persons = context, persons
        self._factor, self._channels = factor, channels

    def deliver(self) -> list[Delivery]:
        """Deliver whatever waits; return what became of it, without what was for nobody.

        Many may do so at a time. A delivery whose process died is taken up by another, with the
        same key."""
        done = []
        while (row := self._claim()) is not None:
            found = self._deliver(row)
            with self._context.store.transaction() as tx:
                state = found.state if found is not None else "sent"
                # it may have been asked for again meanwhile, and waits then
                tx.execute(deliveries.update().where(
                    deliveries.c.code == row.id, deliveries.c.round == row.round,
                    deliveries.c.state == "sending").values(state=state, at=tx.now))
            if found is not None:
                done.append(found)
                self._context.note("otp.send", "ok" if found.state == "sent" else "failed",
                                   link=row.link, person=row.person)
        return done

    def repeat(self, subject: Subject, purpose: str = "open") -> None:
        """Put the newest code down for delivery again, if it is still valid.

        Raises ThrottledError; UsageError if there is no such code."""
        with self._context.store.transaction() as tx:
            row = tx.first(sa.select(codes.c.id).where(
                codes.c.link == subject.link, codes.c.person == subject.person,
                codes.c.purpose == purpose, codes.c.state == "live", codes.c.tries > 0,
                codes.c.issued > tx.now - VALID_MS))
            if row is None:
                raise UsageError("no code is valid now: ask for a new one")
            take(tx, "resend", row.id, self._context.limits.resends)
            tx.execute(deliveries.update().where(deliveries.c.code == row.id).values(
                state="waiting", round=deliveries.c.round + 1, at=tx.now))

    def send_link(self, person: Person, url: str, key: str) -> None:
        """Send a link by e-mail; raises DeliveryError."""
        message = render("link", person.language, person.email, name=person.name, url=url)
        self._channel("email").deliver(message, key)

    def _claim(self) -> Any:
        with self._context.store.transaction() as tx:
            free = (deliveries.c.state == "waiting") | (
                (deliveries.c.state == "sending") & (deliveries.c.at < tx.now - _CLAIM_MS))
            row = tx.first(
                sa.select(codes, deliveries.c.channel, deliveries.c.round,
                          codes.c.state.label("now_is"))
                .join(deliveries, deliveries.c.code == codes.c.id).where(free)
                .order_by(deliveries.c.at).limit(1)
            )
            if row is not None:
                tx.execute(deliveries.update().where(deliveries.c.code == row.id)
                           .values(state="sending", at=tx.now))
            return row

    def _deliver(self, row: Any) -> Delivery | None:
        code = self._factor.again(row)
        with self._context.store.transaction() as tx:
            person = self._persons.contact(tx, row.person)
            left = row.issued + VALID_MS - tx.now
        if code is None or person is None:
            return None
        if row.now_is != "live" or left <= 0:
            return Delivery(row.id, row.channel, "failed", "the code is not valid any more")
        to = person.mobile if row.channel == "mobile" else person.email
        kind = "sms" if row.channel == "mobile" else "code"
        try:
            if not to:
                raise DeliveryError("no mobile number is registered")
            message = render(kind, person.language, to, name=person.name, code=code.digits,
                             sum=code.sum, minutes=-(-left // 60_000))
            self._channel(row.channel).deliver(message, f"{row.id}-{row.round}")
        except DeliveryError as error:
            return Delivery(row.id, row.channel, "failed", str(error))
        return Delivery(row.id, row.channel, "sent")

    def _channel(self, name: str) -> Channel:
        if name not in self._channels:
            raise DeliveryError(f"no channel for {name} is set up")
        return self._channels[name]
