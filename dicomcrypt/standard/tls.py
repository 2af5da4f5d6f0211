"""TLS contexts by the secure transport connection profiles of PS3.15: BCP 195 (B.12; RFC 8996 and
RFC 9325) and its modified form (B.13), for DICOM and for web servers, either side.

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption alone. After each handshake the
peer's certificate is judged as everywhere here (`pki.checking`): dates, use, issuer, revocation,
role; before that nothing is read or written.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Collection
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import CertificateRefusedError, UsageError
from ..pki import files, names, rights
from ..pki.checking import CheckedCertificate, Trust, check_certificate
from ..pki.gate import own_certificate_gate

#: Suites of TLS 1.2; those of TLS 1.3 are OpenSSL's, which are all of this kind.
PROFILES = {
    "bcp195": "ECDHE+AESGCM:ECDHE+CHACHA20",
    "bcp195-modified": "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM",
}
_DER = 2  # _ssl.ENCODING_DER, for Python before 3.13
_Path = str | os.PathLike[str]


class PeerRefusedError(CertificateRefusedError, ssl.SSLError):
    """A peer's certificate is not taken. An OSError too: servers expect that of a handshake."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Checked:
    """What a connection does before anything else: the handshake, and a look at the peer."""

    _judged = False
    #: The peer's certificate, as it was taken; None without one.
    peer: CheckedCertificate | None = None

    def do_handshake(self, *arguments: Any) -> None:
        super().do_handshake(*arguments)  # type: ignore[misc]
        if not self._judged:
            try:
                self.peer = self.context._judge(self)  # type: ignore[attr-defined]
            except BaseException:
                with contextlib.suppress(AttributeError, OSError):
                    self.close()  # type: ignore[attr-defined]
                raise
            self._judged = True

    def _ready(self) -> None:
        if not self._judged:
            self.do_handshake()

    def read(self, *arguments: Any) -> Any:
        self._ready()
        return super().read(*arguments)  # type: ignore[misc]

    def write(self, *arguments: Any) -> Any:
        self._ready()
        return super().write(*arguments)  # type: ignore[misc]


class CheckedSocket(_Checked, ssl.SSLSocket):
    def send(self, *arguments: Any) -> Any:
        self._ready()
        return super().send(*arguments)


class CheckedObject(_Checked, ssl.SSLObject):
    """Of asyncio's connections."""


class CheckedContext(ssl.SSLContext):
    """A context whose connections judge their peers; `server_context` and `client_context` make
    it. late: connections do not begin with the handshake, but at the first byte: a server that
    accepts in one thread would wait there for silent peers."""

    sslsocket_class = CheckedSocket
    sslobject_class = CheckedObject
    late = False
    _trust: Trust | None = None
    _roles: frozenset[str] | None = None
    _serves = False

    def wrap_socket(self, sock: Any, *arguments: Any, **options: Any) -> Any:
        if self.late:
            options["do_handshake_on_connect"] = False
        return super().wrap_socket(sock, *arguments, **options)

    def _judge(self, connection: Any) -> CheckedCertificate | None:
        if self._trust is None:
            return None
        der = connection.getpeercert(True)
        try:
            if der is None:
                raise CertificateRefusedError("the peer shows no certificate", "missing")
            certificate = x509.load_der_x509_certificate(der)
            between = [x509.load_der_x509_certificate(c) for c in _chain(connection)]
            purpose = "tls-client" if self._serves else "tls-server"
            found = check_certificate(certificate, self._trust, purpose=purpose,
                                      intermediates=between[:64])
            if not self._serves:
                rights.require(certificate, "serve", trust=self._trust, intermediates=between[:64])
            if self._roles is not None and str(found.role) not in self._roles:
                raise CertificateRefusedError(
                    f"certificate {names.label(certificate)} is "
                    f"{f'of role {found.role}' if found.role else 'without a role'}, where "
                    f"{', '.join(sorted(self._roles))} is needed", "role")
        except CertificateRefusedError as error:
            raise PeerRefusedError(str(error), error.reason) from None
        except files.PARSE_ERRORS:
            raise PeerRefusedError("the peer's certificate is malformed", "malformed") from None
        return found


def _chain(connection: Any) -> list[bytes]:
    """What the peer sent beside its certificate."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    return [c.public_bytes(_DER) for c in connection._sslobj.get_unverified_chain() or ()]


def _context(
    side: int, certificate: _Path | None, key: _Path | None, trust: Trust | None, profile: str,
    roles: Collection[str] | None, password: Any, own_role: str | None,
) -> CheckedContext:
    if profile not in PROFILES:
        raise UsageError(f"{profile!r} is no TLS profile; there are {', '.join(PROFILES)}")
    context = CheckedContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(PROFILES[profile])
    context.options |= (ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
                        | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET)
    context._serves = side == ssl.PROTOCOL_TLS_SERVER
    if roles is not None:
        context._roles = frozenset(str(names.parse_role(role)) for role in roles)
    if certificate is not None:
        if trust is not None:  # what peers would refuse is found out now
            purpose = "tls-server" if context._serves else "tls-client"
            own_certificate_gate(certificate, trust=trust, purpose=purpose, role=own_role)
        try:
            context.load_cert_chain(certificate, key, password)
        except (ssl.SSLError, OSError) as error:
            reason = "they do not fit, or the passphrase is wrong" \
                if isinstance(error, ssl.SSLError) else (error.strerror or "").lower()
            raise UsageError(f"cannot load the certificate and key {os.fspath(certificate)!r}: "
                             f"{reason}") from None
    if trust is not None:
        if not trust.roots:
            raise UsageError("nobody is trusted: name roots")
        known = {c.public_bytes(Encoding.DER) for c in (*trust.roots, *trust.intermediates)}
        context.load_verify_locations(cadata=b"".join(sorted(known)))
    return context


def server_context(
    certificate: _Path, key: _Path | None = None, *, trust: Trust | None,
    profile: str = "bcp195", roles: Collection[str] | None = None, own_role: str | None = None,
    late: bool = False, password: Any = None,
) -> CheckedContext:
    """Return the context of a server: a DICOM node (pynetdicom's `ssl_context`) or a web server.

    certificate, key: files, PEM; the certificate with what lies between it and a root. trust: who
    must have issued the certificates of clients; None takes clients without any. roles: one of
    which clients' certificates must state. own_role: that the own one must. password: of the key,
    as of `ssl.SSLContext.load_cert_chain`. Raises CertificateRefusedError for an own certificate
    that is not valid, UsageError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, trust, profile, roles, password,
                       own_role)
    context.late = late
    context.num_tickets = 0  # every connection shows its certificate
    if trust is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context._trust = trust
    elif roles is not None:
        raise UsageError("roles are of clients' certificates: give trust as well")
    return context


def client_context(
    certificate: _Path | None = None, key: _Path | None = None, *, trust: Trust,
    profile: str = "bcp195", roles: Collection[str] | None = None, own_role: str | None = None,
    check_hostname: bool = True, password: Any = None,
) -> CheckedContext:
    """Return the context of a client, which shows a certificate of its own if it is given one.

    check_hostname: the server's certificate must be for its name, which DICOM nodes are often not
    known by. The server's role, if it states one, must have the right to serve (`pki.rights`).
    Everything else as of `server_context`."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, trust, profile, roles, password,
                       own_role)
    context.check_hostname = check_hostname
    context._trust = trust
    return context
