"""PKCS #11 URIs (RFC 7512): which token, which key, by which module, and where its PIN is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from .. import config
from ..errors import UsageError

SCHEME = "pkcs11:"
_LIMIT = 4096
_PATH = {"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}
_QUERY = {"module-path", "pin-source"}


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What a URI names; None where it says nothing. id: bytes of CKA_ID."""

    text: str
    module: str
    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    slot_id: int | None = None
    label: str | None = None
    id: bytes | None = None
    pin_file: str | None = None

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> TokenUri:
    """Parse a URI for a private key; without `module-path`, `[pkcs11] module` of the configuration
    says which module it is. Raises UsageError."""
    if len(text) > _LIMIT:
        raise UsageError("the pkcs11: URI is too long")
    path, _, query = text[len(SCHEME) :].partition("?")
    said = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
    if said.get("type", b"private") != b"private":
        raise UsageError("the pkcs11: URI of an identity has type=private, or no type")
    module = _text(said, "module-path") or next(iter(config.files("pkcs11", "module")), None)
    if module is None:
        raise UsageError("which PKCS #11 module? add ?module-path=FILE to the URI, or set "
                         "[pkcs11] module in the configuration")
    slot = _text(said, "slot-id")
    if slot is not None and not (slot.isascii() and slot.isdigit() and len(slot) < 20):
        raise UsageError("slot-id of a pkcs11: URI is a number")
    source = _text(said, "pin-source")
    return TokenUri(
        text, module, _text(said, "token"), _text(said, "serial"), _text(said, "manufacturer"),
        _text(said, "model"), None if slot is None else int(slot), _text(said, "object"),
        said.get("id"), None if source is None else _file(source),
    )  # fmt: skip


def _attributes(text: str, separator: str, known: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise UsageError("a PIN does not belong into a URI, which other users can read: leave "
                             "pin-value out, and give --pin-file or pin-source=file:FILE")
        if not equals:
            raise UsageError(f"{name!r} of a pkcs11: URI is no NAME=VALUE")
        if name not in known:
            raise UsageError(f"attribute {name!r} of a pkcs11: URI is not known here")
        if name in found:
            raise UsageError(f"attribute {name!r} stands twice in a pkcs11: URI")
        found[name] = unquote_to_bytes(value)
    return found


def _text(said: dict[str, bytes], name: str) -> str | None:
    value = said.get(name)
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise UsageError(f"attribute {name!r} of a pkcs11: URI is no text")
    return text


def _file(source: str) -> str:
    parts = urlsplit(source)
    if parts.scheme not in ("", "file") or parts.netloc or source.startswith("|") or not parts.path:
        raise UsageError("pin-source of a pkcs11: URI is file:FILE")
    return unquote_to_bytes(parts.path).decode(errors="surrogateescape")
