"""Who the vectors are for, and how keys are sealed to them."""

import base64
import hashlib
import pathlib

import dcmx_rescue as rescue
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from vector_bytes import rand


class OtherPerson:
    """A recipient whose key is a PEM file of another program: types 2, 3 and 10 to 13."""

    curves = ((2, ec.SECP256R1(), hpke.KEM.P256), (12, ec.SECP384R1(), hpke.KEM.P384),
              (13, ec.SECP521R1(), hpke.KEM.P521))  # fmt: skip

    def __init__(self, name, kind):
        self.type, kem = kind, None
        secret = rand("identity " + name, 80)
        for number, curve, its_kem in self.curves:
            if kind == number:
                value = int.from_bytes(secret[: curve.key_size // 8], "big")
                private, kem = ec.derive_private_key(value, curve), its_kem
        if kind == 10:
            private, kem = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), hpke.KEM.MLKEM768
        if kind == 11:
            private, kem = MLKEM1024PrivateKey.from_seed_bytes(secret[:64]), hpke.KEM.MLKEM1024
        if kind == 3:
            pem = (pathlib.Path(__file__).parent / "rsa-2048.pem").read_bytes()
            private = load_pem_private_key(pem, None)
        self.private, self.sealing_key, self.suite = private, private.public_key(), None
        if kem is not None:
            self.suite = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        self.public = rescue.spki(self.sealing_key)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.identity = pem.decode()
        pem = self.sealing_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.recipient = pem.decode()


def seal_to(person, key, info):
    """The body of a stanza (D 4.2)."""
    if person.type == 3:
        oaep = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        return person.sealing_key.encrypt(key, oaep)
    return person.suite.encrypt(key, person.sealing_key, info=info)


class Person:
    """A recipient with both lines and what is needed to seal to it."""

    def __init__(self, name, algorithm):
        self.algorithm, private = algorithm, rand("identity " + name, 32)
        if algorithm == "x25519":
            key = X25519PrivateKey.from_private_bytes(private)
            kem, self.type = hpke.KEM.X25519, 1
            self.public = key.public_key().public_bytes_raw()
            self.sealing_key = key.public_key()
        else:
            raw = hashlib.shake_256(private).digest(96)
            mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:64])
            x25519 = X25519PrivateKey.from_private_bytes(raw[64:])
            kem, self.type = hpke.KEM.MLKEM768_X25519, 4
            self.public = mlkem.public_key().public_bytes_raw()
            self.public += x25519.public_key().public_bytes_raw()
            self.sealing_key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519).public_key()
        self.suite = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        self.identity = key_line("identity", algorithm, private)
        self.recipient = key_line("recipient", algorithm, self.public)


def key_line(kind, algorithm, raw):
    prefix = f"dcmx-{kind}-1:{algorithm}:"
    raw += hashlib.sha256(prefix.encode() + raw).digest()[:4]
    return prefix + base64.urlsafe_b64encode(raw).decode().rstrip("=")


PEOPLE = {
    "alice": Person("alice", "x25519"),
    "bob": Person("bob", "mlkem768-x25519"),
    "carol": Person("carol", "x25519"),
    "mallory": Person("mallory", "mlkem768-x25519"),
    "p256": OtherPerson("p256", 2),
    "rsa": OtherPerson("rsa", 3),
    "mlkem768": OtherPerson("mlkem768", 10),
    "mlkem1024": OtherPerson("mlkem1024", 11),
    "p384": OtherPerson("p384", 12),
    "p521": OtherPerson("p521", 13),
}
PASSPHRASE = "correct horse, na\u00efve caf\u00e9"  # noqa: S105
