"""A folder with all that one-time passwords need: settings, keys, and by default the database.

    otp.toml     settings, below
    code.key     the RSA key of the codes, PEM, mode 0600; used for nothing else
    secret.key   the key file of the database, mode 0600
    otp.db       SQLite
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import OutputExistsError, UsageError
from ..keys.keyfile import naming, read_key_file, read_secret_line, write_private
from ..regular import open_regular, others_may
from .channels import Channel, ConsoleChannel, SmsChannel, SmtpChannel, tls_context
from .code import CodeKey
from .context import Context, Record, unrecorded
from .factors import CodeFactor
from .limits import Limits
from .links import Links
from .outbox import Outbox
from .persons import Persons
from .requests import Requests
from .secret import Secret
from .service import LinkService
from .store import Store, system_time
from .totp import TotpFactor
from .web import Handler

SETTINGS = "otp.toml"
_CARD = "card:"
_LIMIT = 1 << 16
_KNOWN = {
    "": {"database", "code_key", "pin_file", "base_url", "smtp", "sms", "limits"},
    "smtp": {"host", "port", "sender", "user", "password_file", "ca_file"},
    "sms": {"url", "secret_file", "sender", "ca_file"},
}
_TEMPLATE = """\
# One-time passwords: docs/otp.md. File names are relative to this folder. No secret stands here.
database = "{database}"
code_key = "{code_key}"                # a file, a pkcs11: URI, or a card's key
base_url = "{base_url}"

# [smtp]
# host = "mail.example"
# port = 587
# sender = "portal@example"
# user = "portal"
# password_file = "smtp.password"

# [sms]
# url = "https://gateway.example/messages"
# secret_file = "sms.secret"
# sender = "Klinikum"

# [limits]
# person_codes = 30
"""


def create(
    folder: str | os.PathLike[str], *, bits: int = 3072, database: str = "sqlite:///otp.db",
    code_key: str | None = None, base_url: str = "https://portal.example/",
) -> None:
    """Make a folder with keys, settings and an empty database.

    code_key: a `pkcs11:` URI, what `card_name` gives, or the file of a key that is there already.
    Raises UsageError for settings that cannot be, OutputExistsError if the folder has settings
    already."""
    place = Path(folder)
    if code_key is not None and not code_key.startswith(("pkcs11:", _CARD)):
        code_key = os.path.abspath(code_key)
        read_key_file(code_key)
    for text in (database, base_url, code_key or ""):
        if any(ch in '"\\' or not ch.isprintable() for ch in text):
            raise UsageError("a setting holds a character that it cannot")
    check_base(base_url)
    if (place / SETTINGS).exists():
        raise OutputExistsError(f"{os.fspath(place / SETTINGS)!r} exists: choose another folder")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _new_key(bits) if code_key is None else None
    Store(_database(place, database), create=True).close()
    if key is not None:
        write_private(place / "code.key", key)
    Secret.write_new(place / "secret.key")
    text = _TEMPLATE.format(database=database, code_key=code_key or "code.key", base_url=base_url)
    write_private(place / SETTINGS, text.encode())


def check_base(url: str) -> str:
    """Return what links begin with; raises UsageError for what would show them to others."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or "#" in url:
        raise UsageError("the base URL is one of https: without a fragment")
    return url


def card_name(key: Any) -> str:
    """Return what the settings call a card's key: SHA-256 of its public half, in hexadecimal
    digits. A card with another key is refused then."""
    from ..keys.spki import public_der

    return _CARD + hashlib.sha256(public_der(key.public_key())).hexdigest()


def _new_key(bits: int) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from .. import policy
    from .code import ALGORITHM

    policy.current().require(ALGORITHM, "sign", bits)
    return rsa.generate_private_key(65537, bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Home:
    """All parts, made when they are first asked for.

    record: takes events for the audit log (`context.recorder`). pin: asks for a token's PIN;
    passphrase: for that of the key of the codes. card: gives the signing key of the card, if the
    settings name one; it calls what it gets with the key, which raises UsageError for another one,
    before the PIN is given. console: messages go to standard error instead.
    Raises UsageError for settings that cannot be."""

    def __init__(
        self, folder: str | os.PathLike[str], *, record: Record = unrecorded,
        clock: Callable[[], int] = system_time, sync: bool = True,
        pin: Callable[[str], str] | None = None, passphrase: Callable[[], str] | None = None,
        card: Callable[[Callable[[Any], None]], Any] | None = None, console: bool = False,
    ) -> None:
        self._place, self._console = Path(folder), console
        self._pin, self._passphrase, self._card = pin, passphrase, card
        self._settings = _read_settings(self._place / SETTINGS)
        url = _database(self._place, self._text("database"))
        self.context = Context(Store(url, clock=clock, sync=sync), self._secret(),
                               self._limits(), record)
        self.persons = Persons(self.context)
        self.links = Links(self.context, self.persons)
        self.requests = Requests(self.context, self.persons, self.links)

    @property
    def by_card(self) -> bool:
        """Whether the settings say that a card has the key of the codes."""
        return self._text("code_key").startswith(_CARD)

    @property
    def base_url(self) -> str:
        return check_base(self._text("base_url"))

    @cached_property
    def codes(self) -> CodeFactor:
        return CodeFactor(self.context, CodeKey(self._code_key()))

    @cached_property
    def totp(self) -> TotpFactor:
        return TotpFactor(self.context, self.persons)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.context, self.persons, self.codes, self._channels())

    @cached_property
    def service(self) -> LinkService:
        return LinkService(self.context, self.links, self.codes, [self.totp])

    @cached_property
    def handler(self) -> Handler:
        """What a web server calls."""
        return Handler(self.service, self.requests)

    def close(self) -> None:
        self.context.store.close()

    # ---- settings --------------------------------------------------------------

    def _text(self, key: str, section: str = "") -> str:
        found = self._section(section).get(key)
        if not isinstance(found, str) or not found:
            where = f"[{section}] " if section else ""
            raise UsageError(f"{self._where}: {where}{key} is missing, or no text")
        return found

    def _section(self, name: str) -> dict[str, Any]:
        found = self._settings if not name else self._settings.get(name, {})
        if not isinstance(found, dict):
            raise UsageError(f"{self._where}: {name!r} is not a section")
        return found

    @property
    def _where(self) -> str:
        return repr(os.fspath(self._place / SETTINGS))

    def _file(self, key: str, section: str = "") -> str | None:
        if key not in self._section(section):
            return None
        return os.fspath(self._place / os.path.expanduser(self._text(key, section)))

    def _secret(self) -> Secret:
        return Secret.load(self._place / "secret.key")

    def _limits(self) -> Limits:
        told: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                for key, value in self._section("limits").items()}
        try:
            return Limits(**told)
        except (TypeError, UsageError) as error:
            said = str(error) if isinstance(error, UsageError) else "a limit that is not known"
            raise UsageError(f"{self._where}: [limits]: {said}") from None

    def _code_key(self) -> Any:
        named = self._text("code_key")
        if named.startswith("pkcs11:"):
            from ..keys.tokensigner import TokenSigningKey

            return TokenSigningKey(named, self._ask_pin)
        if named.startswith(_CARD):
            return self._card_key(named)
        path = self._place / os.path.expanduser(named)
        if others_may(path, 0o077):
            raise UsageError(f"the key of the codes {os.fspath(path)!r} may be read by others: "
                             "take that right away with chmod 600")
        from ..keys.x509 import read

        def ask() -> str:
            if self._passphrase is None:
                raise UsageError("it is under a passphrase: give it")
            return self._passphrase()

        with naming("key of the codes", path):
            found = read(read_key_file(path), ask).private_keys
            if len(found) != 1:
                raise UsageError("it holds no private key, or several")
        return found[0]

    def _card_key(self, named: str) -> Any:
        if self._card is None:
            raise UsageError("the key of the codes is on a card: give its key")

        def judge(key: Any) -> None:
            if card_name(key) != named:
                raise UsageError("this card's key is not the one that makes the codes of this "
                                 "folder: put in the card that `otp init` was given")

        return self._card(judge)

    def _ask_pin(self, token: str) -> str:
        file = self._file("pin_file")
        if file is not None:
            return read_secret_line(file, "PIN file")
        if self._pin is None:
            raise UsageError(f"token {token!r} wants a PIN: {self._where} may name a pin_file")
        return self._pin(token)

    def _channels(self) -> dict[str, Channel]:
        console = ConsoleChannel()
        if self._console:
            return dict.fromkeys(("email", "mobile", "console"), console)
        found: dict[str, Channel] = {"console": console}
        if smtp := self._section("smtp"):
            port = smtp.get("port", 587)
            if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
                raise UsageError(f"{self._where}: [smtp] port is a number of 1 to 65535")
            found["email"] = SmtpChannel(
                self._text("host", "smtp"), port, self._text("sender", "smtp"),
                user=self._text("user", "smtp") if "user" in smtp else None,
                password=self._line("password_file", "smtp"),
                context=tls_context(self._file("ca_file", "smtp")))
        if sms := self._section("sms"):
            secret = self._line("secret_file", "sms")
            if secret is None:
                raise UsageError(f"{self._where}: [sms] secret_file is missing")
            found["mobile"] = SmsChannel(
                self._text("url", "sms"), secret,
                sender=self._text("sender", "sms") if "sender" in sms else "",
                context=tls_context(self._file("ca_file", "sms")))
        return found

    def _line(self, key: str, section: str) -> Callable[[], str] | None:
        path = self._file(key, section)
        if path is None:
            return None
        if others_may(path, 0o077):
            raise UsageError(f"the file {path!r} may be read by others: take that right away with "
                             "chmod 600")
        return lambda: read_secret_line(path, "file of a secret")


def upgrade(folder: str | os.PathLike[str]) -> None:
    """Bring the database of a folder to the newest version."""
    place = Path(folder)
    found = _read_settings(place / SETTINGS).get("database")
    Store(_database(place, found if isinstance(found, str) else ""), create=True).close()


def _database(place: Path, url: str) -> str:
    """Make the path of an SQLite file absolute by the folder."""
    scheme, slashes, path = url.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not slashes:
        return url
    return f"{scheme}:///{os.path.abspath(place / path)}"


def _read_settings(path: Path) -> dict[str, Any]:
    name = os.fspath(path)
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot read the settings {name!r}: {(error.strerror or '').lower()}; "
                         "`dicomcrypt otp init` makes them") from None
    if len(data) > _LIMIT:
        raise UsageError(f"the settings {name!r} are too large")
    try:
        found = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raise UsageError(f"the settings {name!r} are not TOML") from None
    for section, known in _KNOWN.items():
        part = found if not section else found.get(section, {})
        if not isinstance(part, dict):
            raise UsageError(f"the settings {name!r}: {section!r} is not a section")
        if unknown := set(part) - known:
            raise UsageError(f"the settings {name!r} have an unknown key {min(unknown)[:64]!r}")
    return found
