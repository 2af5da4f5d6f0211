"""Identities in tokens and cards, by PKCS #11 (the extra `pkcs11`).

The private key stays where it is: the token opens RSA-OAEP with SHA-256, or computes the shared
point of ECDH. What a token cannot do is said; nothing weaker is tried, and raw RSA with the
padding taken off in software neither, as that would hand a decryption oracle to this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ..container.stanza import RSA, Stanza
from ..errors import MissingExtraError, TokenError, UsageError
from . import spki
from .cms_structures import length
from .held import HeldIdentity
from .keyfile import read_secret_line
from .keypair import PublicHalf
from .tokenuri import TokenUri, parse

#: Asks for the PIN of the token that is named.
AskPin = Callable[[str], str]
MOST_KEYS = 256
#: {(module, slot): (session, PIN)}: a process logs in to a token once, for all its sessions.
_SESSIONS: dict[tuple[str, int], tuple[Any, str | None]] = {}
_LOCK = threading.RLock()


def library() -> Any:
    """Return python-pkcs11; raises MissingExtraError."""
    try:
        import pkcs11
    except ImportError:
        raise MissingExtraError(
            "pkcs11: identities need python-pkcs11: pip install 'dicomcrypt[pkcs11]'"
        ) from None
    return pkcs11


def in_use() -> bool:
    """Whether this process talks to a token: then it must not fork, as PKCS #11 (section 5.4 of
    version 3.1) leaves open what a module does in the child."""
    return bool(_SESSIONS)


def close_all() -> None:
    """Log out everywhere and let go of the modules."""
    with _LOCK:
        for (module, _), (session, _) in list(_SESSIONS.items()):
            with _said(module):
                session.close()
        modules = {module for module, _ in _SESSIONS}
        _SESSIONS.clear()
        for module in modules:
            library().unload(module)


class TokenIdentity(HeldIdentity):
    """A private key in a token.

    Pickled, it carries the URI and the PIN (through a pipe only); the other process logs in for
    itself when it first needs the key.
    """

    def __init__(self, uri: TokenUri, pin: str | None, recipient: PublicHalf) -> None:
        super().__init__(recipient)
        self._uri, self._pin = uri, pin
        self._key: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._uri, self._pin, self.recipient)

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the wrapped key, or None if the stanza is not for this key.

        Raises TokenError, also for what the token cannot do."""
        if not self.matches(stanza):
            return None
        if stanza.type == RSA:
            key = self.decipher(stanza.body)
            return key if key is not None and len(key) == 32 else None
        with _LOCK:
            return self._open_hpke(stanza, binding, self.exchange)

    def decipher(self, body: bytes) -> bytes | None:
        """Return what RSA-OAEP with SHA-256 wrapped, None if it was not for this key. Raises
        TokenError."""
        with self._used() as key:
            return _open_oaep(key, body)

    def exchange(self, point: bytes) -> bytes:
        """Return the x coordinate that ECDH gives with a point; raises TokenError."""
        size = (self.recipient.public_key.key_size + 7) // 8
        with self._used() as key:
            return _ecdh(key, point, size)

    @contextmanager
    def _used(self) -> Iterator[Any]:
        with _LOCK, _said(self._uri):
            if self._key is None:
                session, _ = _session(self._uri, lambda _: self._pin or "")
                self._key = _private_key(session, self._uri)
            yield self._key

    def certificates(self) -> list[x509.Certificate]:
        """Return the certificates that the token has beside the key. Raises TokenError."""
        with self._used() as key:
            session, _ = _session(self._uri, lambda _: self._pin or "")
            return list(_certificates(session, key))


def load_token_identity(text: str, ask_pin: AskPin | None = None) -> TokenIdentity:
    """Return the identity that a `pkcs11:` URI names (RFC 7512).

    ask_pin: gives the PIN where the token wants one and the URI has no pin-source.
    Raises UsageError for a URI that cannot be meant or means several keys, TokenError for what
    the token or its module refuses, MissingExtraError.
    """
    uri = parse(text)

    def ask(token: str) -> str:
        if uri.pin_file is not None:
            return read_secret_line(uri.pin_file, "PIN file")
        if ask_pin is not None:
            return ask_pin(token)
        raise UsageError(f"token {token!r} wants a PIN: give --pin-file FILE")

    with _LOCK, _said(uri):
        session, pin = _session(uri, ask)
        recipient = _public_half(session, _private_key(session, uri))
    return TokenIdentity(uri, pin, recipient)


# ---- sessions -------------------------------------------------------------


@contextmanager
def _said(uri: TokenUri | str) -> Iterator[None]:
    """Turn the library's errors into ours: one line, without what was asked or entered."""
    p11 = library()
    try:
        yield
    except p11.PKCS11Error as error:
        sentences = {
            p11.PinIncorrect: "wrong PIN", p11.PinLenRange: "wrong PIN (its length cannot be)",
            p11.PinInvalid: "wrong PIN", p11.PinLocked: "its PIN is locked",
            p11.PinExpired: "its PIN has expired", p11.UserPinNotInitialized: "no PIN is set yet",
            p11.DeviceRemoved: "the token was removed", p11.TokenNotPresent: "no token is there",
            p11.FunctionNotSupported: "the module lacks this function",
        }  # fmt: skip
        said = sentences.get(type(error), f"the module reports {type(error).__name__}")
        where = uri.token if isinstance(uri, TokenUri) and uri.token else str(uri)
        raise TokenError(f"token {where!r}: {said}") from None


def _token(uri: TokenUri) -> Any:
    p11 = library()
    try:
        module = p11.lib(uri.module)
    except Exception:  # the library raises RuntimeError, or what the module reports
        raise TokenError(f"cannot load the PKCS #11 module {uri.module!r}") from None
    tokens = list(module.get_tokens())

    def fits(token: Any) -> bool:
        serial = token.serial.decode(errors="replace")
        says = ((uri.token, token.label), (uri.serial, serial.strip()),
                (uri.manufacturer, token.manufacturer_id), (uri.model, token.model),
                (uri.slot_id, token.slot.slot_id))
        return all(wanted is None or wanted == has for wanted, has in says)

    found = [t for t in tokens if fits(t)]
    if not found:
        there = ", ".join(repr(t.label) for t in tokens[:8]) or "no token at all"
        raise TokenError(f"no token fits {str(uri)!r}: the module sees {there}; is it plugged in?")
    if len(found) > 1:
        raise UsageError(f"{len(found)} tokens fit {str(uri)!r}: add token=, serial= or slot-id=")
    return found[0]


def _session(uri: TokenUri, ask_pin: AskPin) -> tuple[Any, str | None]:
    """Return this process's session with a token, and the PIN that opened it."""
    p11 = library()
    token = _token(uri)
    place = uri.module, token.slot.slot_id
    if place in _SESSIONS:
        return _SESSIONS[place]
    flags, pin = token.flags, None
    if flags & p11.TokenFlag.USER_PIN_LOCKED:
        raise TokenError(f"token {token.label!r}: its PIN is locked")
    if not flags & p11.TokenFlag.LOGIN_REQUIRED:
        session = token.open()
    elif flags & p11.TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        session = token.open(user_pin=p11.PROTECTED_AUTH)  # asked for on the reader's own keys
    else:
        pin = ask_pin(token.label)
        session = _log_in(uri, token, pin)
    _SESSIONS[place] = session, pin
    return _SESSIONS[place]


def _log_in(uri: TokenUri, token: Any, pin: str) -> Any:
    p11 = library()
    try:
        return token.open(user_pin=pin)
    except p11.UserAlreadyLoggedIn:
        return token.open()
    except (p11.PinIncorrect, p11.PinInvalid, p11.PinLenRange):
        flags, left = _token(uri).flags, ""
        if flags & p11.TokenFlag.USER_PIN_LOCKED:
            left = "; it is locked now"
        elif flags & p11.TokenFlag.USER_PIN_FINAL_TRY:
            left = "; one try is left before it is locked"
        elif flags & p11.TokenFlag.USER_PIN_COUNT_LOW:
            left = "; few tries may be left before it is locked"
        raise TokenError(f"token {token.label!r}: wrong PIN{left}") from None


# ---- keys -----------------------------------------------------------------


def _objects(session: Any, kind: Any, identifier: bytes | None, label: str | None) -> list[Any]:
    p11 = library()
    wanted = {p11.Attribute.CLASS: kind}
    if identifier is not None:
        wanted[p11.Attribute.ID] = identifier
    if label is not None:
        wanted[p11.Attribute.LABEL] = label
    found = []
    for entry in session.get_objects(wanted):
        found.append(entry)
        if len(found) > MOST_KEYS:
            raise UsageError(f"the token has over {MOST_KEYS} such objects: add id= or object=")
    return found


def _private_key(session: Any, uri: TokenUri) -> Any:
    found = _objects(session, library().ObjectClass.PRIVATE_KEY, uri.id, uri.label)
    if not found:
        raise TokenError(f"the token has no private key that fits {str(uri)!r}")
    if len(found) > 1:
        raise UsageError(f"{len(found)} private keys fit {str(uri)!r}: add id= or object=")
    return found[0]


def _public_half(session: Any, key: Any) -> PublicHalf:
    """Return the recipient of a private key, from the public key or certificate beside it."""
    p11 = library()
    if key.key_type == p11.KeyType.RSA:
        numbers = [int.from_bytes(key[a], "big") for a in
                   (p11.Attribute.PUBLIC_EXPONENT, p11.Attribute.MODULUS)]
        return spki.recipient_of(rsa.RSAPublicNumbers(*numbers).public_key())
    if key.key_type != p11.KeyType.EC:
        raise TokenError(f"keys of the kind {key.key_type.name} in tokens are not known here")
    identifier = key[p11.Attribute.ID]
    for public in _objects(session, p11.ObjectClass.PUBLIC_KEY, identifier, None):
        if public.key_type == p11.KeyType.EC:
            return spki.recipient_of(_ec_public(public))
    for certificate in _certificates(session, key):
        return spki.recipient_of(certificate.public_key())
    raise TokenError("the token has neither the public key nor a certificate beside the private "
                     "key (with the same id)")


def _certificates(session: Any, key: Any) -> Iterator[x509.Certificate]:
    """Yield the certificates with a key's id."""
    p11 = library()
    identifier = key[p11.Attribute.ID]
    for entry in _objects(session, p11.ObjectClass.CERTIFICATE, identifier, None):
        with suppress(ValueError):
            yield x509.load_der_x509_certificate(entry[p11.Attribute.VALUE])


def _ec_public(public: Any) -> ec.EllipticCurvePublicKey:
    from pkcs11.util.ec import encode_ec_public_key

    try:
        found = load_der_public_key(encode_ec_public_key(public))
        if isinstance(found, ec.EllipticCurvePublicKey):
            return found
    except ValueError:
        pass
    raise TokenError("the public key in the token is malformed")


def _open_oaep(key: Any, body: bytes) -> bytes | None:
    p11 = library()
    if not hasattr(key, "decrypt"):
        raise TokenError("the key in the token may not decrypt (CKA_DECRYPT is not set)")
    try:
        opened: bytes = key.decrypt(
            body, mechanism=p11.Mechanism.RSA_PKCS_OAEP,
            mechanism_param=(p11.Mechanism.SHA256, p11.MGF.SHA256, None),
        )  # fmt: skip
        return opened
    except (p11.EncryptedDataInvalid, p11.EncryptedDataLenRange):
        return None
    except (p11.MechanismInvalid, p11.MechanismParamInvalid, p11.ArgumentsBad):
        raise TokenError(
            "the token cannot open RSA-OAEP with SHA-256 (many do it with SHA-1 alone, which is "
            "not used here): use a P-256 key in it, or another token"
        ) from None


def _ecdh(key: Any, point: bytes, size: int) -> bytes:
    """Return the x coordinate of the shared point, `size` bytes."""
    p11 = library()
    if not hasattr(key, "derive_key"):
        raise TokenError("the key in the token may not do ECDH (CKA_DERIVE is not set)")
    template = {p11.Attribute.SENSITIVE: False, p11.Attribute.EXTRACTABLE: True,
                p11.Attribute.TOKEN: False}
    last: Exception | None = None
    in_der = b"\x04" + length(len(point)) + point  # OCTET STRING
    for encoded in (point, in_der):  # PKCS #11 2.20 wants it in DER, later ones raw
        try:
            derived = key.derive_key(
                p11.KeyType.GENERIC_SECRET, 8 * size, mechanism=p11.Mechanism.ECDH1_DERIVE,
                mechanism_param=(p11.KDF.NULL, None, encoded), template=template,
            )
            value: bytes = derived[p11.Attribute.VALUE]
        except (p11.MechanismParamInvalid, p11.ArgumentsBad, p11.DataInvalid) as error:
            last = error
            continue
        except (p11.AttributeSensitive, p11.TemplateInconsistent, p11.MechanismInvalid):
            raise TokenError("the token cannot do ECDH for this key, or keeps its result") from None
        derived.destroy()
        return value
    raise last if last is not None else TokenError("the token cannot do ECDH")
