"""The gate of every long-running command: none starts with an invalid certificate of its own."""

from __future__ import annotations

import hmac
import os
from typing import Any

from cryptography import x509

from ..errors import CertificateRefusedError
from ..keys.spki import public_der
from . import files, names
from .checking import CheckedCertificate, Trust, check_certificate


def matches(key: Any, certificate: x509.Certificate) -> bool:
    """Whether a private or public key is that of a certificate."""
    public = key.public_key() if hasattr(key, "public_key") else key
    own, told = public_der(public), public_der(certificate.public_key())
    return hmac.compare_digest(own, told)


def own_certificate_gate(
    certificate: x509.Certificate | str | os.PathLike[str],
    key: Any = None,
    *,
    trust: Trust,
    purpose: str,
    role: str | None = None,
) -> CheckedCertificate:
    """Take a service's own certificate, or raise: call it before the service does anything.

    certificate: one, or a file of one and of what lies between it and the root. key: its private
    key, which must fit. Raises CertificateRefusedError (exit status 5), and UsageError for files
    that cannot be read."""
    between: list[x509.Certificate] = []
    if not isinstance(certificate, x509.Certificate):
        certificate, *between = files.load_certificates(certificate)
    if key is not None and not matches(key, certificate):
        raise CertificateRefusedError(
            f"own certificate {names.label(certificate)} is of another key than the one given: "
            "use the two that were made together", "key",
        )  # fmt: skip
    try:
        return check_certificate(
            certificate, trust, purpose=purpose, role=role, intermediates=between
        )
    except CertificateRefusedError as error:
        raise CertificateRefusedError(f"not started: own {error}", error.reason) from None
