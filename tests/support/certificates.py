"""Certificates for tests: chains, single ones with any flaw, and revocation lists.

    root = Maker.root()
    issuing = root.authority("Issuing CA")
    leaf = issuing.leaf("Anna Arzt", uses=["encryption"], role="physician")
    leaf.certificate, leaf.key

Keys come from a small store and are made once a process; times are relative to NOW.
"""

from __future__ import annotations

import datetime
import functools
import itertools

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa, x25519

from dicomcrypt.pki import names, profiles
from dicomcrypt.pki.authority import new_serial
from dicomcrypt.pki.checking import Trust

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
_KINDS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-kem-768": mlkem.MLKEM768PrivateKey.generate,
}


@functools.cache
def _key(kind: str, number: int):
    return _KINDS[kind]()


def key(kind: str = "p256", number: int = 0):
    """Key `number` of a kind, the same one each time."""
    return _key(kind, number)


_numbers = itertools.count(1)


def fresh_key(kind: str = "p256"):
    """A key that no other certificate of this process has."""
    return key(kind, next(_numbers))


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def unknown_extension(oid: str = "1.2.3.4.5") -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\x05\x00")


def build(
    subject, public, issuer, signer, *, begin=-DAY, end=365 * DAY, extensions=(), serial=None,
    identifiers=True, algorithm=None, **sign,
):
    """Sign a certificate. begin, end: timedeltas from NOW. extensions: pairs of value, critical."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer).public_key(public)
        .serial_number(serial or new_serial())
        .not_valid_before(NOW + begin).not_valid_after(NOW + end)
    )  # fmt: skip
    if identifiers:
        own = x509.SubjectKeyIdentifier.from_public_key(public)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(own, False).add_extension(above, False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(signer, algorithm or profiles.signing_hash(signer), **sign)


class Maker:
    """A certificate with its key, which can sign others if it is an authority's."""

    def __init__(self, certificate, secret, above=()) -> None:
        self.certificate, self.key = certificate, secret
        #: The makers above, nearest first.
        self.above = list(above)

    @classmethod
    def root(cls, name="Root CA", *, kind="p256", path_length=None, **options):
        secret = options.pop("key", None) or fresh_key(kind)
        subject = common_name(name)
        extensions = _authority(path_length)
        made = build(subject, secret.public_key(), subject, secret,
                     extensions=extensions, **{"end": 3650 * DAY, **options})
        return cls(made, secret)

    def authority(self, name="Issuing CA", *, kind="p256", path_length=None, usage=True,
                  basic=True, extra=(), **options):
        """An authority below this one; usage, basic: whether its extensions say so."""
        secret = options.pop("key", None) or fresh_key(kind)
        extensions = [*_authority(path_length, usage=usage, basic=basic), *extra]
        made = build(common_name(name), secret.public_key(), self.certificate.subject, self.key,
                     extensions=extensions, **{"end": 1825 * DAY, **options})
        return Maker(made, secret, [self, *self.above])

    def leaf(self, name="Anna Arzt", *, uses=("both",), role=None, kind="p256", extra=(),
             email=None, **options):
        """A holder's certificate, as `pki issue` makes them."""
        secret = options.pop("key", None) or key(kind)
        public = secret.public_key()
        extensions = [(x509.BasicConstraints(False, None), True)]
        if uses:
            extensions += profiles.use_extensions(public, uses)
        if email:
            extensions.append((x509.SubjectAlternativeName([x509.RFC822Name(email)]), False))
        if role:
            extensions.append((names.role_extension(names.Role(role)), False))
        made = build(common_name(name), public, self.certificate.subject, self.key,
                     extensions=[*extensions, *extra], **options)
        return Maker(made, secret, [self, *self.above])

    def crl(self, *revoked, begin=-DAY, end=30 * DAY, extensions=(), signer=None, number=1,
            algorithm=None):
        """A list by this authority. revoked: makers, serials, or (either, reason, since)."""
        secret = signer or self.key
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(NOW + begin).next_update(NOW + end)
            .add_extension(x509.CRLNumber(number), False)
        )  # fmt: skip
        for value, critical in extensions:
            builder = builder.add_extension(value, critical)
        for one in revoked:
            who, reason, since = one if isinstance(one, tuple) else (one, None, -DAY)
            serial = who if isinstance(who, int) else who.certificate.serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            entry = entry.revocation_date(NOW + since)
            if isinstance(reason, x509.ExtensionType):
                entry = entry.add_extension(reason, True)
            elif reason is not None:
                entry = entry.add_extension(x509.CRLReason(reason), False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(secret, algorithm or profiles.signing_hash(secret))

    def trust(self, *crls, **options) -> Trust:
        """Trust in this maker's root and what lies between."""
        *between, root = [m.certificate for m in self.above] or [self.certificate]
        return Trust((root,), tuple(between), crls, **options)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def key_pem(self, passphrase: str | None = None) -> bytes:
        from dicomcrypt.pki.sealing import private_pem

        return private_pem(self.key, passphrase)


def _authority(path_length, *, usage=True, basic=True):
    found = []
    if basic:
        found.append((x509.BasicConstraints(True, path_length), True))
    if usage:
        bits = {"key_cert_sign": usage is True, "crl_sign": True}
        found.append((profiles.key_usage(**bits), True))
    return found


def altered(certificate: x509.Certificate, at: int = -4) -> x509.Certificate:
    """The same certificate with one bit of its signature turned."""
    der = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    der[at] ^= 1
    return x509.load_der_x509_certificate(bytes(der))


def openssl_verdict(run, folder, leaf, trust, moment=None):
    """What `openssl verify` says of a chain: (whether it is good, its words)."""
    from dicomcrypt.pki.files import pem

    (folder / "leaf.pem").write_bytes(pem([leaf]))
    (folder / "roots.pem").write_bytes(pem(list(trust.roots)))
    words = ["openssl", "verify", "-CAfile", "roots.pem"]
    if trust.intermediates:
        (folder / "between.pem").write_bytes(pem(list(trust.intermediates)))
        words += ["-untrusted", "between.pem"]
    if trust.crls:
        crls = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in trust.crls)
        (folder / "crls.pem").write_bytes(crls)
        words += ["-crl_check", "-CRLfile", "crls.pem"]
    done = run([*words, "leaf.pem"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


__all__ = ["DAY", "NOW", "Maker", "altered", "build", "common_name", "fresh_key", "hashes", "key",
           "openssl_verdict", "unknown_extension"]
