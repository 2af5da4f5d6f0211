"""Words that an audit log takes. Nothing else gets in, so no name of a person or a file can.

Whoever needs another word adds it here, where it is seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UsageError

ACTIONS = frozenset({
    "encrypt", "decrypt", "verify", "rewrap", "frame", "inspect", "salvage", "sign",
    "protect", "reveal",
    "keygen", "key.split", "key.combine",
    "policy.set",
    "ca.init", "certificate.request", "certificate.issue", "certificate.renew",
    "certificate.revoke", "certificate.verify", "crl.issue", "directory.publish",
    "directory.fetch", "rights.ask",
    "table.create", "table.unlock", "table.lock", "table.password", "table.export",
    "table.import", "key.create", "key.read", "key.delete",
    "vault.create", "vault.add", "vault.get", "vault.cat", "vault.verify", "vault.share",
    "vault.recipients", "vault.rewrap", "vault.hold", "vault.release", "vault.retention",
    "vault.erase", "vault.merge", "vault.backup", "vault.restore", "vault.check", "vault.repair",
    "card.init", "card.pin", "card.certificate", "card.sign", "card.hash",
    "card.patient", "card.note", "card.authenticate",
    "otp.person", "otp.forget", "otp.link", "otp.revoke", "otp.register", "otp.issue", "otp.send",
    "otp.open", "otp.check", "otp.enroll", "otp.ask", "otp.grant", "otp.refuse", "otp.clock",
    "prescription.sign", "prescription.send", "prescription.fetch", "prescription.open",
    "prescription.dispense", "prescription.cancel",
    "service.start", "service.stop", "login", "store", "read", "search", "share", "delete",
})  # fmt: skip
OUTCOMES = frozenset({
    "started", "ok", "partial", "failed", "usage", "no-identity", "damaged", "refused", "token",
    "interrupted",
})  # fmt: skip
SERVICES = frozenset({"dicomcrypt", "gateway", "vault", "ca", "keytable", "otp"})
_COUNTS = frozenset({
    "done", "skipped", "failed", "planned", "bytes-in", "bytes-out", "number", "sequence",
    "threshold", "shares", "attempt", "seconds", "port",
})  # fmt: skip
_HEX = frozenset({"job", "key", "certificate", "serial", "issuer", "signer", "holder", "session",
                  "erasure", "vault", "person"})
_ENUMERATIONS: dict[str, frozenset[str]] = {
    "part": frozenset({"all", "tags", "pixels"}),
    "role": frozenset({"physician", "pharmacist", "patient", "hospital", "insurance",
                       "application"}),
    "reason": frozenset({"expired", "not-yet-valid", "revoked", "wrong-issuer", "wrong-password",
                         "wrong-role", "unknown-extension", "weak-algorithm", "unsigned", "forged",
                         "rollback", "locked", "unreachable", "stale",
                         "wrong-code", "too-many"}),
}  # fmt: skip
MAX_OBJECTS = 64
_HEX_TEXT = re.compile(r"(?:[0-9a-f]{2}){1,64}")
_OBJECT = re.compile(r"(?:[0-9a-f]{2}){8,32}")
_ACTOR = re.compile(r"uid:[0-9]{1,20}|user:[0-9a-f]{16}|key:(?:[0-9a-f]{2}){8,32}"
                    r"|certificate:[0-9a-f]{64}")


def check_event(
    action: Any, actor: Any, objects: Iterable[Any], outcome: Any, details: Mapping[Any, Any]
) -> dict[str, Any]:
    """Return an event's fields, checked; raises UsageError, which does not show the value."""
    if not isinstance(action, str) or action not in ACTIONS:
        raise UsageError("the audit log has no such action")
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise UsageError("the audit log has no such outcome")
    if not isinstance(actor, str) or not (
        _ACTOR.fullmatch(actor) or actor.removeprefix("service:") in SERVICES - {actor}
    ):
        raise UsageError("an actor of the audit log is uid:NUMBER, user:, key: or certificate: "
                         "and hexadecimal digits, or a service that it knows")
    ids = [found.hex() if isinstance(found, bytes) else found for found in objects]
    if len(ids) > MAX_OBJECTS:
        raise UsageError(f"the audit log takes {MAX_OBJECTS} objects a record")
    if not all(isinstance(found, str) and _OBJECT.fullmatch(found) for found in ids):
        raise UsageError("an object of the audit log is its random id, in hexadecimal")
    for key, value in details.items():
        _check_detail(key, value)
    return {"action": action, "actor": actor, "objects": ids, "outcome": outcome,
            "details": dict(details)}


def _check_detail(key: Any, value: Any) -> None:
    if key in _COUNTS:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise UsageError(f"the audit log's {key} is no number")
    elif key in _HEX:
        if not isinstance(value, str) or not _HEX_TEXT.fullmatch(value):
            raise UsageError(f"the audit log's {key} is no hexadecimal text")
    elif key in _ENUMERATIONS:
        if not isinstance(value, str) or value not in _ENUMERATIONS[key]:
            raise UsageError(f"the audit log's {key} is none of the words that it knows")
    else:
        raise UsageError("the audit log has no such detail")


def present_actor() -> str:
    """Return who this process is to the system: uid:NUMBER; elsewhere a digest of the login."""
    if hasattr(os, "getuid"):
        return f"uid:{os.getuid()}"
    import getpass
    import hashlib

    return f"user:{hashlib.sha256(getpass.getuser().encode()).hexdigest()[:16]}"
