"""What all parts share: the database, the key file, the limits, the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .limits import Limits
from .secret import Secret
from .store import Store

#: Called as `AuditLog.record` is, without actor.
Record = Callable[..., Any]


def unrecorded(action: str, **event: Any) -> None:
    """Where there is no audit log."""


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
    record: Record = unrecorded

    def note(
        self, action: str, outcome: str = "ok", *, link: str | None = None,
        person: str | None = None, reason: str | None = None, **details: Any,
    ) -> None:
        """Put an event into the audit log: ids only, which name nobody."""
        about = {"person": person, "reason": reason, **details}
        self.record(action, outcome=outcome, objects=[link] if link else [],
                    details={k: v for k, v in about.items() if v is not None})
