"""Ways to a person: e-mail, SMS, and the console for trying out.

A channel takes a message or raises DeliveryError, whose text holds nothing of the message. `key` is
the same whenever the same delivery is tried again, so that who forwards it can tell.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, Protocol, TextIO
from urllib.parse import urlsplit

from ..errors import DeliveryError, UsageError

#: For each wait, and for all of a connection, in seconds.
_TIMEOUT, _WHOLE = 20.0, 60.0


@dataclass(frozen=True)
class Message:
    """to: an address or number. html: empty where there is none."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    html: str = field(default="", repr=False)


class Channel(Protocol):
    def deliver(self, message: Message, key: str) -> None:
        """Hand a message over; raises DeliveryError."""


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a context that verifies names and certificates, TLS 1.2 or newer.

    ca_file: certificates of authorities instead of the system's. Raises UsageError."""
    try:
        found = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise UsageError(f"cannot read the authorities' certificates {ca_file!r}") from None
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    return found


@contextmanager
def _ending(connection: Any, seconds: float) -> Iterator[None]:
    """End a connection after so long, though the other side goes on saying something.

    connection: has its socket as `sock`, or None."""
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            if connection.sock is not None:
                with suppress(OSError):  # not ssl's own shutdown: the other thread uses it
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
            wait = 0.1

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


class _Smtp(smtplib.SMTP):
    """Connects when it is told to, by a host that it knows from the beginning."""

    def __init__(self, host: str, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._host = host  # whose certificate is wanted


class SmtpChannel:
    """Submission by SMTP (RFC 6409), with STARTTLS (RFC 3207) before anything else is said.

    user, password: where the server wants them; password is asked for at each delivery."""

    def __init__(
        self, host: str, port: int, sender: str, *, user: str | None = None,
        password: Callable[[], str] | None = None, context: ssl.SSLContext | None = None,
        timeout: float = _TIMEOUT, whole: float = _WHOLE,
    ) -> None:
        self._where, self._sender = (host, port), sender
        self._timeout, self._whole = timeout, whole
        self._user, self._password = user, password
        self._context = context or tls_context()

    def deliver(self, message: Message, key: str) -> None:
        mail = EmailMessage()
        try:
            mail["From"], mail["To"], mail["Subject"] = self._sender, message.to, message.subject
        except ValueError:  # a line break, or what is no address
            raise DeliveryError("the message's head cannot be sent") from None
        mail["Date"] = formatdate()
        mail["Message-ID"] = f"<{key}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        said = "cannot be reached"
        try:
            server = _Smtp(self._where[0], self._timeout)
            with _ending(server, self._whole), server:
                code, _ = server.connect(*self._where)
                if code != 220:
                    raise smtplib.SMTPConnectError(code, b"")
                said = "does not take STARTTLS, and nothing goes without it"
                server.starttls(context=self._context)
                said = "does not let us in"
                if self._user is not None and self._password is not None:
                    server.login(self._user, self._password())
                said = "did not take the message"
                server.send_message(mail, self._sender, [message.to])
        except ssl.SSLError:
            raise DeliveryError("the mail server's certificate is not trusted, or TLS failed: "
                                "nothing was sent") from None
        except (OSError, smtplib.SMTPException) as error:
            status = getattr(error, "smtp_code", None)
            number = f" ({status})" if isinstance(status, int) else ""
            raise DeliveryError(f"the mail server {said}{number}") from None


class SmsChannel:
    """SMS by a gateway that takes JSON over HTTPS.

    POST {"to", "from", "text"} with `Authorization: Bearer` and `Idempotency-Key`; any 2xx is
    taken. 429, 5xx and failures of the connection are tried again after 1, 2, 4 s, with the same
    key: a gateway that heeds it sends once. Other answers are final; redirects are not followed,
    as the secret must not go elsewhere."""

    def __init__(
        self, url: str, secret: Callable[[], str], *, sender: str = "",
        context: ssl.SSLContext | None = None, attempts: int = 4, timeout: float = _TIMEOUT,
        whole: float = _WHOLE, sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
            raise UsageError("the SMS gateway's URL is one of https: without a user")
        self._host, self._port = parts.hostname, parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret, self._sender, self._context = secret, sender, context or tls_context()
        self._attempts, self._sleep = attempts, sleep
        self._timeout, self._whole = timeout, whole

    def deliver(self, message: Message, key: str) -> None:
        said = ""
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(2.0 ** (attempt - 1))
            try:
                status = self._post(message, key)
            except ssl.SSLCertVerificationError:
                raise DeliveryError("the SMS gateway's certificate is not trusted: nothing was "
                                    "sent") from None
            except (OSError, http.client.HTTPException):
                said = "cannot be reached"
                continue
            if 200 <= status < 300:
                return
            said = f"answers {status}"
            if status != 429 and status < 500:
                break
        raise DeliveryError(f"the SMS gateway {said}")

    def _post(self, message: Message, key: str) -> int:
        body = {"to": message.to, "text": message.text}
        if self._sender:
            body["from"] = self._sender
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._context)
        with closing(connection), _ending(connection, self._whole):
            connection.request("POST", self._path, json.dumps(body).encode(), {
                "Content-Type": "application/json", "Idempotency-Key": key,
                "Authorization": f"Bearer {self._secret()}",
            })  # fmt: skip
            with connection.getresponse() as answer:  # what it says further is not read
                return answer.status


class ConsoleChannel:
    """Writes messages to a stream, by default standard error: for trying out, never for service."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def deliver(self, message: Message, key: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(f"To: {message.to}\nSubject: {message.subject}\n\n{message.text}\n")
        stream.flush()
