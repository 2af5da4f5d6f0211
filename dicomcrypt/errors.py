"""Everything that dicomcrypt raises on purpose.

    DicomcryptError              exit status
    ├── UsageError               2  the call or the options cannot be meant
    │   ├── AlreadyEncryptedError   the input is a DCMX object
    │   ├── NotMeantError           the input is none that the command is for
    │   └── UnknownKeyError         the key table has no such entry
    ├── KernelError              2  the demanded kernel cannot run here
    ├── MissingExtraError        2  an optional library is not installed
    ├── NoIdentityError          3  no identity fits, or the passphrase is wrong
    │   └── ThrottledError          too many wrong passwords: wait
    ├── DamagedError             4  damaged, forged, or not a DCMX object at all
    │   ├── UnsignedError        4  a signature is required, and the object has none
    │   └── MissingBlobError        the vault's store lacks what it should hold
    ├── PolicyError              5  refused by policy
    │   └── CertificateRefusedError  a certificate, a list of revoked ones, or their issuer;
    │                            4 for one that is malformed
    ├── TokenError               6  a card, token or its module cannot, or does not want to
    ├── SourceChangedError       1  the file changed while it was read
    ├── OutputExistsError        1  the output exists and --force was not given
    ├── WorkerLostError          1  a worker process was killed
    ├── JobBusyError             1  another job writes to this output
    ├── DiskFullError            1  no room is left where the output goes
    ├── UnsafePathError          1  a path or link would leave the output tree
    ├── DirectoryError           1  no directory answered, or none has what was asked for
    └── FrameError               1  the object has no such frame, or it cannot be shown

A message is one line, in lower case: what failed, on which file, what to do next. No message
contains a key, a passphrase or patient data.
"""

from __future__ import annotations


class DicomcryptError(Exception):
    """Base of all errors of this package; `exit_status` is what the command line ends with."""

    exit_status = 1


class UsageError(DicomcryptError, ValueError):
    """The call or the options cannot be meant."""

    exit_status = 2


class AlreadyEncryptedError(UsageError):
    """The input is a DCMX object already."""


class NotMeantError(UsageError):
    """The input is none that the command is for: trees leave it out."""


class UnknownKeyError(UsageError, LookupError):
    """The key table has no such entry."""


class KernelError(DicomcryptError):
    """The kernel that `DICOMCRYPT_KERNEL` demands cannot run here."""

    exit_status = 2


class MissingExtraError(DicomcryptError, ImportError):
    """An optional library is not installed; the message names the extra."""

    exit_status = 2


class NoIdentityError(DicomcryptError):
    """No identity fits, a passphrase is wrong, or its scope does not reach that far."""

    exit_status = 3


class ThrottledError(NoIdentityError):
    """Too many wrong passwords; `seconds` tells how long to wait."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class DamagedError(DicomcryptError):
    """The object is damaged, forged, cut short, or not a DCMX object."""

    exit_status = 4


class UnsignedError(DamagedError):
    """A signature is required, and the object has none: it may have been taken away."""


class MissingBlobError(DamagedError):
    """The vault's store lacks what it should hold."""


class PolicyError(DicomcryptError):
    """Refused by policy."""

    exit_status = 5


class CertificateRefusedError(PolicyError):
    """A certificate is not taken; `reason` is one of the words of docs/pki.md."""

    def __init__(self, message: str, reason: str = "not-conforming") -> None:
        super().__init__(message)
        self.reason = reason
        if reason == "malformed":
            self.exit_status = DamagedError.exit_status


class TokenError(DicomcryptError):
    """A card, token, reader or PKCS #11 module failed, or cannot do what it was asked for."""

    exit_status = 6


class SourceChangedError(DicomcryptError):
    """The input changed while it was read; encrypt it again."""


class OutputExistsError(DicomcryptError, FileExistsError):
    """The output exists; it is overwritten only with force."""


class WorkerLostError(DicomcryptError):
    """A worker process was killed; the job can be resumed."""


class JobBusyError(DicomcryptError):
    """Another job writes to this output."""


class DiskFullError(DicomcryptError):
    """No room is left where the output goes; the job can be resumed."""


class UnsafePathError(DicomcryptError):
    """A stored path or link would leave the output tree."""


class FrameError(DicomcryptError):
    """The object has no such frame, or the frame cannot be shown."""


class DirectoryError(DicomcryptError):
    """No directory answered, or none has what was asked for; the message names each of them."""
