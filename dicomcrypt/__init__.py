"""Encrypt DICOM files and archives, and give every byte back.

>>> import dicomcrypt as dc
>>> identity = dc.Identity.generate()
>>> blob = dc.encrypt(b"any file", recipients=[identity.recipient])
>>> dc.decrypt(blob, identities=[identity])
b'any file'

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import Any

from ._version import __version__

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
_MODULES = ("ciphers", "errors", "keys", "trees")

__all__ = ["Identity", "__version__", "ciphers", "errors", "keys", *_HOMES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)
    home = "keys.hybrid" if name == "Identity" else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'dicomcrypt' has no attribute {name!r}")
    wanted = "HybridIdentity" if name == "Identity" else name
    value = getattr(import_module(f".{home}", __name__), wanted)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
