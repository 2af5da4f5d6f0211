"""A small LDAP client (RFC 4511) whose every wait ends and whose every answer is bounded.

Messages are put together and taken apart by `pyasn1_modules.rfc2251`; sockets and TLS are
Python's own, on every platform with the same CA files, checks and sentences. Why not a larger
library: docs/directories.md. Filters are values and never text, so that nothing in a name or an
address can change what is asked. Referrals are not followed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import DirectoryError, MissingExtraError, UsageError

BASE, SUBTREE = 0, 2
ADD, REPLACE = 0, 2
START_TLS = "1.3.6.1.4.1.1466.20037"
PORTS = {"ldap": 389, "ldaps": 636}
#: Result codes of RFC 4511 4.1.9 that mean something here, others are shown as numbers.
CODES = {
    1: "operations error", 2: "protocol error", 3: "its time limit is exceeded",
    4: "its size limit is exceeded", 7: "this way to log in is not supported",
    8: "it wants a stronger log-in", 10: "it refers to another server, which is not asked",
    11: "an administrator's limit is exceeded", 13: "it wants TLS", 16: "no such attribute",
    17: "it does not know the attribute", 18: "it does not know the matching rule",
    19: "a constraint is violated", 20: "the value is there already", 21: "invalid value",
    32: "no such entry", 34: "invalid name of an entry", 48: "this log-in is not allowed",
    49: "wrong name or password", 50: "not allowed to this user", 51: "it is busy",
    52: "it is unavailable", 53: "it is unwilling", 64: "the name is not allowed there",
    65: "the entry's classes do not allow it", 68: "the entry is there already",
}  # fmt: skip
SIZE_LIMIT, THERE, NO_CLASS, ENTRY_THERE = 4, 20, 65, 68

Filter = tuple[Any, ...]


def equal(attribute: str, value: str | bytes) -> Filter:
    """The attribute has this value; no character of it is special."""
    return ("equal", attribute, value.encode() if isinstance(value, str) else value)


def present(attribute: str) -> Filter:
    """The entry has the attribute."""
    return ("present", attribute)


def match(attribute: str, rule: str, value: str) -> Filter:
    """The attribute matches by a rule of the server's (extensible match)."""
    return ("match", attribute, rule, value.encode())


def all_of(*filters: Filter) -> Filter:
    return ("and", *filters)


def any_of(*filters: Filter) -> Filter:
    return ("or", *filters)


class LdapFailure(DirectoryError):
    """One server did not do what it was asked; `state` in one word, `code` of RFC 4511 or 0."""

    def __init__(self, state: str, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.state, self.code = state, code


def split_url(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of ldap://HOST[:PORT] or ldaps://...; raises UsageError."""
    if "@" in url:
        raise UsageError("a directory's address holds a log-in, which is not shown here: take it "
                         "out, and give bind_dn and password_file (--bind-dn, --password-file)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"directory {url!r}: not an address: give ldaps://HOST[:PORT]") from None
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in PORTS or not parts.hostname or rest:
        raise UsageError(f"directory {url!r}: give ldaps://HOST[:PORT] or ldap://HOST[:PORT]")
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]


def tls_context(ca: str | None) -> ssl.SSLContext:
    """Return what checks a server: by the CA bundle if there is one, else by the system's store.

    Raises UsageError naming a bundle that cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise UsageError(f"CA bundle {ca!r} holds no certificates in PEM") from None
    except OSError as error:
        raise UsageError(f"cannot read CA bundle {ca!r}: {error.strerror}") from None


def _messages() -> Any:
    try:
        from pyasn1_modules import rfc2251
    except ImportError:
        raise MissingExtraError(
            "directories need pyasn1-modules: pip install 'dicomcrypt[ldap]'"
        ) from None
    return rfc2251


class Connection:
    """A connection to one server, good until `deadline` (of time.monotonic) or `limit` bytes.

    Raises LdapFailure for whatever the server or the network does. With `start_tls` or an
    ldaps:// address nothing is said before the server's certificate and name were checked.
    """

    def __init__(
        self, url: str, *, start_tls: bool = False, context: ssl.SSLContext | None = None,
        deadline: float, limit: int = 1 << 25,
    ) -> None:
        self._rfc = _messages()
        scheme, self._host, port = split_url(url)
        self._deadline, self._left, self._id = deadline, limit, 0
        self.secure = False
        try:
            self._socket = socket.create_connection((self._host, port), self._remaining())
        except TimeoutError:
            raise _slow("takes no connection") from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise LdapFailure("down", f"cannot be reached: {why}{_proxy_hint()}") from None
        try:
            if scheme == "ldaps":
                self._wrap(context)
            elif start_tls:
                self._start_tls()
                self._wrap(context)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Take leave of the server."""
        with contextlib.suppress(OSError, LdapFailure):
            self._send("unbindRequest", lambda op: "")
        self._socket.close()

    # ---- operations ---------------------------------------------------------

    def bind(self, name: str, password: str) -> None:
        """Log in; never without TLS, never with an empty password (RFC 4513 5.1.2)."""
        if not self.secure:
            raise UsageError("a password goes to a directory over TLS only")
        if not name or not password:
            raise UsageError("a log-in needs a name and a password")

        def fill(op: Any) -> None:
            op["version"], op["name"] = 3, name.encode()
            op["authentication"]["simple"] = password.encode()

        self._check(self._ask("bindRequest", fill, "bindResponse"), "refused the log-in")

    def search(
        self, base: str, wanted: Filter, attributes: Sequence[str], *, scope: int = SUBTREE,
        most: int = 100,
    ) -> Iterator[tuple[str, dict[str, list[bytes]]]]:
        """Yield (name, attributes in lower case) of the entries that fit.

        Raises LdapFailure "too much" with the entry after `most`."""

        def fill(op: Any) -> None:
            op["baseObject"], op["scope"] = base.encode(), scope
            op["derefAliases"], op["typesOnly"] = 0, False
            op["sizeLimit"] = most + 1
            op["timeLimit"] = max(1, int(self._remaining()))
            _fill(op["filter"], wanted)
            for position, attribute in enumerate(attributes):
                op["attributes"][position] = attribute.encode()

        self._send("searchRequest", fill)
        seen = 0
        while True:
            kind, body = self._receive()
            if kind == "searchResEntry":
                seen += 1
                if seen > most:
                    raise LdapFailure("too much", f"answers with more than {most} entries")
                yield _entry(body)
            elif kind == "searchResDone":
                code = int(body["resultCode"])
                if code == SIZE_LIMIT:
                    raise LdapFailure("too much", "has more entries than it gives away", code)
                if code != 10:  # a referral, which is not followed
                    self._check(body, "refused the search")
                return
            elif kind != "searchResRef":  # references to other servers are not followed
                raise _garbage()

    def add(self, name: str, attributes: dict[str, list[bytes]]) -> int:
        """Add an entry; returns 0, or ENTRY_THERE."""

        def fill(op: Any) -> None:
            op["entry"] = name.encode()
            for position, (attribute, values) in enumerate(attributes.items()):
                _attribute(op["attributes"][position], attribute, values)

        done = self._ask("addRequest", fill, "addResponse")
        return self._check(done, "refused the new entry", ENTRY_THERE)

    def modify(
        self, name: str, changes: Iterable[tuple[int, str, list[bytes]]], *allowed: int
    ) -> int:
        """Change an entry by (ADD or REPLACE, attribute, values); returns 0 or a code of
        `allowed`."""

        def fill(op: Any) -> None:
            op["object"] = name.encode()
            for position, (kind, attribute, values) in enumerate(changes):
                op["modification"][position]["operation"] = kind
                _attribute(op["modification"][position]["modification"], attribute, values)

        done = self._ask("modifyRequest", fill, "modifyResponse")
        return self._check(done, "refused the change", *allowed)

    # ---- the wire -----------------------------------------------------------

    def _remaining(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _slow()
        return left

    def _start_tls(self) -> None:
        def fill(op: Any) -> None:
            op["requestName"] = START_TLS

        done = self._ask("extendedReq", fill, "extendedResp")
        self._check(done, "does not start TLS")

    def _wrap(self, context: ssl.SSLContext | None) -> None:
        context = context or tls_context(None)
        self._socket.settimeout(self._remaining())
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
        except TimeoutError:
            raise _slow("does not finish the TLS handshake") from None
        except ssl.SSLCertVerificationError as error:
            raise LdapFailure("tls", _why_refused(error, self._host)) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "cut off"
            why = str(why).lower().replace("_", " ")
            raise LdapFailure("tls", f"the TLS handshake failed: {why}") from None
        self.secure = True

    def _send(self, kind: str, fill: Any) -> None:
        from pyasn1.codec.ber import encoder
        from pyasn1.error import PyAsn1Error

        self._id += 1
        message = self._rfc.LDAPMessage()
        message["messageID"] = self._id
        try:
            ready = fill(message["protocolOp"][kind])
            if ready is not None:
                message["protocolOp"][kind] = ready
            data = encoder.encode(message)
        except PyAsn1Error as error:
            raise UsageError(f"this cannot be asked of a directory: {type(error).__name__}") \
                from None
        self._socket.settimeout(self._remaining())
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise _slow() from None
        except OSError as error:
            raise _cut(error) from None

    def _ask(self, kind: str, fill: Any, answer: str) -> Any:
        self._send(kind, fill)
        got, body = self._receive()
        if got != answer:
            raise _garbage()
        return body

    def _take(self, count: int) -> bytes:
        """Read count bytes; memory grows with what came, not with what was announced."""
        self._left -= count
        if self._left < 0:
            raise LdapFailure("too much", "answers with more data than is taken")
        parts = []
        while count:
            self._socket.settimeout(self._remaining())
            try:
                part = self._socket.recv(min(count, 1 << 16))
            except TimeoutError:
                raise _slow() from None
            except OSError as error:
                raise _cut(error) from None
            if not part:
                raise _cut(None)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _receive(self) -> tuple[str, Any]:
        """Read one message of ours; returns the name and the body of what it says."""
        from pyasn1.codec.ber import decoder

        head = self._take(2)
        if head[0] != 0x30 or head[1] == 0x80 or head[1] > 0x84:
            raise _garbage()
        if head[1] & 0x80:
            more = self._take(head[1] & 0x7F)
            head, size = head + more, int.from_bytes(more, "big")
        else:
            size = head[1]
        data = head + self._take(size)
        _count_elements(data)
        try:
            message, rest = decoder.decode(data, asn1Spec=self._rfc.LDAPMessage())
            kind = message["protocolOp"].getName()
            number = int(message["messageID"])
            body = message["protocolOp"][kind]
        except Exception:  # whatever a parser trips over: the server sent it
            raise _garbage() from None
        if rest or number != self._id:
            if number == 0 and kind == "extendedResp":
                raise LdapFailure("down", "hung up: " + _said(body))
            raise _garbage()
        return kind, body

    def _check(self, body: Any, what: str, *allowed: int) -> int:
        code = int(body["resultCode"])
        if code and code not in allowed:
            raise LdapFailure("refused", f"{what}: {_said(body)}", code)
        return code


def _count_elements(data: bytes, most: int = 4096) -> None:
    """Raise LdapFailure if a message has more elements than an honest one: the decoder makes
    objects of all of them, and is slow."""
    position = seen = 0
    while position < len(data):
        seen += 1
        if seen > most:
            raise LdapFailure("too much", "answers with more values than are taken")
        tag = data[position]
        first = data[position + 1] if position + 1 < len(data) else 0x80
        more = first & 0x7F if first & 0x80 else 0
        if tag & 0x1F == 0x1F or first == 0x80 or more > 4:
            raise _garbage()
        size = int.from_bytes(data[position + 2 : position + 2 + more], "big") if more else first
        position += 2 + more + (0 if tag & 0x20 else size)


def _fill(target: Any, wanted: Filter) -> None:
    kind, *rest = wanted
    if kind in ("and", "or"):
        for position, inner in enumerate(rest):
            _fill(target[kind][position], inner)
    elif kind == "equal":
        target["equalityMatch"]["attributeDesc"] = rest[0].encode()
        target["equalityMatch"]["assertionValue"] = rest[1]
    elif kind == "present":
        target["present"] = rest[0].encode()
    else:
        target["extensibleMatch"]["matchingRule"] = rest[1].encode()
        target["extensibleMatch"]["type"] = rest[0].encode()
        target["extensibleMatch"]["matchValue"] = rest[2]


def _attribute(target: Any, name: str, values: list[bytes]) -> None:
    target["type"] = name.encode()
    for position, value in enumerate(values):
        target["vals"][position] = value


def _entry(body: Any) -> tuple[str, dict[str, list[bytes]]]:
    found: dict[str, list[bytes]] = {}
    for part in body["attributes"]:
        name = bytes(part["type"]).decode("utf-8", "replace").lower()
        found.setdefault(name, []).extend(bytes(value) for value in part["vals"])
    return bytes(body["objectName"]).decode("utf-8", "replace"), found


def _said(body: Any) -> str:
    code = int(body["resultCode"])
    return CODES.get(code, f"result code {code}")


def _slow(what: str = "does not answer") -> LdapFailure:
    return LdapFailure("slow", f"{what} within the time-out")


def _garbage() -> LdapFailure:
    return LdapFailure("garbage", "answers with something that is not LDAP")


def _cut(error: OSError | None) -> LdapFailure:
    why = f": {error.strerror.lower()}" if error is not None and error.strerror else ""
    return LdapFailure("down", f"cut the connection off{why}")


def _why_refused(error: ssl.SSLCertVerificationError, host: str) -> str:
    """A sentence for OpenSSL's verification code (x509_vfy.h)."""
    reason = {
        9: "it is not yet valid", 10: "it has expired", 62: f"it is not for {host}",
        64: f"it is not for {host}",
    }.get(error.verify_code)  # fmt: skip
    if error.verify_code in (2, 18, 19, 20, 21):
        reason = "its issuer is not in the CA bundle; if it is the right one, give its CA file"
    return f"its TLS certificate is refused: {reason or error.verify_message.lower()}"


def _proxy_hint() -> str:
    from urllib.request import getproxies

    proxies = getproxies()
    if any(proxies.get(kind) for kind in ("http", "https", "all")):
        return " (LDAP does not go through the HTTP proxy that is set here)"
    return ""
