"""Keys: who may read an object, each type behind `Recipient.wrap` and `Identity.unwrap`."""

from . import permission  # noqa: F401 - from now on the policy is asked
from .hybrid import HybridIdentity, HybridRecipient
from .keyfile import load_identities, load_recipients
from .passphrase import Passphrase
from .x25519 import X25519Identity, X25519Recipient

__all__ = [
    "HybridIdentity",
    "HybridRecipient",
    "Passphrase",
    "X25519Identity",
    "X25519Recipient",
    "load_identities",
    "load_recipients",
]
