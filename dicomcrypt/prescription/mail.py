"""Prescriptions by e-mail: signed S/MIME (RFC 8551) over SMTP with STARTTLS, and out of a Maildir.

What is sent is multipart/signed, and `openssl cms -verify` verifies it. From, To, Date and
Message-ID stand in the signed part, too, so that a copy to somebody else is noticed.
"""

from __future__ import annotations

import email.policy
import email.utils
import hashlib
import os
import re
import secrets
import smtplib
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from cryptography import x509

from ..errors import DamagedError, DicomcryptError, PolicyError, UnsignedError, UsageError
from ..keys.x509 import addresses
from ..pki import names
from ..pki.checking import check_certificate
from ..regular import open_regular
from . import signed
from .document import EMAIL
from .holders import Holder
from .opening import Sources

MAX_MAIL = 16 << 20
_BOUND = ("From", "To", "Date", "Message-ID")
_TEXT = "An encrypted prescription is attached. Open it with: dicomcrypt prescription open\r\n"
_NAME = "prescription.p7m"
_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime")


# ---- making and sending --------------------------------------------------------


def build(
    payload: bytes, holder: Holder, to: str, *, crls: tuple[Any, ...] = ()
) -> bytes:
    """Return a signed mail with an attachment, from the address of the holder's certificate.

    Its name tells nothing. Raises UsageError for what is no e-mail address."""
    if not EMAIL.fullmatch(to):
        raise UsageError("the recipient's e-mail address is not one")
    sender = holder.email
    headers = {
        "From": sender, "To": to, "Date": email.utils.formatdate(),
        "Message-ID": f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>",
    }
    part = EmailMessage(policy=email.policy.SMTP)
    part.set_content(_TEXT, cte="7bit")
    kind = "signed-data" if signed.is_signed(payload) else "authEnveloped-data"
    part.add_attachment(payload, maintype="application", subtype="pkcs7-mime", filename=_NAME,
                        params={"smime-type": kind, "name": _NAME})
    for key, value in headers.items():
        part[key] = value
    content = part.as_bytes().removesuffix(b"\r\n")
    signature = signed.sign(content, holder, detached=True, crls=crls)
    wrapped = EmailMessage(policy=email.policy.SMTP)
    wrapped.set_content(signature, maintype="application", subtype="pkcs7-signature",
                        filename="smime.p7s", params={"name": "smime.p7s"})
    del wrapped["MIME-Version"]
    boundary = f"=-{secrets.token_hex(16)}"
    top = "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + (
        "Subject: Prescription\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n"
        f" micalg={_micalg(holder)}; boundary=\"{boundary}\"\r\n\r\n"
    )
    edge = f"--{boundary}".encode()
    return (top.encode() + edge + b"\r\n" + content + b"\r\n" + edge + b"\r\n"
            + wrapped.as_bytes() + b"\r\n" + edge + b"--\r\n")


def _micalg(holder: Holder) -> str:
    from ..keys.cms import certificate_key, signature_algorithm

    digest = signature_algorithm(certificate_key(holder.certificate)).digest
    return f"sha-{digest.removeprefix('sha')}"


def send(
    mail: bytes, host: str, port: int, *, ca: str | None = None, user: str | None = None,
    password: str | None = None, timeout: float = 30.0,
) -> None:
    """Hand a mail to an SMTP server, over STARTTLS and never without it.

    ca: a file of the CA certificates for its TLS, instead of the system's. Raises DicomcryptError
    saying what the server refused."""
    head = BytesParser(policy=email.policy.SMTP).parsebytes(mail, headersonly=True)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError:
        raise UsageError(f"cannot read CA certificates {ca!r}") from None
    where = f"SMTP server {host}:{port}"
    try:
        with smtplib.SMTP(host, port, timeout=timeout) as server:
            server.starttls(context=context)
            if user is not None:
                server.login(user, password or "")
            server.sendmail(str(head["From"]), [str(head["To"])], mail)
    except smtplib.SMTPNotSupportedError:
        raise PolicyError(f"{where} does not offer STARTTLS: nothing was sent") from None
    except ssl.SSLCertVerificationError as error:
        raise PolicyError(f"the TLS certificate of {where} is refused "
                          f"({error.verify_message.lower()}): nothing was sent") from None
    except smtplib.SMTPAuthenticationError:
        raise DicomcryptError(f"{where} refused the log-in") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DicomcryptError(f"{where} did not take the mail: {type(error).__name__}") from None


# ---- fetching ------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    """A mail that was verified. payload: what is attached."""

    sender: str
    to: str
    message_id: str
    certificate: x509.Certificate
    payload: bytes = field(repr=False)
    checks: list[tuple[str, str]] = field(default_factory=list)


def open_mail(data: bytes, sources: Sources, *, recipient: str | None = None) -> Mail:
    """Verify a mail's signature and take its attachment out. recipient: to whom it must be.

    Raises UnsignedError for one without a signature, DamagedError for a changed one,
    PolicyError for a sender whose certificate has another address."""
    if len(data) > MAX_MAIL:
        raise DamagedError("the mail is too large")
    try:
        return _open_mail(re.sub(rb"\r?\n", b"\r\n", data), sources, recipient)
    except DicomcryptError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        # The library's parsers raise them for headers and parts that somebody made up.
        raise DamagedError("the mail is not as it must be") from None


def _parse(data: bytes, *, head: bool = False) -> Message:
    """Take a mail or a part apart; headers stay as they stand, since some that are hostile cannot
    be parsed by the library's newer policies."""
    return BytesParser(policy=email.policy.compat32).parsebytes(data, headersonly=head)


def _header(message: Message, key: str) -> str:
    """A header's value, unfolded."""
    return " ".join(str(message[key]).split())


def _open_mail(data: bytes, sources: Sources, recipient: str | None) -> Mail:
    head = _parse(data, head=True)
    if head.get_content_type() != "multipart/signed":
        raise UnsignedError("the mail is not signed: its signature may have been taken away")
    content, signature = _parts(data, head.get_boundary() or "")
    message = signed.parse(signature, content)
    certificate, where = sources.signer(message, None)
    message.verify(certificate)
    if message.kind:
        raise DamagedError("the mail's signature is of another kind")
    inner = _parse(content)
    for key in _BOUND:
        if _header(head, key) != _header(inner, key):
            raise DamagedError(f"the mail's {key} is not the one that was signed")
    sender, to = (email.utils.parseaddr(_header(inner, key))[1].lower() for key in ("From", "To"))
    trust = sources.trust_at(message.crls, message.moment)
    taken = check_certificate(certificate, trust, purpose="verify-signature",
                              moment=message.moment, intermediates=message.certificates)
    if sender not in addresses(certificate):
        raise PolicyError(f"the mail's sender is not the holder of certificate "
                          f"{names.label(certificate)}, which signed it")
    if recipient is not None and to != recipient.lower():
        raise PolicyError("the mail was signed for another recipient")
    attached = [p for p in inner.walk() if p.get_content_type() in _PKCS7]
    if len(attached) != 1:
        raise DamagedError(f"the mail has {len(attached)} prescriptions, where one is meant")
    checks = [("mail", f"the mail is signed by its sender, {taken.sentence}"),
              ("sender", f"the sender's certificate is that of {where}")]
    return Mail(sender, to, _header(inner, "Message-ID"), certificate,
                _content(attached[0]), checks)


def _parts(data: bytes, boundary: str) -> tuple[bytes, bytes]:
    """Return the bytes that are signed, and the signature."""
    edge = b"\r\n--" + boundary.encode("ascii", "replace")
    parts = data.split(edge)
    if not boundary or len(parts) != 4 or not all(p.startswith(b"\r\n") for p in parts[1:3]):
        raise DamagedError("the mail's parts are not as they must be")
    second = _parse(parts[2][2:])
    if second.get_content_type() not in ("application/pkcs7-signature",
                                         "application/x-pkcs7-signature"):
        raise UnsignedError("the mail's signature was taken away")
    return parts[1][2:], _content(second)


def _content(part: Message) -> bytes:
    """What a part holds, decoded; nothing of one that has parts itself."""
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


class Seen:
    """What came before, by digests: SQLite of mode 0600."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY) STRICT")

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def _digests(mail: Mail) -> list[tuple[bytes]]:
        parts = mail.payload, mail.message_id.encode("utf-8", "replace")
        return [(hashlib.sha256(part).digest(),) for part in parts]

    def require_new(self, mail: Mail) -> None:
        """Raise PolicyError if the mail, or what is attached, came before."""
        for digest in self._digests(mail):
            if self._database.execute("SELECT 1 FROM seen WHERE digest = ?", digest).fetchone():
                raise PolicyError("the mail, or what is attached, came before: it is not taken "
                                  "again")

    def note(self, mail: Mail) -> None:
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", self._digests(mail))


def new_mails(folder: str | os.PathLike[str]) -> Iterator[tuple[Path, bytes]]:
    """Yield the mails of a Maildir that nobody fetched yet: (file, bytes)."""
    parts = [Path(folder) / part for part in ("new", "cur", "tmp")]
    if not all(part.is_dir() for part in parts):
        raise UsageError(f"{os.fspath(folder)!r} is no Maildir: it has no new, cur and tmp")
    for path in sorted(parts[0].iterdir()):
        if not path.name.startswith("."):
            with open(open_regular(path), "rb") as file:
                data = file.read(MAX_MAIL + 1)
            yield path, data


def fetched(path: Path) -> None:
    """Mark a mail as read, byte for byte as it is: it is not fetched again."""
    os.rename(path, path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,S")
