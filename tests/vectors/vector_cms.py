"""CMS (D 10), DER by hand."""

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector_bytes import rand


def der(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 | len(length)]) + length + content


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = bytes([40 * first + second])
    for number in rest:
        digits = [number & 127]
        while number := number >> 7:
            digits.insert(0, 128 | number & 127)
        out += bytes(digits)
    return der(6, out)


class Signer:
    """A key, deterministic signatures, and a certificate signed by itself."""

    def __init__(self, name, kind):
        raw = rand("signer " + name, 32)
        if kind == "ed25519":
            self.key = Ed25519PrivateKey.from_private_bytes(raw)
            self.digest, digest_oid, sign_oid = hashlib.sha512, "3", "1.3.101.112"
            self.sign, how, extra = self.key.sign, None, {}
        else:
            curve, self.digest, digest_oid, sign_oid, hash_ = {
                "p256": (ec.SECP256R1(), hashlib.sha256, "1", "2", hashes.SHA256()),
                "p384": (ec.SECP384R1(), hashlib.sha384, "2", "3", hashes.SHA384()),
            }[kind]
            sign_oid = "1.2.840.10045.4.3." + sign_oid
            self.key = ec.derive_private_key(int.from_bytes(raw, "big") >> 1, curve)
            deterministic = ec.ECDSA(hash_, deterministic_signing=True)
            self.sign = lambda data: self.key.sign(data, deterministic)
            how, extra = hash_, {"ecdsa_deterministic": True}
        self.digest_algorithm = der(0x30, oid("2.16.840.1.101.3.4.2." + digest_oid))
        self.algorithm = der(0x30, oid(sign_oid))
        self.serial = int.from_bytes(rand("serial " + name, 16), "big") >> 1
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.issuer = subject.public_bytes()
        builder = x509.CertificateBuilder(subject, subject, self.key.public_key(), self.serial)
        builder = builder.not_valid_before(datetime.datetime(2026, 1, 1))
        builder = builder.not_valid_after(datetime.datetime(2126, 1, 1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        certificate = builder.sign(self.key, how, **extra)
        self.certificate = certificate.public_bytes(serialization.Encoding.DER)

    def cms(self, manifest, change=lambda name, value: value):
        """RFC 5652; `change` edits what it is made of."""
        data = oid("1.2.840.113549.1.7.1")
        ess = der(0x30, der(0x30, der(0x30, der(4, hashlib.sha256(self.certificate).digest()))))
        attributes = [
            der(0x30, oid("1.2.840.113549.1.9.3"), der(0x31, data)),
            der(
                0x30,
                oid("1.2.840.113549.1.9.4"),
                der(0x31, der(4, self.digest(manifest).digest())),
            ),
            der(0x30, oid("1.2.840.113549.1.9.5"), der(0x31, der(0x17, b"261101120000Z"))),
            der(0x30, oid("1.2.840.113549.1.9.16.2.47"), der(0x31, ess)),
        ]
        attributes = b"".join(change("attributes", sorted(attributes)))
        signature = change("signature", self.sign(der(0x31, attributes)))
        serial = self.serial.to_bytes(self.serial.bit_length() // 8 + 1, "big")
        signer = der(
            0x30,
            der(2, b"\1"),
            der(0x30, self.issuer, der(2, serial)),
            self.digest_algorithm,
            der(0xA0, attributes),
            self.algorithm,
            der(4, signature),
            *change("unsigned", []),
        )
        signed = der(
            0x30,
            der(2, b"\1"),
            der(0x31, self.digest_algorithm),
            der(0x30, data, *change("content", [])),
            der(0xA0, *change("certificates", [self.certificate])),
            der(0x31, *change("signers", [signer])),
        )
        return der(0x30, oid("1.2.840.113549.1.7.2"), der(0xA0, signed))


def changed(wanted, edit):
    """A `change` of `Signer.cms` that edits one thing."""
    return lambda name, value: edit(value) if name == wanted else value
