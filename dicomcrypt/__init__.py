"""Encrypt DICOM files and archives, and give every byte back.

>>> import dicomcrypt as dc
>>> identity = dc.Identity.generate()
>>> blob = dc.encrypt(b"any file", recipients=[identity.recipient])
>>> dc.decrypt(blob, identities=[identity])
b'any file'

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:  # what `__getattr__` finds, for those who check types
    from . import ciphers as ciphers
    from . import errors as errors
    from . import keys as keys
    from . import trees as trees
    from .api import Batch as Batch
    from .api import ObjectWriter as ObjectWriter
    from .api import decrypt as decrypt
    from .api import decrypt_file as decrypt_file
    from .api import decrypt_into as decrypt_into
    from .api import encrypt as encrypt
    from .api import encrypt_file as encrypt_file
    from .api import encrypt_into as encrypt_into
    from .api import encrypted_size as encrypted_size
    from .api import inspect as inspect
    from .api import open as open
    from .api import rewrap as rewrap
    from .api import salvage as salvage
    from .container.header import BatchKeyCache as BatchKeyCache
    from .container.stanza import Identity as AnyIdentity
    from .container.stanza import Recipient as Recipient
    from .errors import DamagedError as DamagedError
    from .errors import DicomcryptError as DicomcryptError
    from .errors import FrameError as FrameError
    from .errors import KernelError as KernelError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import NoIdentityError as NoIdentityError
    from .errors import OutputExistsError as OutputExistsError
    from .errors import PolicyError as PolicyError
    from .errors import SourceChangedError as SourceChangedError
    from .errors import TokenError as TokenError
    from .errors import UnsafePathError as UnsafePathError
    from .errors import UnsignedError as UnsignedError
    from .errors import UsageError as UsageError
    from .keys.hybrid import HybridIdentity as HybridIdentity
    from .keys.hybrid import HybridIdentity as Identity
    from .keys.hybrid import HybridRecipient as HybridRecipient
    from .keys.keyfile import load_identities as load_identities
    from .keys.keyfile import load_recipients as load_recipients
    from .keys.passphrase import Passphrase as Passphrase
    from .keys.signing import Signer as Signer
    from .keys.signing import load_signer_keys as load_signer_keys
    from .keys.x25519 import X25519Identity as X25519Identity
    from .keys.x25519 import X25519Recipient as X25519Recipient
    from .objects.ranges import ObstoreSource as ObstoreSource

_HOMES = {
    "Batch": "api",
    "BatchKeyCache": "container.header",
    "ObjectWriter": "api",
    "ObstoreSource": "objects.ranges",
    "decrypt": "api",
    "decrypt_file": "api",
    "decrypt_into": "api",
    "encrypt": "api",
    "encrypt_file": "api",
    "encrypt_into": "api",
    "encrypted_size": "api",
    "inspect": "api",
    "open": "api",
    "rewrap": "api",
    "salvage": "api",
    "Recipient": "container.stanza",
    "HybridIdentity": "keys.hybrid",
    "HybridRecipient": "keys.hybrid",
    "X25519Identity": "keys.x25519",
    "X25519Recipient": "keys.x25519",
    "Passphrase": "keys.passphrase",
    "Signer": "keys.signing",
    "load_signer_keys": "keys.signing",
    "load_identities": "keys.keyfile",
    "load_recipients": "keys.keyfile",
    "DicomcryptError": "errors",
    "UsageError": "errors",
    "KernelError": "errors",
    "MissingExtraError": "errors",
    "NoIdentityError": "errors",
    "DamagedError": "errors",
    "UnsignedError": "errors",
    "PolicyError": "errors",
    "TokenError": "errors",
    "SourceChangedError": "errors",
    "OutputExistsError": "errors",
    "UnsafePathError": "errors",
    "FrameError": "errors",
}
#: What has another name where it comes from.
_RENAMED = {
    "AnyIdentity": ("container.stanza", "Identity"),
    "Identity": ("keys.hybrid", "HybridIdentity"),
}
_MODULES = ("ciphers", "errors", "keys", "trees")

__all__ = ["AnyIdentity", "Identity", "__version__", *_MODULES, *_HOMES]

if not TYPE_CHECKING:  # so that a name that is not there is an error to them

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in _MODULES:
            return import_module(f".{name}", __name__)
        home, there = _RENAMED.get(name, (_HOMES.get(name), name))
        if home is None:
            raise AttributeError(f"module 'dicomcrypt' has no attribute {name!r}")
        value = getattr(import_module(f".{home}", __name__), there)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
