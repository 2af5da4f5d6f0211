"""What a card knows only as long as it has power, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509

from ..pki.names import Role
from .access import SecurityStatus
from .apdu import CommandApdu
from .profile import FILES, MF, File


class Refused(Exception):
    """A command is answered with this status word, and without data."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


@dataclass
class Volatile:
    """Everything that a reset takes away."""

    status: SecurityStatus = field(default_factory=SecurityStatus)
    folder: File = FILES[MF]
    file: File | None = None
    #: What MSE set: {(P1, template): (algorithm, reference)}.
    environment: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    #: Partners' certificates that were verified.
    verified: dict[Role, x509.Certificate] = field(default_factory=dict)
    challenge: bytes = b""
    digest: bytes = b""
    #: What GET RESPONSE will fetch, and the command whose further parts are awaited.
    pending: bytes = b""
    chain: CommandApdu | None = None

    def enter(self, folder: File) -> None:
        """Make a folder the current one: what was set up for the keys of another is gone."""
        if folder != self.folder:
            self.folder = folder
            self.environment, self.verified, self.digest = {}, {}, b""
        self.file = None
