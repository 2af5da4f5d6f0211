"""What a software card keeps, and the file that it keeps it in (docs/spec/hpjc-v1.md section 8).

The file is sealed under a passphrase of its own, which is hashed once, when the card is opened.
Each change is a new whole file, on the medium before it gets the name of the old one, and with the
folder on the medium before the change counts: a power cut leaves the old file or the new one.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ..container.stanza import ARGON2ID, FULL, NO_HINT, Stanza
from ..errors import DamagedError, NoIdentityError, OutputExistsError, TokenError, UsageError
from ..keys import permission
from ..keys.passphrase import Passphrase
from .profile import FILES, PIN, PIN_TRIES, PUK, PUK_USES, CardRole, KeyKind, Slot

_MAGIC = b"HPJCST01"
_BINDING = b"HPJC card state"
_STANZA, _NONCE = 6 + 16 + 32 + 40, 12
_HEAD = len(_MAGIC) + _STANZA
_MOST = 1 << 20
#: KiB of the Argon2id over the file's passphrase (3 passes), and over a PIN or PUK (2 passes).
STATE_COST, PIN_COST = 65536, 19456


@dataclass(frozen=True)
class Reference:
    """A PIN or PUK, hashed. left: tries or uses."""

    salt: bytes
    digest: bytes
    left: int
    cost: int

    @classmethod
    def of(cls, block: bytes, left: int) -> Reference:
        salt = os.urandom(16)
        return cls(salt, _hashed(block, salt, PIN_COST), left, PIN_COST)

    def is_of(self, block: bytes) -> bool:
        """Compare, in a time that does not depend on what differs."""
        return hmac.compare_digest(_hashed(block, self.salt, self.cost), self.digest)


def _hashed(block: bytes, salt: bytes, cost: int) -> bytes:
    kdf = Argon2id(salt=salt, length=32, iterations=2, lanes=1, memory_cost=cost)
    return kdf.derive(block)


@dataclass(frozen=True)
class StoredKey:
    """A private key in PKCS #8."""

    kind: KeyKind
    der: bytes = field(repr=False)


@dataclass(frozen=True)
class CardData:
    """Everything that a card keeps without power. It is never changed, only replaced."""

    role: CardRole
    operational: bool = False
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    references: dict[int, Reference] = field(default_factory=dict, repr=False)
    keys: dict[Slot, StoredKey] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        """JSON; bytes in Base64."""
        return json.dumps(asdict(self), default=lambda b: base64.b64encode(b).decode()).encode()

    @classmethod
    def decode(cls, data: bytes) -> CardData:
        """Raises DamagedError for anything but what `encode` makes of a card that can be."""
        raw = base64.b64decode
        try:
            found: dict[str, Any] = json.loads(data)
            card = cls(
                CardRole(found["role"]), bool(found["operational"]),
                {name: raw(content) for name, content in found["files"].items()},
                {int(number): Reference(raw(r["salt"]), raw(r["digest"]), r["left"], r["cost"])
                 for number, r in found["references"].items()},
                {Slot(slot): StoredKey(KeyKind(k["kind"]), raw(k["der"]))
                 for slot, k in found["keys"].items()},
            )  # fmt: skip
            right = all(len(c) <= FILES[name].most for name, c in card.files.items()) and all(
                0 <= r.left <= {PIN: PIN_TRIES, PUK: PUK_USES}[number] and 8 <= r.cost <= 1 << 20
                for number, r in card.references.items()
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            right = False
        if not right:
            raise DamagedError("the card's state is not one of this version")
        return card


class Store(Protocol):
    """Where a card's data lie."""

    def load(self) -> bytes: ...

    def save(self, data: bytes) -> None:
        """Return when the data are on the medium; raises OSError otherwise."""

    def close(self) -> None: ...


class MemoryStore:
    """Keeps nothing when the process ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def load(self) -> bytes:
        return self._data

    def save(self, data: bytes) -> None:
        self._data = data

    def close(self) -> None:
        pass


class FileStore:
    """The sealed file. One process at a time has it, so that no two spend the same tries.

    path: it must exist, unless `first` has what a new file is to hold.

    Raises NoIdentityError for a wrong passphrase, DamagedError for a damaged file, UsageError if
    it cannot be read, OutputExistsError if a new one has the name of another file, TokenError if
    another process has it, PolicyError if the policy wants no passphrases."""

    def __init__(
        self, path: str | os.PathLike[str], passphrase: str, first: bytes | None = None
    ) -> None:
        self.path = os.fspath(path)
        # A link would have a lock of its own, and be replaced by a second card.
        self._place = os.path.realpath(path)
        if first is not None and os.path.lexists(self.path):
            raise OutputExistsError(f"{self.path!r} exists: a card's state is never overwritten")
        if first is None and not os.path.isfile(self.path):
            raise UsageError(f"cannot read the card's state {self.path!r}: there is no such file")
        self._lock: int | None = _locked(self._place, self.path)
        try:
            if first is not None:
                self._key = os.urandom(32)
                secret = Passphrase(passphrase, memory_kib=STATE_COST)
                permission.check_encryption([secret])
                self._head = _MAGIC + secret.wrap(self._key, FULL, _BINDING).body
                self.save(first)
            else:
                self._head, self._key = self._open(Passphrase(passphrase))
        except BaseException:
            self.close()
            raise

    def _open(self, passphrase: Passphrase) -> tuple[bytes, bytes]:
        head = self._read()[:_HEAD]
        try:
            stanza = Stanza(ARGON2ID, FULL, NO_HINT, head[len(_MAGIC) :])
            permission.check_decryption(passphrase, stanza)
            key = passphrase.unwrap(stanza, _BINDING)
        except DamagedError:
            raise self._damaged() from None
        if key is None:
            raise NoIdentityError(f"wrong passphrase for the card's state {self.path!r}")
        return head, key

    def _damaged(self) -> DamagedError:
        return DamagedError(f"the card's state {self.path!r} is damaged, or no such file at all")

    def _read(self) -> bytes:
        try:
            with open(self._place, "rb") as file:
                data = file.read(_MOST + 1)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise UsageError(f"cannot read the card's state {self.path!r}: {reason}") from None
        if not (data.startswith(_MAGIC) and _HEAD + _NONCE + 16 <= len(data) <= _MOST):
            raise self._damaged()
        return data

    def load(self) -> bytes:
        data = self._read()
        try:
            if data[:_HEAD] != self._head:
                raise InvalidTag
            body = data[_HEAD:]
            return AESGCM(self._key).decrypt(body[:_NONCE], body[_NONCE:], self._head)
        except InvalidTag:
            raise self._damaged() from None

    def save(self, data: bytes) -> None:
        nonce = os.urandom(_NONCE)
        sealed = self._head + nonce + AESGCM(self._key).encrypt(nonce, data, self._head)
        new = self._place + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a power cut
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while at < len(sealed):
                at += os.write(descriptor, sealed[at:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(new, self._place)
        folder = os.open(os.path.dirname(self._place), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(place: str, path: str) -> int:
    try:
        import fcntl
    except ImportError:
        raise UsageError(f"the card's state {path!r} cannot be locked on this system: software "
                         "cards are for Linux and macOS") from None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(place + ".lock", flags, 0o600)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise UsageError(f"cannot lock the card's state {path!r}: {reason}") from None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    raise TokenError(f"the card's state {path!r} is in use by another process")
