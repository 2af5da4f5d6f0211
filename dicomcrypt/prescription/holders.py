"""Who holds a key: the private key of a file or of a card, and its certificate."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from ..errors import UsageError
from ..keys.keyfile import naming, read_key_file
from ..keys.spki import public_der
from ..keys.x509 import addresses, read
from ..pki import names, profiles


@dataclass(frozen=True, eq=False)
class Holder:
    """A private key with its certificate. key: any of `cryptography`'s RSA or EC private keys, or
    of a class derived from them, as cards have them. chain: what leads to a root."""

    key: Any = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def emails(self) -> set[str]:
        """The addresses of the certificate, in lower case."""
        return addresses(self.certificate)

    @property
    def email(self) -> str:
        """The first address of the certificate; raises UsageError if it has none."""
        found = names.email_of(self.certificate.subject, self.certificate.extensions)
        if not found:
            raise UsageError(f"certificate {names.label(self.certificate)} has no e-mail address")
        return found.lower()

    @property
    def role(self) -> names.Role | None:
        return names.role_of(self.certificate.extensions)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], passphrase: Callable[[], str | None] | None = None, *,
        purpose: str = "sign",
    ) -> Holder:
        """Read a holder from PKCS #12, or from PEM with key and certificate.

        Of several keys the first is taken whose certificate is for the purpose, `sign` or
        `decrypt`. Raises UsageError naming the file, NoIdentityError for a wrong passphrase."""
        def ask() -> str:
            words = passphrase() if passphrase is not None else None
            if words is None:
                raise UsageError("it is under a passphrase: give it")
            return words

        with naming("key file", path):
            found = read(read_key_file(path), ask)
            holders = []
            for key in found.private_keys:
                own = public_der(key.public_key())
                fitting = [c for c in found.certificates if public_der(c.public_key()) == own]
                chain = tuple(c for c in found.certificates if c not in fitting)
                holders += [cls(key, one, chain) for one in fitting]
            if not holders:
                raise UsageError("no private key with its certificate in it: PKCS#12, or PEM with "
                                 "both, is meant")
        for holder in holders:
            if profiles.usage_problem(holder.certificate, purpose) is None:
                return holder
        return holders[0]
