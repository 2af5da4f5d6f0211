"""Wraps and unwraps of each key type: what an object alone costs, and a job once a recipient."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x25519

from dicomcrypt import HybridIdentity, Passphrase
from dicomcrypt.keys.spki import identity_of

MAKERS = {
    "X25519": x25519.X25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "RSA-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ML-KEM-768": mlkem.MLKEM768PrivateKey.generate,
    "ML-KEM-1024": mlkem.MLKEM1024PrivateKey.generate,
    "ML-KEM-768+X25519": None,
}
KEY, CORE = os.urandom(32), os.urandom(64)


def record(measure, name, recipient, identity, rounds):
    stanza = recipient.wrap(KEY, 1, CORE)
    for verb, work in (("wrap", lambda: recipient.wrap(KEY, 1, CORE)),
                       ("unwrap", lambda: identity.unwrap(stanza, CORE))):
        row = measure(f"{verb} {name}", work, rounds=rounds)
        row.note = f"{1 / row.seconds:,.0f} a second, {12 + len(stanza.body)} bytes in the header"
    assert identity.unwrap(stanza, CORE) == KEY
    assert identity.unwrap(recipient.wrap(KEY, 4, CORE), CORE) == KEY
    assert identity.unwrap(stanza._replace(hint=b"somebody"), CORE) is None


@pytest.mark.parametrize("name", MAKERS)
def test_public_key(measure, name):
    maker = MAKERS[name]
    identity = HybridIdentity.generate() if maker is None else identity_of(maker())
    record(measure, name, identity.recipient, identity, 500)


@pytest.mark.parametrize("kdf", ["argon2id", "scrypt"])
def test_passphrase(measure, kdf):
    """With its default costs, which are meant to be high; each stanza has a salt of its own."""
    stanza = Passphrase("correct horse", kdf=kdf).wrap(KEY, 1, CORE)

    def unwrap():
        return Passphrase("correct horse").unwrap(stanza, CORE)

    row = measure(f"unwrap passphrase ({kdf})", unwrap, rounds=5)
    row.note = f"{1 / row.seconds:,.1f} a second"
    assert unwrap() == KEY
    assert Passphrase("wrong horse").unwrap(stanza, CORE) is None
