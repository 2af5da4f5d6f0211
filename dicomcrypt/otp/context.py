"""What all parts share: the database, the key file, the limits, the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .limits import Limits
from .secret import Secret
from .store import Store, Transaction
from .tables import codes, deliveries, sa

#: Called as `AuditLog.record` is, without actor.
Record = Callable[..., Any]


def _nowhere(action: str, **event: Any) -> None:
    pass


def recorder(log: Any, actor: str = "service:otp") -> Record:
    """Return what puts events into an audit log (`dicomcrypt.audit.AuditLog`)."""
    def record(action: str, **event: Any) -> None:
        log.record(action, actor=actor, **event)

    return record


@dataclass(frozen=True)
class Context:
    store: Store
    secret: Secret = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    record: Record = _nowhere

    def note(
        self, action: str, outcome: str = "ok", *, link: str | None = None,
        person: str | None = None, reason: str | None = None, **details: Any,
    ) -> None:
        """Put an event into the audit log: ids only, which name nobody."""
        about = {"person": person, "reason": reason, **details}
        self.record(action, outcome=outcome, objects=[link] if link else [],
                    details={k: v for k, v in about.items() if v is not None})


def forget_codes(tx: Transaction, before: int) -> None:
    """Remove the codes issued before a time, and their deliveries."""
    old = sa.select(codes.c.id).where(codes.c.issued < before)
    tx.execute(deliveries.delete().where(deliveries.c.code.in_(old)))
    tx.execute(codes.delete().where(codes.c.issued < before))
