"""Signing keys and certificates, each made once, and forgeries of signed objects."""

import datetime
import functools

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dicomcrypt.container.layout import PREFIX_SIZE, TRAILER_SIZE, pack_trailer, parse_prefix
from dicomcrypt.container.layout import parse_trailer as parse
from dicomcrypt.container.schedule import expand
from dicomcrypt.container.streams import CHUNK, StreamSealer
from dicomcrypt.keys.signing import Signer
from dicomcrypt.objects.buffers import GrowingSink

KINDS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "mldsa44": mldsa.MLDSA44PrivateKey.generate,
    "mldsa65": mldsa.MLDSA65PrivateKey.generate,
    "mldsa87": mldsa.MLDSA87PrivateKey.generate,
}
DAY = datetime.timedelta(days=1)


@functools.cache
def private_key(kind, name="Dr. A"):
    return KINDS[kind]()


def certificate(key, name="Dr. A", issuer=None, issuer_key=None, *, start=-1, end=30, usage=None):
    """A certificate by an issuer, or by itself; start, end: days from now."""
    now = datetime.datetime.now(datetime.UTC)

    def named(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer or name))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + start * DAY).not_valid_after(now + end * DAY)
    ca = x509.BasicConstraints(issuer is None, None)
    builder = builder.add_extension(ca, critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    by = issuer_key or key
    plain = isinstance(by, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return builder.sign(by, hashes.SHA256() if plain else None)


@functools.cache
def signer(kind="p256", name="Dr. A"):
    """A signer whose certificate a root signed that stands beside it."""
    root = private_key("p256", "Root")
    authority = certificate(root, "Root")
    key = private_key(kind, name)
    return Signer(key, certificate(key, name, "Root", root), [authority])


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def key_pem(key, passphrase=None):
    encryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def trailer(blob):
    """Where an object's streams and signatures lie."""
    return parse(blob[-TRAILER_SIZE:], parse_prefix(blob[:PREFIX_SIZE]), len(blob))


def stripped(blob):
    """The object without its signatures."""
    found = trailer(blob)
    size = found.signatures[0] + TRAILER_SIZE
    return blob[: found.signatures[0]] + pack_trailer(found.streams, size)


def with_signatures(blob, group):
    """The object with these bytes in the place of its signatures."""
    found = trailer(blob)
    start = found.signatures[0]
    size = start + len(group) + TRAILER_SIZE
    return blob[:start] + group + pack_trailer(found.streams, size, (start, len(group)))


def sealed_signatures(keys, plain):
    """The three signature streams of a plaintext, as a holder of the keys can make them."""
    sink = GrowingSink()
    for sid in (8, 9, 10):
        sealer = StreamSealer(sid, keys, sink)
        sealer.write(plain)
        sealer.finish()
    return sink.value()


def forged(blob, sid, keys, change):
    """The object with other content under the same header of a stream: whoever may read can make
    it. change: plaintext -> plaintext of the same length."""
    offset, length = trailer(blob).streams[sid]
    sealed = blob[offset : offset + length]
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + sealed[:24] + keys.context(sid)
    derived = expand(keys.input_key(sid), info, 76)
    assert derived[44:] == sealed[24:56]
    aead, nonce = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
    chunks = range(0, length - 56, CHUNK + 16)
    plain = b"".join(
        aead.decrypt((nonce ^ n).to_bytes(12, "big"), sealed[56 + at : 56 + at + CHUNK + 16], None)
        for n, at in enumerate(chunks)
    )
    other = change(plain)
    assert other != plain
    assert len(other) == len(plain)
    body = b"".join(
        aead.encrypt((nonce ^ n).to_bytes(12, "big"), other[CHUNK * n : CHUNK * (n + 1)], None)
        for n in range(len(chunks))
    )
    return blob[:offset] + sealed[:56] + body + blob[offset + length :]
