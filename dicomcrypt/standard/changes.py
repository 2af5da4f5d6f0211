"""What is done with a file: attribute confidentiality, signatures, Secure DICOM Files.

Changes go to worker processes through a pipe, and with them the keys that they need.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

from ..errors import NotMeantError, OutputExistsError, PolicyError
from ..keys.cms import Signature
from ..objects.atomic import AtomicFile
from ..objects.signing import SignaturePolicy
from ..regular import open_regular
from . import secure_file, signing
from .ber_stream import CHUNK
from .cms_envelope import Opening, Recipient
from .dicomfile import DicomFile
from .protect import Protected, Protector, write
from .reveal import reveal

SUFFIX = ".p7m"
Tell = Callable[[int], object]


class Made(NamedTuple):
    """A file that is open, and what will be made of it.

    write: is told of the bytes that are done, and returns what is said of the output, for people
    and as facts. uids: the new study's and instance's, by which the output may be named."""

    descriptor: int
    status: os.stat_result
    write: Callable[[AtomicFile, Tell], tuple[str, dict[str, Any]]]
    uids: tuple[str, str] = ("", "")


class Change(Protocol):
    """What is done with files."""

    #: Of what was done before: "protected before".
    before: str

    def name(self, path: bytes) -> bytes:
        """The output's path in its tree for an input's path, which is that of a file."""

    def __call__(self, path: bytes | str) -> contextlib.AbstractContextManager[Made]:
        """Open a file; raises NotMeantError for what trees leave out."""


class _SameName:
    def name(self, path: bytes) -> bytes:
        return os.path.basename(path)


# ---- attribute confidentiality ---------------------------------------------------


class _Attributes(_SameName):
    """Protects or reveals."""

    def _change(self, file: DicomFile) -> Protected:
        raise NotImplementedError

    @contextlib.contextmanager
    def __call__(self, path: bytes | str) -> Iterator[Made]:
        with DicomFile(path) as file:
            made = self._change(file)

            def put(output: AtomicFile, tell: Tell) -> tuple[str, dict[str, Any]]:
                write(file, made, output.descriptor)
                tell(file.size)
                return "", {}

            yield Made(file.descriptor, file.status, put, (made.study, made.instance))


class Protecting(_Attributes):
    """Protects files."""

    before = "protected before"

    def __init__(self, protector: Protector) -> None:
        self._protector = protector

    def _change(self, file: DicomFile) -> Protected:
        return self._protector.protect(file)


class Revealing(_Attributes):
    """Reveals files to whoever has one of these private keys and passwords."""

    before = "revealed before"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    def _change(self, file: DicomFile) -> Protected:
        return reveal(file, self._opening)


# ---- whole files -------------------------------------------------------------------


@contextlib.contextmanager
def _opened(
    path: bytes | str,
    work: Callable[[BinaryIO, BinaryIO, Tell], tuple[str, dict[str, Any]]],
    meant: Callable[[BinaryIO], None] = lambda _: None,
) -> Iterator[Made]:
    with open(open_regular(path), "rb") as source:
        meant(source)

        def put(output: AtomicFile, tell: Tell) -> tuple[str, dict[str, Any]]:
            # Buffered: the system may take a part of what it is given, as a medium gets full.
            with open(output.descriptor, "r+b", buffering=CHUNK, closefd=False) as target:
                return work(source, target, tell)

        yield Made(source.fileno(), os.fstat(source.fileno()), put)


class Signing(_SameName):
    """Signs files; options: of `signing.sign`."""

    before = "signed before"

    def __init__(self, signer: Any, **options: Any) -> None:
        self._signer, self._options = signer, options

    def __call__(self, path: bytes | str) -> contextlib.AbstractContextManager[Made]:
        def sign(source: BinaryIO, target: BinaryIO, tell: Tell) -> tuple[str, dict[str, Any]]:
            signed = len(signing.sign(source, target, self._signer, **self._options))
            tell(source.tell())
            return f"{signed} elements signed", {"elements": signed}

        return _opened(path, sign)


class Wrapping:
    """Makes Secure DICOM Files; options: of `secure_file.wrap`. Those that are one already are
    none that it is for."""

    before = "wrapped before"

    def __init__(self, recipients: Sequence[Recipient], **options: Any) -> None:
        self._recipients, self._options = list(recipients), options

    def name(self, path: bytes) -> bytes:
        return os.path.basename(path) + SUFFIX.encode()

    def __call__(self, path: bytes | str) -> contextlib.AbstractContextManager[Made]:
        def wrap(source: BinaryIO, target: BinaryIO, tell: Tell) -> tuple[str, dict[str, Any]]:
            secure_file.wrap(source, target, self._recipients, progress=tell, **self._options)
            return "", {}

        def meant(source: BinaryIO) -> None:
            if secure_file.looks_wrapped(source):
                raise NotMeantError(f"{os.fsdecode(path)!r} is a Secure DICOM File already")

        return _opened(path, wrap, meant)


class Unwrapping:
    """Takes Secure DICOM Files apart; policy: what is demanded of their signatures."""

    before = "unwrapped before"

    def __init__(self, opening: Opening, policy: SignaturePolicy) -> None:
        self._opening, self._policy = opening, policy

    def name(self, path: bytes) -> bytes:
        """The name without .p7m. In a tree a name without it stays, unless that is another's."""
        name, suffix = os.path.basename(path), SUFFIX.encode()
        if name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)]
        if os.path.lexists(path + suffix):
            raise OutputExistsError(f"{os.fsdecode(path)!r} and that with {SUFFIX} would get one "
                                    "name: unwrap one of them alone")
        return name

    def __call__(self, path: bytes | str) -> contextlib.AbstractContextManager[Made]:
        def unwrap(source: BinaryIO, target: BinaryIO, tell: Tell) -> tuple[str, dict[str, Any]]:
            found = secure_file.unwrap(source, target, self._opening, progress=tell)
            who = self._accepted(found)
            if not who:
                return "digest verified", {"signers": [], "trust": None}
            given = self._policy.check or self._policy.signers
            trust = "checked" if given else "not checked"
            return (f"signed by {'; '.join(who)}, signer {trust}",
                    {"signers": who, "trust": trust})

        def meant(source: BinaryIO) -> None:
            named = os.fsencode(path).endswith(SUFFIX.encode())  # else damage would hide it
            if not named and not secure_file.looks_wrapped(source):
                raise NotMeantError(f"{os.fsdecode(path)!r} is no Secure DICOM File")

        return _opened(path, unwrap, meant)

    def _accepted(self, signatures: list[Signature]) -> list[str]:
        """Who signed, of those who are taken; raises unless that is enough."""
        found, refused = [], None
        for signature in signatures:
            try:
                self._policy.accept(signature)
                found.append(signature.subject)
            except PolicyError as error:
                refused = refused or error
        if refused is not None and not found:
            raise refused
        if not found:
            self._policy.accept_unsigned()
        return found
