"""What happened, in a log that cannot be changed unnoticed (docs/audit.md).

    with AuditLog.open(path, signer) as log:
        log.record("decrypt", actor=present_actor(), objects=[object_id], outcome="ok")
    report = verify(path, trusted=[verifier], heads=read_heads(elsewhere))

No name of a person or a file gets in.
"""

from .log import AuditLog
from .reading import Report, read, read_heads, verify
from .vocabulary import present_actor

__all__ = ["AuditLog", "Report", "present_actor", "read", "read_heads", "verify"]
