"""What a user may write for a recipient or an identity, and what it means.

    FILE                a file: lines of ours, PEM, DER, PKCS #12
    FILE#NAME           the block `group NAME` of a text file
    @NAME               `[groups] NAME = [...]` of the configuration
    someone@example.org certificates that the directories have for this address
    scheme:...          `pkcs11:` for identities; others by a third party's entry point

A file that is there is meant before anything else. A recipient file's lines are `dcmx-recipient-1:`
keys, `file FILE`, `email ADDRESS`, and `group NAME`, which begins a block that goes on to the next
such line; the whole file means all of its blocks. What includes itself is refused; depth and
number are bounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import config
from ..container.header import MAX_STANZAS
from ..container.layout import looks_like_object
from ..errors import PolicyError, UsageError
from ..regular import keep
from .keyfile import looks_foreign, naming, parse_recipients, read_key_file

if TYPE_CHECKING:
    from cryptography import x509

    from ..container.stanza import Identity, Recipient

    #: Gives the certificates that directories have for an address.
    FindEmail = Callable[[str], list[x509.Certificate]]

MOST_DEPTH, MOST_FILES, MOST_RECIPIENTS = 8, 256, MAX_STANZAS
_WORDS = ("file", "email", "group")
_NO_MARKS = str.maketrans("", "", "._-")


def scheme(reference: str) -> str:
    """The scheme of a reference in lower case, or ""; at least two letters, as one is a drive."""
    name, colon, _ = reference.partition(":")
    fits = colon and len(name) > 1 and name.isascii() and name[0].isalpha()
    return name.lower() if fits and name.translate(_NO_MARKS).isalnum() else ""


def _is_name(text: str) -> bool:
    """Letters, digits, dots, _ and -."""
    return 0 < len(text) <= 64 and text.translate(_NO_MARKS).isalnum()


class References:
    """Resolves references to recipients; remembers how deep and how many.

    passphrase: gives that of a PKCS #12 file which needs one. find_email: as `FindEmail` says.
    """

    def __init__(
        self, *, passphrase: Callable[[], str] | None = None,
        find_email: FindEmail | None = None,
    ) -> None:
        self._passphrase, self._find_email = passphrase, find_email
        self._inside: list[tuple[str, str | None]] = []
        self._files = self._found = 0

    def recipients(self, reference: str) -> list[Recipient]:
        """Return who a reference means. Raises UsageError, PolicyError, NoIdentityError,
        DicomcryptError of the directories."""
        if reference.startswith("@"):
            return self.group(reference[1:])
        if not os.path.lexists(reference):
            path, mark, name = reference.rpartition("#")
            if mark and os.path.lexists(path):
                return self.file(path, name)
            if scheme(reference) == "pkcs11":
                raise UsageError("a pkcs11: URI names an identity: give its certificate as the "
                                 "recipient")
            if scheme(reference):
                from .plugins import recipients_of

                return self._counted(recipients_of(reference))
            if "@" in reference and os.sep not in reference:
                return self.email(reference)
        return self.file(reference)

    def file(self, path: str, group: str | None = None) -> list[Recipient]:
        """Return the recipients of a file, or of one group of it."""
        self._files += 1
        if self._files > MOST_FILES:
            raise UsageError(f"over {MOST_FILES} recipient files are named by each other")
        data = read_key_file(path)
        keep(path, "is output and a recipient file, which this command uses: give another name")
        with naming("recipient file", path), self._within((os.path.realpath(path), group), path):
            if looks_like_object(data):
                raise UsageError("an encrypted object: give the .pub of whoever is meant")
            if looks_foreign(data):
                if group is not None:
                    raise UsageError("groups are in text files")
                from .x509 import recipients_in

                return self._counted(recipients_in(data, self._passphrase))
            return self._text(data.decode("utf-8-sig", "replace"), os.path.dirname(path), group)

    def group(self, name: str) -> list[Recipient]:
        """Return the recipients of a group of the configuration."""
        members = config.names("groups", name) if _is_name(name) else []
        if not members:
            raise UsageError(f"the configuration has no group {name!r} under [groups]")
        with self._within(("@", name), f"@{name}"):
            return [r for member in members for r in self.recipients(configured(member))]

    def email(self, address: str) -> list[Recipient]:
        """Return the recipients that directories know by an address."""
        if self._find_email is None:
            raise UsageError(f"cannot look up {address!r}: no directories are configured")
        from .x509 import addresses, from_certificates

        certificates = self._find_email(address)
        if not certificates:
            raise UsageError(f"the directories have no certificate for {address!r}")
        if any(address.lower() not in addresses(c) for c in certificates):
            raise PolicyError(f"a directory gave a certificate that is not for {address!r}")
        return self._counted(from_certificates(certificates))

    def _text(self, text: str, folder: str, group: str | None) -> list[Recipient]:
        found: list[Recipient] = []
        here, seen = None, group is None
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            if word in _WORDS and not rest:
                raise UsageError(f"a line {word!r} without what it means")
            if word == "group":
                if not _is_name(rest):
                    raise UsageError("a group's name is made of letters, digits, dots, _ and -")
                here, seen = rest, seen or rest == group
            elif group is not None and here != group:
                continue
            elif word == "file":
                found += self._included(folder, rest)
            elif word == "email":
                found += self.email(rest)
            else:
                found += self._counted(parse_recipients(line, number))
        if not seen:
            raise UsageError(f"no group {group!r} in it")
        if not found:
            raise UsageError("no recipient in it")
        return found

    def _included(self, folder: str, name: str) -> list[Recipient]:
        path = os.path.join(folder, name)
        group = None
        if not os.path.lexists(path) and "#" in name:
            path, _, group = path.rpartition("#")
        if os.path.lexists(path) and not os.path.isfile(path):
            raise UsageError(f"{name!r} is not a regular file")
        return self.file(path, group)

    @contextmanager
    def _within(self, place: tuple[str, str | None], name: str) -> Iterator[None]:
        if place in self._inside:
            raise UsageError(f"{name!r} includes itself")
        if len(self._inside) >= MOST_DEPTH:
            raise UsageError(f"recipients are nested over {MOST_DEPTH} deep")
        self._inside.append(place)
        try:
            yield
        finally:
            self._inside.pop()

    def _counted(self, found: Sequence[Recipient]) -> list[Recipient]:
        self._found += len(found)
        if self._found > MOST_RECIPIENTS:
            raise UsageError(f"over {MOST_RECIPIENTS} recipients: give them a key in common")
        return [*found]


def configured(reference: str) -> str:
    """A reference of the configuration: a file's name is relative to its folder."""
    path = config.beside(reference)
    plain = not reference.startswith("@") and not scheme(reference) and "@" not in reference
    return path if plain or os.path.lexists(path) else reference


def each_once(recipients: list[Any]) -> list[Any]:
    """Leave out repetitions of a key; of two the one with a certificate stays."""
    found: dict[Any, Any] = {}
    for recipient in recipients:
        known = found.get(recipient)
        if known is None or getattr(known, "certificate", None) is None:
            found[recipient] = recipient
    return list(found.values())


def identities(
    reference: str, *, open_sealed: Callable[[bytes], bytes] | None = None,
    passphrase: Callable[[], str] | None = None, pin: Callable[[str], str] | None = None,
) -> list[Identity]:
    """Return the identities of a file, a `pkcs11:` URI, or a third party's scheme.

    pin: gives the PIN of the token that it is told. Raises UsageError, NoIdentityError,
    PolicyError, TokenError, MissingExtraError.
    """
    if not os.path.lexists(reference):
        if scheme(reference) == "pkcs11":
            from .token import load_token_identity

            return [load_token_identity(reference, pin)]
        if scheme(reference):
            from .plugins import identities_of

            return identities_of(reference)
    from .keyfile import load_identities

    return load_identities(reference, open_sealed, passphrase=passphrase)
