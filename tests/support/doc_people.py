"""The people whom the pages speak of, with the files that they have before a page begins."""

from __future__ import annotations

import authority as ca
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from doc_commands import Scene

import dicomcrypt as dc
from dicomcrypt.keys import keyfile


def keygen(scene: Scene, *names: str) -> None:
    """Make NAME.key and NAME.pub, as `dicomcrypt keygen` does."""
    for name in names:
        identity = dc.Identity.generate()
        scene.write(f"{name}.key", keyfile.identity_text(identity), 0o600)
        scene.write(f"{name}.pub", keyfile.recipient_text(identity.recipient))


def certify(scene: Scene, authority: ca.Authority, name: str, passphrase: str = "") -> None:
    """Make NAME.crt, NAME.pem (key and certificate), and NAME.p12 under a passphrase."""
    certificate, key = authority.issue(name.title(), email=f"{name}@hospital.example",
                                       with_key=True)
    scene.write(f"{name}.crt", ca.pem(certificate))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    scene.write(f"{name}.pem", private + ca.pem(certificate), 0o600)
    sealing = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase \
        else serialization.NoEncryption()
    scene.write(f"{name}.p12", pkcs12.serialize_key_and_certificates(
        name.encode(), key, certificate, None, sealing), 0o600)
