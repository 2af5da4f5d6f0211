"""Key files: identities and recipients as text.

A line `dcmx-identity-1:ALGORITHM:DATA` or `dcmx-recipient-1:ALGORITHM:DATA`, DATA being
base64url without padding of the key and a four-byte checksum (the first bytes of SHA-256
over the text before DATA and the key). Lines with # are comments. An identity file may
itself be a DCMX object sealed with a passphrase, whose content is such text. A recipient file may
name others (`keys.references`). Files in PEM, DER or PKCS #12 are told by their content
(`keys.x509`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from ..container.layout import looks_like_object
from ..errors import DamagedError, NoIdentityError, OutputExistsError, PolicyError, UsageError
from ..regular import cannot_write, check_not_kept
from .hpke import HpkeIdentity, HpkeRecipient
from .hybrid import HybridIdentity
from .keypair import usable
from .x25519 import X25519Identity

if TYPE_CHECKING:
    from ..container.stanza import Identity, Recipient
    from .references import FindEmail

Made = TypeVar("Made")
ALGORITHMS: dict[str, type[HpkeIdentity]] = {
    kind.recipient_type.algorithm: kind for kind in (HybridIdentity, X25519Identity)
}
_IDENTITY, _RECIPIENT = "dcmx-identity-1", "dcmx-recipient-1"
_LIMIT = 1 << 20


def _line(prefix: str, algorithm: str, key: bytes) -> str:
    head = f"{prefix}:{algorithm}:"
    check = hashlib.sha256(head.encode() + key).digest()[:4]
    return head + base64.urlsafe_b64encode(key + check).decode().rstrip("=")


def _parse_line(line: str, prefix: str) -> tuple[type[HpkeIdentity], bytes]:
    parts = line.split(":")
    if len(parts) != 3 or parts[0] != prefix:
        if prefix == _RECIPIENT and parts[0] == _IDENTITY:
            raise UsageError("not a recipient but a secret identity: the .pub beside it is meant")
        if prefix == _IDENTITY and parts[0] == _RECIPIENT:
            raise UsageError("not an identity but a public recipient: the .key beside it is meant")
        wanted = "an identity" if prefix == _IDENTITY else "a recipient"
        raise UsageError(f"not {wanted} line")
    if parts[1] not in ALGORITHMS:
        raise UsageError(f"unknown key algorithm; this version knows {', '.join(ALGORITHMS)}")
    try:
        data = base64.b64decode(
            parts[2] + "=" * (-len(parts[2]) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        raise UsageError("the key is not base64url: was it copied whole?") from None
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != parts[2]:
        raise UsageError("the key is not base64url: was it copied whole?")
    key, check = data[:-4], data[-4:]
    expected = hashlib.sha256(f"{parts[0]}:{parts[1]}:".encode() + key).digest()[:4]
    if check != expected:
        raise UsageError("the key's checksum is wrong: was it copied whole?")
    return ALGORITHMS[parts[1]], key


def recipient_text(recipient: HpkeRecipient) -> str:
    """Return the text of a recipient file."""
    return (
        f"# dicomcrypt recipient, public: give it to whoever encrypts to you\n"
        f"# hint {recipient.hint.hex()}\n"
        f"{_line(_RECIPIENT, recipient.algorithm, recipient.public_bytes)}\n"
    )


def identity_text(identity: HpkeIdentity) -> str:
    """Return the text of an identity file. It is secret."""
    return (
        f"# dicomcrypt identity, SECRET: whoever has this file can decrypt\n"
        f"# hint {identity.recipient.hint.hex()}\n"
        f"{_line(_IDENTITY, identity.algorithm, identity.private_bytes())}\n"
    )


def _lines(text: str, first: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), first):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def parse_identities(text: str) -> list[HpkeIdentity]:
    """Parse an identity file's text; raises UsageError, never showing what it read."""
    return _keys(text, _IDENTITY, lambda kind, key: kind(key), "identity")


def _keys(
    text: str, prefix: str, make: Callable[[type[HpkeIdentity], bytes], Made], what: str,
    first: int = 1,
) -> list[Made]:
    found = []
    for number, line in _lines(text, first):
        try:
            kind, key = _parse_line(line, prefix)
            found.append(make(kind, key))
        except (UsageError, PolicyError) as error:
            raise type(error)(f"line {number}: {error}") from None
        except ValueError:
            raise UsageError(f"line {number}: the {what}'s key is not valid") from None
    if not found:
        raise UsageError(f"no {what} in it")
    return found


def parse_recipients(text: str, first: int = 1) -> list[HpkeRecipient]:
    """Parse a recipient file's text; one recipient a line. first: the number of its first line."""
    return _keys(text, _RECIPIENT, lambda kind, key: usable(kind.recipient_type(key)),
                 "recipient", first)


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a key file; raises UsageError naming it.

    A pipe is read to its end, as `<(...)` of a shell gives one; a signal ends the wait for it."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read key file {os.fspath(path)!r}: {reason}") from None
    except ValueError:
        raise UsageError("the name of a key file holds a NUL character") from None
    if len(data) > _LIMIT:
        raise UsageError(f"{os.fspath(path)!r} is too large for a key file")
    return data


@contextlib.contextmanager
def naming(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file's name before what was found wrong in it, unless a file that it names has put
    its own there."""
    try:
        yield
    except (UsageError, PolicyError, NoIdentityError, DamagedError) as error:
        if getattr(error, "of_file", False):
            raise
        named = copy.copy(error)  # with its reason, if it has one
        named.args = (f"{what} {os.fspath(path)!r}: {error}",)
        named.of_file = True  # type: ignore[union-attr]
        raise named from None


def looks_foreign(data: bytes) -> bool:
    """Whether these are the bytes of a PEM file, or of DER: `keys.x509` reads them."""
    return b"-----BEGIN " in data or (data[:1] == b"\x30" and not data.isascii())


def load_recipients(
    path: str | os.PathLike[str], *, passphrase: Callable[[], str] | None = None,
    find_email: FindEmail | None = None,
) -> list[Recipient]:
    """Read the recipients of a file: lines of ours, PEM, DER, or PKCS #12.

    passphrase: gives that of a PKCS #12 file which needs one. find_email: gives the certificates
    of an address that the file names (`keys.references`).
    Raises UsageError naming the file if it has none, or is an identity file: a secret key
    does not belong where a public one is asked for; PolicyError for a key that is too weak or a
    certificate that forbids encryption; NoIdentityError for a wrong passphrase.
    """
    from .references import References

    return References(passphrase=passphrase, find_email=find_email).file(os.fspath(path))


def load_identities(
    path: str | os.PathLike[str], open_sealed: Callable[[bytes], bytes] | None = None, *,
    passphrase: Callable[[], str] | None = None,
) -> list[Identity]:
    """Read the identities of a file: lines of ours, PEM, DER (PKCS #8 and older forms), PKCS #12.

    open_sealed: decrypts an identity file that is sealed with a passphrase. passphrase: gives that
    of an encrypted private key or PKCS #12 file. Raises UsageError naming the file, NoIdentityError
    for a wrong passphrase, PolicyError for an RSA key under 2048 bits.
    """
    data = read_key_file(path)
    if looks_like_object(data):
        if open_sealed is None:
            raise UsageError(f"identity file {os.fspath(path)!r} is sealed with a passphrase")
        data = open_sealed(data)
    with naming("identity file", path):
        return read_identities(data, passphrase)


def read_identities(data: bytes, passphrase: Callable[[], str] | None = None) -> list[Identity]:
    """Return the identities in the bytes of a key file that is not sealed."""
    if looks_foreign(data):
        from .x509 import identities_in

        return [*identities_in(data, passphrase)]
    return [*parse_identities(data.decode("utf-8-sig", "replace"))]


def read_secret_line(path: str | os.PathLike[str], what: str) -> str:
    """Return the first line of a file, a passphrase or PIN; raises UsageError naming the file."""
    try:
        # utf-8-sig: editors on Windows put a mark before the text
        with open(path, encoding="utf-8-sig") as file:
            return secret_line(file, f"{what} {os.fspath(path)!r}")
    except OSError as error:
        raise UsageError(
            f"cannot read {what} {os.fspath(path)!r}: {(error.strerror or '').lower()}"
        ) from None


def secret_line(file: IO[str], name: str) -> str:
    """Return the first line of an open file; raises UsageError if it is empty, too long, not
    UTF-8, or holds a NUL."""
    try:
        line = file.readline(65537).rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8") from None
    if len(line) > 65536:
        raise UsageError(f"the first line of {name} is too long")
    if not line:
        raise UsageError(f"the first line of {name} is empty")
    return secret_text(line, f"the first line of {name}")


def secret_text(text: str, name: str) -> str:
    """Return a passphrase or PIN as it was entered; raises UsageError for one with a NUL, as other
    programs end texts there, and for what a terminal of another encoding sends."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{name} is not in the terminal's encoding")
    if "\0" in text:
        raise UsageError(f"{name} holds a NUL character")
    return text


def write_private(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> None:
    """Write a secret file with mode 0600 from its first byte on.

    Raises OutputExistsError if it exists and force is not set, UsageError if it is kept
    (`regular.keep`).
    """
    if force:
        check_not_kept(path)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or os.fspath(path)
            raise
        if force:
            os.replace(temporary, target)
        else:
            try:
                os.link(temporary, target)
            except FileExistsError:
                raise OutputExistsError(
                    f"key file {os.fspath(path)!r} exists: overwriting a key loses what was "
                    "encrypted to it; choose another name, or give --force"
                ) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
