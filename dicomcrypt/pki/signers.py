"""Whether an object's signer is trusted."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import CertificateRefusedError
from . import names
from .checking import Trust, check_certificate

#: By so much a signer's clock may be ahead.
SKEW = datetime.timedelta(minutes=5)


class SignerCheck:
    """Judges the certificate of a signature at the moment at which it was made, as the signer
    says; for `SignaturePolicy.check`. Goes to worker processes.

    Called with a `keys.cms.Signature`; raises CertificateRefusedError.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def __reduce__(self) -> tuple[Any, ...]:
        trust = self._trust
        ders = tuple(
            [one.public_bytes(Encoding.DER) for one in found]
            for found in (trust.roots, trust.intermediates, trust.crls)
        )
        return _rebuilt, (*ders, trust.require_crl)

    def __call__(self, signature: Any) -> None:
        if signature.moment > names.now() + SKEW:
            raise CertificateRefusedError(
                f"the signature is of {signature.moment:%Y-%m-%d %H:%M} UTC, which is to come: "
                "check the clocks of this machine and of the signer's", "not-yet-valid",
            )  # fmt: skip
        check_certificate(
            signature.certificate, self._trust, purpose="verify-signature",
            moment=signature.moment, intermediates=signature.chain,
        )  # fmt: skip


def _rebuilt(
    roots: list[bytes], intermediates: list[bytes], crls: list[bytes], require_crl: bool
) -> SignerCheck:
    load = x509.load_der_x509_certificate
    return SignerCheck(Trust(
        tuple(load(der) for der in roots), tuple(load(der) for der in intermediates),
        tuple(x509.load_der_x509_crl(der) for der in crls), require_crl,
    ))  # fmt: skip
