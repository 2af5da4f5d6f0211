"""What the extensions of certificates and revocation lists say (RFC 5280 sections 4.2 and 5.2).

The library parses them when they are asked for; ValueError and its like for malformed ones are the
caller's, who knows which certificate it is.
"""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509

Value = TypeVar("Value", bound=x509.ExtensionType)


def extension(extensions: x509.Extensions, kind: type[Value]) -> Value | None:
    """Return the value of an extension, None if it is not there."""
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_authority(extensions: x509.Extensions) -> bool:
    """Whether basicConstraints say that a certificate is an authority's."""
    constraints = extension(extensions, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def key_identifier(extensions: x509.Extensions) -> bytes | None:
    """The identifier of a certificate's key as it states it; None if it states none."""
    identifier = extension(extensions, x509.SubjectKeyIdentifier)
    return None if identifier is None else identifier.digest
