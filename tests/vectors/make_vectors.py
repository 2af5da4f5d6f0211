"""Writes the test vectors of DCMX version 1 and of the block layer into a folder.

    python tests/vectors/make_vectors.py FOLDER

An encoder written from docs/spec/dcmx-v1.md ("D") and docs/spec/block-layer-v1.md ("B") alone;
it shares key derivations with tools/dcmx_rescue.py and nothing with the package. Keys and salts
come from SHAKE256 of a label, so that everything but the HPKE stanzas (which the library
randomises) is the same in every run. The vectors are the committed files; a new run gives
equivalent ones, and for that reason never writes over them.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import struct
import sys
import unicodedata

from cryptography import x509
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import dcmx_rescue as rescue

TAGS, PIXELS, TAIL, OPAQUE = 1, 2, 3, 4
METHOD_NAMES = ("aes-transposition", "vigenere", "multilevel")
ORIGIN = "synthetic; made by tests/vectors/make_vectors.py"


def rand(name, size):
    """Bytes for `name`: SHAKE256 of it."""
    return hashlib.shake_256(b"dcmx vectors 1: " + name.encode()).digest(size)


def period(size):
    return bytes(i % 251 for i in range(size))


def cbor_encode(value):
    """Deterministic encoding (RFC 8949 section 4.2.1) of the types that an index may hold."""

    def head(major, number):
        if number < 24:
            return bytes([major << 5 | number])
        size = next(s for s in (1, 2, 4, 8) if number < 1 << 8 * s)
        return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")

    if type(value) is int:
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if type(value) is bytes:
        return head(2, len(value)) + value
    if type(value) is str:
        raw = value.encode("utf-8")
        return head(3, len(raw)) + raw
    if type(value) is list:
        return head(4, len(value)) + b"".join([cbor_encode(v) for v in value])
    pairs = [cbor_encode(k) + cbor_encode(value[k]) for k in sorted(value)]
    return head(5, len(value)) + b"".join(pairs)


# ---- The block layer forwards, byte by byte as B writes it ----------------------------------


class Forward:
    def __init__(self, key):
        self.layer = rescue.BlockLayer(key)  # for its tables and keystreams

    def transpose(self, unit, block, data):
        layer, out = self.layer, bytearray(len(data))
        rotations = layer.keystream(unit, block, 3, 2 * (len(data) // 16384 + 1))
        for t, start in enumerate(range(0, len(data), 16384)):
            tile = data[start : start + 16384]
            cells, rest = len(tile) // 16, len(tile) % 16
            pi = [v for v in layer.pi if v < cells]
            m0 = [v for v in layer.mask[0] if v < rest]
            rot = int.from_bytes(rotations[2 * t : 2 * t + 2], "little") % cells if cells else 0
            for j in range(cells):
                source = start + 16 * pi[(j + rot) % cells]
                for b, m in enumerate(layer.mask[j % 16]):
                    out[start + 16 * j + b] = data[source + m]
            for b in range(rest):
                out[start + 16 * cells + b] = data[start + 16 * cells + m0[b]]
        return bytes(out)

    def block(self, unit, number, method, data):
        if not data:
            return data
        keystream = self.layer.keystream
        if method == 1:
            shift = keystream(unit, number, 2, len(data))
            return bytes((p + k) & 255 for p, k in zip(data, shift, strict=True))
        data = self.transpose(unit, number, data)
        mask = keystream(unit, number, 1, len(data))
        data = bytes(p ^ k for p, k in zip(data, mask, strict=True))
        if method == 0:
            return data
        shift = [max(k, 1) for k in keystream(unit, number, 2, len(data))]
        if unit % 2:
            return bytes((k - p) & 255 for p, k in zip(data, shift, strict=True))
        return bytes((p + k) & 255 for p, k in zip(data, shift, strict=True))


def frame_positions(size, rows, width, split):
    """B 1: positions of the four blocks of a frame unit that is cut to `size` bytes."""
    blocks = [[], [], [], []]
    for at in range(size):
        row, column = divmod(at, width)
        blocks[2 * (row >= (rows + 1) // 2) + (column >= split)].append(at)
    return blocks


def transform(key, payload, runs, forced=None, sample=1):
    """The transformed payload and the methods. `forced` is None (randomized), one method, or a
    byte of four methods as B 2 packs them, for all units."""
    forward, out, methods, number = Forward(key), bytearray(payload), [], 0
    for run in runs:
        step = 4 << 20 if len(run) == 2 else run[2] * run[3]
        for start in range(run[0], run[0] + run[1], step):
            size = min(step, run[0] + run[1] - start)
            if len(run) == 2:
                blocks = [range(size * k // 4, size * (k + 1) // 4) for k in range(4)]
            else:
                blocks = frame_positions(size, *run[2:])
            packed = 0
            for k, positions in enumerate(blocks):
                data = bytes([payload[start + i] for i in positions])
                first = data[: 1 if len(run) == 2 else sample]
                method = sum(first) % 3
                if forced is not None:
                    method = forced[1] >> 2 * k & 3 if isinstance(forced, tuple) else forced
                packed |= method << 2 * k
                for i, value in zip(positions, forward.block(number, k, method, data), strict=True):
                    out[start + i] = value
            methods.append(packed)
            number += 1
    return bytes(out), bytes(methods)


# ---- Keys ------------------------------------------------------------------------------------


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


# ---- The object ------------------------------------------------------------------------------


def stanza(kind, scope, hint, body):
    return struct.pack("<BBH", kind, scope, len(body)) + hint + body


class Part:
    """A stream before it is sealed; `size` is the payload's, `index` what its index adds."""

    def __init__(self, payload, runs=None, method="none", sample=1, **index):
        self.payload, self.runs, self.sample = payload, runs, sample
        self.method = method  # none, None for randomized, a number, or ("mixed", packed byte)
        self.index = {int(k[1:]): v for k, v in index.items()}


def linear(payload, method=None, **index):
    """A stream in one linear run, as a writer does it; no run over an empty payload."""
    runs = [[0, len(payload)]] if payload else None
    return Part(payload, runs, method if payload else "none", **index)


class Writer:
    """Makes one object. Vectors that break a rule change what lies between the steps:
    `parts`, then `plain` by `edit_plain`, then `sealed`, then `bytes` of the whole file."""

    def __init__(self, name, parts, flags=0, capacity=None, generation=2, closing=None):
        self.name, self.parts, self.flags = name, parts, flags
        self.capacity, self.generation, self.closing = capacity, generation, closing or {}
        self.core = rescue.MAGIC + struct.pack("<BBHI", 1, 1, flags, 0)
        self.core += rand(name + " object id", 16) + rand(name + " salt", 32)
        self.object_key = rand(name + " object key", 32)
        self.order, self.gap = (TAGS, PIXELS, OPAQUE, TAIL), 0
        self.stanzas = []
        self.index_edits, self.plain_edits, self.sealed_edits = {}, {}, {}
        self.signer, self.signature_edits = None, {}
        self.present = [i for i in (TAGS, PIXELS, TAIL, OPAQUE) if i in parts]

    # -- keys and stanzas (D 3, 4.2, 5)

    def scope_key(self, scope):
        return rescue.scope_keys(self.object_key, self.core)[scope]

    def wrapped(self, scope):
        return self.object_key if scope == 1 else self.scope_key(scope)

    def info(self, kind, scope, binding=None):
        return b"dcmx/1 stanza\0" + bytes([kind, scope]) + (binding or self.core)

    def to(self, name, scope=1, key=None, binding=None):
        person = PEOPLE[name]
        info = self.info(person.type, scope, binding)
        body = seal_to(person, key or self.wrapped(scope), info)
        hint = hashlib.sha256(person.public).digest()[:8]
        self.stanzas.append(stanza(person.type, scope, hint, body))
        return self

    def passphrase(self, kind, scope=1, text=PASSPHRASE, parameters=None, key=None, binding=None):
        secret = unicodedata.normalize("NFC", text).encode()
        salt = rand(f"{self.name} kdf {kind} {scope}", 16)
        if kind == 5:
            log2n = (parameters or (15,))[0]
            output = Scrypt(salt, 32, 1 << log2n, 8, 1).derive(secret)
            head = bytes([log2n])
        else:
            memory, passes, lanes = parameters or (64, 1, 1)
            output = Argon2id(
                salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory
            ).derive(secret)
            head = struct.pack("<IBB", memory, passes, lanes)
        raw = rescue.expand(output, self.info(kind, scope, binding), 64)
        body = head + salt + raw[32:] + aes_key_wrap(raw[:32], key or self.wrapped(scope))
        self.stanzas.append(stanza(kind, scope, bytes(8), body))
        return self

    def batch(self, scope, *names, job="job", passphrase=None):
        """D 5: the scope 4 stanzas of a job and this object's type 7 stanza."""
        batch_key, batch_id = rand(f"{job} key {scope}", 32), rand(f"{job} id {scope}", 16)
        for name in names:
            self.to(name, 4, batch_key, batch_id)
        if passphrase:
            self.passphrase(passphrase, 4, key=batch_key, binding=batch_id)
        info = b"dcmx/1 kek\0" + bytes([scope]) + batch_id + self.core
        kek = rescue.expand(batch_key, info, 32)
        body = batch_id + aes_key_wrap(kek, self.wrapped(scope))
        self.stanzas.append(stanza(7, scope, bytes(8), body))
        return self

    # -- streams (D 2, 6)

    def seal(self):
        """Fills `self.plain` and `self.sealed`."""
        keys = {}
        for scope in (1, 2, 3):
            keys.update(rescue.keys_of_scope(scope, self.scope_key(scope), self.core)[1])
        lengths = {i: len(self.parts[i].payload) for i in self.present}
        last = TAIL if TAIL in self.parts else OPAQUE
        self.plain, self.sealed, extra = {}, {}, {}
        for number in self.present:
            part = self.parts[number]
            payload, index = part.payload, {0: number, 1: [number, lengths[number]]}
            if part.method != "none":
                payload, methods = transform(
                    keys[number][1], payload, part.runs, part.method, part.sample
                )
                index |= {2: part.runs, 3: methods}
            index |= part.index
            if number == last:
                index[1] = [v for i in sorted(lengths) for v in (i, lengths[i])]
                index |= {7: sum(lengths.values())} | self.closing | extra
            if number == TAGS:
                extra = {12: index[2], 13: index[3]} if 2 in index else {}
                self.plain[number] = payload
            else:
                index = self.index_edits.get(number, lambda v: v)(index)
                raw = index if isinstance(index, bytes) else cbor_encode(index)
                self.plain[number] = payload + raw + struct.pack("<I", len(raw))
            edit = self.plain_edits.get(number, lambda v: v)
            self.plain[number] = edit(self.plain[number])
            sealed = self.chunked(number, keys[number][0], self.plain[number])
            self.sealed[number] = self.sealed_edits.get(number, lambda v: v)(sealed)

    def chunked(self, number, key, plain):
        salt = rand(f"{self.name} stream salt {number}", 24)
        context = b"dcmx/1 stream\0" + bytes([number]) + self.core
        info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
        raw = rescue.expand(key, info, 76)
        aead, base = AESGCM(raw[:32]), int.from_bytes(raw[32:44], "big")
        out = [salt, raw[44:]]
        for i in range(len(plain) // 16384 + 1):
            nonce = (base ^ i).to_bytes(12, "big")
            out.append(aead.encrypt(nonce, plain[16384 * i : 16384 * (i + 1)], None))
        return b"".join(out)

    # -- signatures (D 10)

    def signed(self, signer, **edits):
        """Has the object signed; edits change the manifest, the leaves, the CMS, or one of the
        three plaintexts (by number), before they are sealed."""
        self.signer, self.signature_edits = signer, edits
        return self

    def signatures(self):
        edit = lambda name, value: self.signature_edits.get(name, lambda v: v)(value)  # noqa: E731
        manifest, joined = self.core, b""
        for number in sorted(self.sealed):
            data = self.sealed[number]
            pieces = [data[i : i + (1 << 20)] for i in range(0, len(data), 1 << 20)]
            leaves = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
            root = hashlib.sha256(leaves).digest()
            manifest += struct.pack("<BQ", number, len(data)) + root
            joined += leaves
        manifest = edit("manifest", manifest)
        plain = manifest + edit("leaves", joined) + edit("cms", self.signer.cms(manifest))
        out = b""
        for number, scope in ((8, 2), (9, 3), (10, 1)):
            info = b"dcmx/1 signature\0" + bytes([scope]) + self.core
            key = rescue.expand(self.scope_key(scope), info, 32)
            out += self.chunked(number, key, edit(f"stream_{number}", plain))
        return out

    # -- header (D 4)

    def default_capacity(self):
        used = 12 + sum(map(len, self.stanzas))
        more = 1180 if any(s[0] not in (5, 6, 7) for s in self.stanzas) else 0
        return -(-(used + 96 + more) // 512) * 512

    def slot(self, generation=None, stanzas=None, used_offset=0, padding=b""):
        generation = generation or self.generation
        stanzas = self.stanzas if stanzas is None else stanzas
        capacity, body = self.capacity, b"".join(stanzas)
        used = 12 + len(body)
        head = struct.pack("<IIHH", generation, used + used_offset, len(stanzas), 0) + body
        signed = self.core + struct.pack("<II", capacity, capacity ^ 0xFFFFFFFF) + head
        macs = []
        for scope in (1, 2, 3):
            mac_key = rescue.keys_of_scope(scope, self.scope_key(scope), self.core)[0]
            mac = HMAC(mac_key, hashes.SHA512_256())
            mac.update(signed)
            macs.append(mac.finalize())
        room = capacity - 96 - len(head)
        assert room >= 0
        return head + padding + bytes(room - len(padding)) + b"".join(macs)

    def build(self, slots=None, trailer=None, streams=True):
        """The object. `slots` makes both slots; `trailer` edits its eleven numbers."""
        self.capacity = self.capacity or self.default_capacity()
        if streams:
            self.seal()
        if slots is None:
            first = self.slot()
            empty = bytes(self.capacity)
            both = [first, empty] if self.generation % 2 == 0 else [empty, first]
        else:
            both = slots(self)
        out = self.core + struct.pack("<II", self.capacity, self.capacity ^ 0xFFFFFFFF)
        out += b"".join(both)
        numbers = [0] * 11
        for i in self.order:
            if i in self.sealed:
                out += bytes(self.gap)
                numbers[2 * i - 2 : 2 * i] = [len(out), len(self.sealed[i])]
                out += self.sealed[i]
        if self.signer:
            signatures = self.signatures()
            numbers[8:10] = len(out), len(signatures)
            out += signatures
        numbers[10] = len(out) + 96
        if trailer:
            numbers = trailer(list(numbers))
        return out + struct.pack("<11Q", *numbers) + b"DCMXEND1"

    def original(self, *streams):
        return b"".join(self.parts[i].payload for i in streams or (1, 2, 4, 3) if i in self.parts)


def flip(data, at):
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


# ---- Synthetic DICOM -------------------------------------------------------------------------


def element(group, number, vr, value):
    if vr in ("OB", "OW", "SQ", "UN"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    value += b" " * (len(value) % 2) if vr not in ("UI",) else b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def dicom_tags(
    syntax, rows, columns, bits, samples=1, planar=0, frames=1, photometric="MONOCHROME2"
):
    meta = element(2, 0x10, "UI", syntax.encode())
    head = bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    number = lambda n, v: element(0x28, n, "US", struct.pack("<H", v))  # noqa: E731
    head += element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.7")
    head += element(8, 0x18, "UI", b"2.25.1234567890")
    head += element(0x10, 0x10, "PN", b"Vector^Test")
    head += number(2, samples) + element(0x28, 4, "CS", photometric.encode())
    head += number(6, planar) if samples > 1 else b""
    head += element(0x28, 8, "IS", str(frames).encode()) if frames > 1 else b""
    head += number(0x10, rows) + number(0x11, columns) + number(0x100, bits)
    return head + number(0x101, bits) + number(0x102, bits - 1) + number(0x103, 0)


EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
TRAILING = element(0xFFFC, 0xFFFC, "OB", bytes(10))


def native(name, rows, columns, bits=8, samples=1, planar=0, frames=1, method=None, pad=0, cut=0):
    """TAGS, PIXELS and TAIL of an uncompressed image; `cut` bytes are missing at its end."""
    width = bits // 8
    plane = rows * columns * width * samples
    value = rand(name + " pixels", plane * frames) + bytes(pad)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    tags = dicom_tags(EXPLICIT, rows, columns, bits, samples, planar, frames, photometric)
    tags += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW" if bits > 8 else b"OB", 0, len(value))
    value = value[: len(value) - cut]
    unit_rows = rows * samples if planar else rows
    bytes_per_pixel = width if planar else width * samples
    run = [
        0,
        min(plane * frames, len(value)),
        unit_rows,
        columns * bytes_per_pixel,
        (columns + 1) // 2 * bytes_per_pixel,
    ]
    facts = [rows, columns, samples, bits, bits, bits - 1, 0, planar, frames, photometric]
    pixels = Part(
        value,
        None if method == "none" else [run],
        method,
        width,
        k5=EXPLICIT,
        k6=[*facts, 0x7FE00010, 0],
        k14=plane * 8,
    )
    tail = b"" if cut else TRAILING
    simple = "none" if method == "none" else None
    return {TAGS: linear(tags, simple), PIXELS: pixels, TAIL: linear(tail, simple)}


def encapsulated(name, sizes, method=None, per_frame=1):
    """JPEG-like fragments (random bytes) with an empty offset table and a frame table."""
    tags = dicom_tags(JPEG, 16, 16, 8, frames=len(sizes) // per_frame)
    tags += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    value, runs, items = struct.pack("<HHI", 0xFFFE, 0xE000, 0), [], []
    for i, size in enumerate(sizes):
        items.append((len(value), len(value) + 8 + size))
        runs += [[len(value) + 8, size]] if size else []
        value += struct.pack("<HHI", 0xFFFE, 0xE000, size) + rand(f"{name} fragment {i}", size)
    value += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    frames = b""
    for i in range(0, len(items), per_frame):
        start, end = items[i][0], items[i + per_frame - 1][1]
        frames += struct.pack("<QQ", start, end - start)
    facts = [16, 16, 1, 8, 8, 7, 0, 0, len(sizes) // per_frame, "MONOCHROME2", 0x7FE00010, 0]
    pixels = Part(value, runs, method, k4=frames, k5=JPEG, k6=facts)
    return {TAGS: linear(tags), PIXELS: pixels, TAIL: linear(TRAILING)}


def text(size=100, method=None):
    line = b"This is not DICOM, and comes back all the same.\n"
    return {OPAQUE: linear((line * (size // len(line) + 1))[:size], method)}


# ---- CMS (D 10), DER by hand ----------------------------------------------------------------


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


# ---- The vectors -----------------------------------------------------------------------------


class Collection:
    def __init__(self, folder):
        self.folder, self.entries = folder, []
        (folder / "objects").mkdir()

    def save(self, name, data):
        file = f"objects/{name}.dcmx"
        (self.folder / file).write_bytes(data)
        return file

    def good(self, file, plaintext, keys=("alice",), scope="full", part=None, note="", **more):
        self.entries.append(
            {
                "file": file,
                "identities": list(keys),
                "passphrase": None,
                "part": part,
                "exit": 0,
                "failure": None,
                "scope": scope,
                "size": len(plaintext),
                "sha256": hashlib.sha256(plaintext).hexdigest(),
                "what": note,
                "origin": ORIGIN,
            }
            | more
        )

    def bad(self, file, failure, note, keys=("alice",), part=None, **more):
        status = rescue.EXIT_STATUS[failure]
        self.entries.append(
            {
                "file": file,
                "identities": list(keys),
                "passphrase": None,
                "part": part,
                "exit": status,
                "failure": failure,
                "scope": None,
                "size": None,
                "sha256": None,
                "what": note,
                "origin": ORIGIN,
            }
            | more
        )


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def good_objects(out):
    def simple(name, parts, note, keys=("alice",), /, writer=None, passphrase=None, **more):
        w = writer or Writer(name, parts).to("alice")
        file = out.save(name, w.build())
        out.good(file, w.original(), keys, note=note, passphrase=passphrase, **more)
        return w, file

    simple("empty", {OPAQUE: Part(b"")}, "an empty file: OPAQUE with an empty payload")
    simple("text", text(), "a text file in OPAQUE, one linear run, randomized")
    simple("text-none", text(100, "none"), "method none: no runs")
    for number, name in enumerate(METHOD_NAMES):
        simple("text-" + name, text(300, number), f"all blocks forced to {name}")

    simple("native-8", native("n8", 16, 16), "8 bits, one frame, TAIL with trailing padding")
    simple("native-16", native("n16", 32, 20, 16), "16 bits allocated")
    simple("native-odd", native("odd", 13, 7, pad=1), "13x7, 8 bits, with the pad byte")
    simple("native-frames", native("fr", 13, 7, 16, frames=5), "five frames of 13x7, 16 bits")
    simple("native-rgb", native("rgb", 9, 11, samples=3, pad=1), "colour by pixel, odd size")
    simple("native-rgb-planar", native("rgbp", 9, 11, samples=3, planar=1, pad=1), "planes")
    simple("native-cut", native("cut", 13, 7, frames=3, cut=50), "cut inside its last frame")
    simple("native-one", native("one", 1, 1, pad=1), "one pixel: three of four blocks are empty")
    simple(
        "native-large",
        native("lg", 150, 160, 16),
        "48 kB: three chunks, blocks of less than one tile",
    )
    simple("native-tiles", native("tl", 300, 250, method=2), "blocks of two tiles, multilevel")
    for number, name in enumerate(METHOD_NAMES):
        parts = native("f" + name, 20, 14, 16, frames=3, method=number)
        simple("native-" + name, parts, f"native 16 bits, all blocks forced to {name}")
    simple("native-none", native("none", 20, 14, method="none"), "native, method none")
    mixed = native("mixed", 64, 64, method=("mixed", 0b01_10_00_01))
    simple("native-mixed", mixed, "forced methods 1, 0, 2, 1 for blocks 0 to 3")
    simple("encapsulated", encapsulated("e", [50, 0, 333, 1, 20]), "fragments and frame table")
    two = encapsulated("e2", [40, 60, 80, 20], per_frame=2)
    simple("encapsulated-two", two, "two fragments a frame")
    tags_only = {TAGS: linear(dicom_tags(EXPLICIT, 1, 1, 8)), TAIL: Part(b"")}
    simple("no-pixels", tags_only, "DICOM without pixel data: TAGS and an empty TAIL")
    broken = {
        TAGS: linear(dicom_tags(EXPLICIT, 1, 1, 8)),
        OPAQUE: linear(rand("broken", 99)),
        TAIL: Part(b""),
    }
    simple("broken-after-tags", broken, "broken after TAGS: the rest in OPAQUE, TAIL empty")

    # D 2: borders of the last chunk. The plaintext of OPAQUE ends with index and length, so
    # PIXELS, OPAQUE and TAIL never have a plaintext of 0; TAGS has no index and can be any size.
    for size in (0, 16383, 16384, 16385, 32768):
        parts = {TAGS: Part(rand("border", size)), TAIL: Part(b"")}
        simple(f"plaintext-{size}", parts, f"TAGS with a plaintext of {size} bytes")
    blank = len(cbor_encode({0: OPAQUE, 1: [OPAQUE, 16384], 7: 16384})) + 4
    for size in (16383, 16384, 16385):
        parts = {OPAQUE: Part(period(size - blank))}
        w, _ = simple(f"opaque-plaintext-{size}", parts, f"OPAQUE, plaintext of {size} bytes")
        assert len(w.plain[OPAQUE]) == size

    w = Writer("x-wing", text()).to("bob")
    simple("x-wing", None, "stanza type 4", ("bob",), w)
    w = Writer("several", text()).to("mallory").to("alice").to("bob")
    _, file = simple("several", None, "three recipients, types 1 and 4", ("bob",), w)
    out.good(file, w.original(), ("alice",), note="the same, by another")
    simple(
        "scrypt",
        None,
        "stanza type 5, log2 N = 15",
        (),
        Writer("scrypt", text()).passphrase(5),
        PASSPHRASE,
    )
    out.good(
        "objects/scrypt.dcmx",
        text()[OPAQUE].payload,
        (),
        note="the passphrase in NFD",
        passphrase=unicodedata.normalize("NFD", PASSPHRASE),
    )
    wrong = {"keys": (), "passphrase": "wrong"}
    out.bad("objects/scrypt.dcmx", "no-identity", "wrong passphrase", **wrong)
    out.bad("objects/scrypt.dcmx", "no-identity", "a key where a passphrase is needed")
    w = Writer("argon2id", text()).passphrase(6, parameters=(256, 2, 4))
    simple("argon2id", None, "stanza type 6: 256 KiB, 2 passes, 4 lanes", (), w, PASSPHRASE)
    out.bad("objects/argon2id.dcmx", "no-identity", "wrong passphrase", **wrong)
    w = Writer("two-passphrases", text(), 1).passphrase(5).passphrase(6)
    simple("flag-two-passphrases", None, "flags bit 0: two passphrase stanzas", (), w, PASSPHRASE)
    w = Writer("passphrase-and-key", text(), 1).to("alice").passphrase(6)
    _, file = simple(
        "flag-passphrase-and-key", None, "flags bit 0: key and passphrase", ("alice",), w
    )
    out.good(file, w.original(), (), note="the same by its passphrase", passphrase=PASSPHRASE)
    w = Writer("scopes-passphrase", native("sp", 13, 7), 1).passphrase(6, 2).passphrase(6, 3)
    file = out.save("passphrase-two-scopes", w.build())
    out.good(
        file,
        w.original(TAGS, TAIL),
        (),
        "tags",
        "tags",
        passphrase=PASSPHRASE,
        note="flags bit 0: one passphrase stanza each of the scopes tags and pixels",
    )
    out.good(
        file,
        w.original(PIXELS),
        (),
        "pixels",
        "pixels",
        passphrase=PASSPHRASE,
        note="flags bit 0: one passphrase stanza each of the scopes tags and pixels",
    )

    w = Writer("passphrase-and-unknown", text(), 1).passphrase(6)
    w.stanzas.append(stanza(200, 1, bytes(8), b"unknown"))
    simple("flag-passphrase-and-unknown", None, "flags bit 0: beside a stanza", (), w, PASSPHRASE)
    w = Writer("eight-passphrases", text(), 1)
    for i in range(7):
        w.passphrase(6, text=f"passphrase {i}")
    w.passphrase(5)
    simple("flag-eight-passphrases", None, "flags bit 0: the most there may be", (), w, PASSPHRASE)
    w = Writer("eight-batches", text(), capacity=1024)
    w.stanzas += seven_stanzas(w, 7)
    simple("eight-batches", None, "eight stanzas of type 7", writer=w.batch(1, "alice"))

    w = Writer("batch", native("b", 13, 7)).batch(1, "alice", "bob").batch(2, "carol")
    _, file = simple("batch", None, "batch keys of the scopes full and tags", ("bob",), w)
    out.good(file, w.original(), ("alice",), note="the same, by the batch key's other recipient")
    out.good(file, w.original(TAGS, TAIL), ("carol",), "tags", "tags", "batch key of scope tags")
    out.bad(file, "no-identity", "batch key of scope tags, whole file asked for", ("carol",))
    w = Writer("batch-passphrase", text()).batch(1, passphrase=6)
    simple("batch-passphrase", None, "a passphrase that wraps a batch key", (), w, PASSPHRASE)
    w = Writer("batch-mixed", text()).batch(1, "alice").to("bob")
    simple("batch-and-added", None, "a recipient added to an object of a batch", ("bob",), w)

    w = Writer("scopes", native("sc", 26, 18, 16)).to("alice").to("bob", 2).to("carol", 3)
    _, file = simple("scopes", None, "the scopes full, tags and pixels", ("alice",), w)
    out.good(file, w.original(TAGS, TAIL), ("bob",), "tags", "tags", "by the tags key")
    out.good(file, w.original(PIXELS), ("carol",), "pixels", "pixels", "by the pixels key")
    out.good(file, w.original(), ("bob", "carol"), "tags+pixels", None, "by both scope keys")
    out.good(file, w.original(PIXELS), ("alice",), "full", "pixels", "by the object key")
    out.bad(file, "no-identity", "right key, wrong scope", ("bob",), "pixels")
    out.bad(file, "no-identity", "right key, wrong scope", ("carol",), "tags")
    out.bad(file, "no-identity", "a key that is in no stanza", ("mallory",))

    # D 4: slots
    w = Writer("slots", text()).to("alice")
    w.capacity = 2048
    both = [*w.stanzas]
    extra = w.to("bob").stanzas

    def second(w):
        return [w.slot(2, both), w.slot(3, extra)]

    file = out.save("two-slots", w.build(second))
    out.good(file, w.original(), ("bob",), note="two slots, the higher generation (3, B) has bob")
    out.good(file, w.original(), ("alice",), note="two slots, alice is in both")
    w = Writer("slots-removed", text(), capacity=2048)
    w.to("bob")
    older = [*w.stanzas]
    w.stanzas = []
    w.to("alice")
    file = out.save("two-slots-fallback", w.build(lambda w: [w.slot(4), w.slot(3, older)]))
    out.good(file, w.original(), ("bob",), note="only the lower generation (3) has bob")
    out.good(file, w.original(), ("alice",), note="the higher generation (4, A) has alice")
    for name, tear in (
        ("torn-slot-zeros", lambda s: s[:40] + bytes(len(s) - 40)),
        ("torn-slot-mac", lambda s: flip(s, len(s) - 90)),
        ("torn-slot-stanza", lambda s: flip(s, 60)),
        ("torn-slot-padding", lambda s: flip(s, len(s) - 100)),
        ("torn-slot-generation", lambda s: b"\x04" + s[1:]),
        ("torn-slot-count", lambda s: s[:8] + b"\x09" + s[9:]),
        ("torn-slot-reserved", lambda s: flip(s, 10)),
    ):
        w = Writer(name, text(), capacity=1024).to("alice")
        file = out.save(name, w.build(lambda w, tear=tear: [w.slot(2), tear(w.slot(3))]))
        out.good(file, w.original(), note="slot B (generation 3) is torn, slot A opens")
    w = Writer("generation-3", text(), generation=3).to("alice")
    simple("generation-3", None, "only slot B, generation 3", writer=w)
    w = Writer("unknown-stanza", text())
    w.stanzas.append(stanza(200, 1, bytes(8), rand("unknown stanza", 33)))
    w.to("alice").stanzas.append(stanza(9, 1, bytes(8), b""))
    simple("unknown-stanza", None, "stanzas of unknown type before and behind", writer=w)
    w = Writer("reserved-stanza", text()).to("alice")
    w.stanzas.append(stanza(3, 1, rand("rsa hint", 8), rand("rsa", 256)))
    simple("reserved-stanza", None, "an RSA stanza (reserved type 3) beside ours", writer=w)
    w = Writer("ignored-stanzas", text(), capacity=4096).to("alice").to("bob").batch(1)
    alice, bob, seven = w.stanzas
    w.stanzas = [alice[:1] + bytes([scope]) + alice[2:] for scope in (0, 5, 255)]
    w.stanzas += [resized(s, by) for s in (alice, bob, seven) for by in (-1, 1)]
    w.stanzas += [resized(alice, -80), seven[:1] + b"\x04" + seven[2:], alice]
    simple("ignored-stanzas", None, "stanzas of scope 0, 5, 255 or a wrong length", writer=w)
    w = Writer("ignored-passphrases", text(), 1, capacity=1024).passphrase(5).passphrase(6)
    scrypt, argon2 = w.stanzas
    w.stanzas = [resized(scrypt, -1), resized(argon2, 1), resized(argon2, -94), argon2]
    w.stanzas.insert(0, scrypt[:1] + b"\x05" + scrypt[2:])
    simple("ignored-passphrases", None, "the same with passphrases", (), w, PASSPHRASE)
    w = Writer("slot-refused", text(), capacity=1024).to("alice")
    right = [*w.stanzas]
    wrong = w.passphrase(6).stanzas
    file = out.save(
        "slot-refused-fallback", w.build(lambda w: [w.slot(2, right), w.slot(3, wrong)])
    )
    out.good(file, w.original(), note="slot B: passphrase beside a key without flag; A opens")
    out.bad(file, "damaged", "slot B is refused, A is for another", ("mallory",))
    w = Writer("slot-limits", text(), capacity=1024).passphrase(5)
    right = [*w.stanzas]
    wrong = [right[0][:12] + b"\x15" + right[0][13:]]
    file = out.save("slot-limits-fallback", w.build(lambda w: [w.slot(2, right), w.slot(3, wrong)]))
    limits = "slot B: log2 N = 21; A opens"
    out.good(file, w.original(), (), note=limits, passphrase=PASSPHRASE)
    out.bad(file, "no-identity", "nothing of it is tried without a passphrase")

    w = Writer("pixels-mac", native("pm", 4, 4)).to("alice", 2).to("carol", 3)
    file = out.save(
        "mac-of-other-scope", w.build(lambda w: [flip(w.slot(), -1), bytes(w.capacity)])
    )
    out.good(
        file,
        w.original(TAGS, TAIL),
        ("alice",),
        "tags",
        "tags",
        "the MAC of pixels is wrong, which a holder of tags cannot see",
    )
    out.bad(file, "damaged", "the MAC of pixels is wrong", ("carol",), "pixels")

    # D 6: what the index says of the file
    attributes = {8: "a/b\u00e9.dcm".encode(), 9: 0o640, 10: 1_700_000_000_123_456_789}
    w = Writer("attributes", text(), closing=attributes).to("alice")
    simple(
        "attributes",
        None,
        "name, mode and time",
        writer=w,
        name="a/b\u00e9.dcm",
        mode=0o640,
        mtime_ns=attributes[10],
    )
    w = Writer("before-1970", text(), closing={8: b"old.txt", 10: -1_000_000_001}).to("alice")
    simple(
        "before-1970", None, "a negative time", writer=w, name="old.txt", mtime_ns=-1_000_000_001
    )
    w = Writer("link", {OPAQUE: Part(b"")}, closing={11: b"../other/file.dcm"}).to("alice")
    simple("link", None, "a symbolic link", writer=w, link="../other/file.dcm")
    w = Writer("mode-max", text(), closing={9: 0o7777}).to("alice")
    simple("mode-max", None, "the highest mode, of which 0777 are restored", writer=w, mode=0o777)
    w = Writer("nesting-16", text(), closing={100: nested(16)}).to("alice")
    simple("nesting-16", None, "an unknown key with 16 arrays, one in the other", writer=w)
    unknown = {100: 5, 2**32: -7, 2**64 - 1: [b"x", ["y", 0], -(2**64)], 1000: "text"}
    w = Writer("unknown-index-keys", text(), closing=unknown).to("alice")
    simple("unknown-index-keys", None, "unknown keys with values of all types", writer=w)
    w = Writer("capacity-512", text(), capacity=512).to("alice")
    simple("capacity-512", None, "the smallest capacity", writer=w)


def seven_stanzas(w, count):
    """Stanzas of type 7 of batches that nobody knows."""
    bodies = [rand(f"{w.name} batch {i}", 56) for i in range(count)]
    return [stanza(7, 1, bytes(8), body) for body in bodies]


def resized(raw, by):
    """A stanza whose body is longer or shorter and says so."""
    body = (raw[12:] + bytes(max(by, 0)))[: len(raw) - 12 + by]
    return stanza(raw[0], raw[1], raw[4:12], body)


def bad_objects(out):
    def edited(name, edit, note, failure="damaged", keys=("alice",), parts=None, **more):
        """A right object, changed as a whole."""
        w = Writer(name, parts or text(), capacity=512).to("alice")
        data = w.build()
        out.bad(out.save("bad-" + name, edit(bytearray(data), w)), failure, note, keys, **more)

    def put(at, value):
        def edit(data, _):
            data[at : at + len(value)] = value
            return data

        return edit

    def core(name, at, value, note, failure):
        """A wrong CORE that everything else agrees with, so that only the rule refuses it."""
        w = Writer(name, text(), capacity=512)
        w.core = w.core[:at] + value + w.core[at + len(value) :]
        out.bad(out.save("bad-" + name, w.to("alice").build()), failure, note)

    core("magic", 0, b"\x89DCMY", "another magic", "refused-header")
    core("version-2", 8, b"\x02", "version 2", "refused-version")
    core("version-0", 8, b"\x00", "version 0", "refused-version")
    core("suite-2", 9, b"\x02", "suite 2", "refused-version")
    core("flags-bit-1", 10, b"\x02", "an unknown flag", "refused-version")
    core("flags-bit-15", 11, b"\x80", "an unknown flag", "refused-version")
    core("reserved", 12, b"\x01", "the reserved bytes of CORE are not 0", "refused-header")
    core("reserved-high", 15, b"\x80", "the last reserved byte of CORE", "refused-header")
    edited("core-flipped", lambda d, w: flip(d, 40), "a bit of the salt in CORE")
    edited(
        "capacity-complement", lambda d, w: flip(d, 70), "complement of capacity", "refused-header"
    )
    for name, value in (("zero", 0), ("600", 600), ("too-large", 1049088), ("larger", 1024)):
        failure = "damaged" if name == "larger" else "refused-header"
        raw = struct.pack("<II", value, value ^ 0xFFFFFFFF)
        edited("capacity-" + name, put(64, raw), f"a capacity of {value}", failure)
    edited("short", lambda d, w: d[:80], "the file ends in slot A")
    edited("short-core", lambda d, w: d[:40], "the file ends in CORE")

    # D 4
    def header(name, slots, note, failure="damaged", keys=("alice",), writer=None, **more):
        w = writer or Writer(name, text(), capacity=1024).to("alice")
        w.capacity = w.capacity or 1024
        out.bad(out.save("bad-" + name, w.build(slots)), failure, note, keys, **more)

    def slot_a(edit):
        return lambda w: [edit(w.slot()), bytes(w.capacity)]

    header("slots-empty", lambda w: [bytes(w.capacity)] * 2, "both slots are empty")
    for name, value in (("small", 11), ("large", 929), ("huge", 0xFFFFFFFF), ("short", 103)):
        raw = struct.pack("<I", value)
        header("used-" + name, slot_a(lambda s, raw=raw: s[:4] + raw + s[8:]), f"used = {value}")
    header(
        "slot-padding",
        lambda w: [w.slot(padding=b"\0\x01"), bytes(w.capacity)],
        "a byte behind the stanzas is not 0",
    )
    header("slot-parity", lambda w: [w.slot(3), bytes(w.capacity)], "an odd generation in slot A")
    header(
        "slot-generation-0",
        lambda w: [struct.pack("<I", 0) + w.slot()[4:], bytes(w.capacity)],
        "generation 0",
    )
    header("slot-reserved", slot_a(lambda s: flip(s, 10)), "the reserved field is not 0")
    header("slot-count", slot_a(lambda s: flip(s, 8)), "count says no stanza")
    for scope, at in (("full", -96), ("tags", -64), ("pixels", -32)):
        header(
            "mac-" + scope, slot_a(lambda s, at=at: flip(s, len(s) + at)), f"MAC {scope} flipped"
        )
    header("stanza-enc", slot_a(lambda s: flip(s, 12 + 12 + 5)), "stanza: enc flipped")
    header(
        "stanza-ciphertext", slot_a(lambda s: flip(s, 12 + 12 + 60)), "stanza: ciphertext flipped"
    )
    header("stanza-length", slot_a(lambda s: flip(s, 12 + 2)), "stanza: length of the body")
    header(
        "stanza-hint",
        slot_a(lambda s: flip(s, 12 + 6)),
        "stanza: hint flipped, so that nobody knows it as theirs",
        "no-identity",
    )
    w = Writer("stanza-extra", text(), capacity=1024).to("alice")

    def stanza_added(w):
        forged = w.slot(stanzas=[*w.stanzas, stanza(200, 1, bytes(8), b"")])
        return [forged[:-96] + w.slot()[-96:], bytes(w.capacity)]

    header("stanza-added", stanza_added, "a stanza was added, MACs as before", writer=w)
    w = Writer("wrong-object-key", text(), capacity=1024).to("alice", key=rand("other key", 32))
    header("wrong-object-key", None, "a stanza that wraps another key", writer=w)
    w = Writer("batch-binding", text(), capacity=1024)
    w.batch(1, "alice")
    w.stanzas[-1] = w.stanzas[-1][:12] + rand("other id", 16) + w.stanzas[-1][28:]
    header("batch-id", None, "the batch id of type 7 is another", writer=w)
    w = Writer("batch-of-other", text(), capacity=1024)
    other = Writer("batch-of-other 2", text(), capacity=1024).batch(1, "alice")
    w.stanzas = other.stanzas
    header("batch-of-other-object", None, "the type 7 stanza of another object", writer=w)

    phrase = {"keys": (), "passphrase": PASSPHRASE}
    for kind, name in ((5, "scrypt"), (6, "argon2id")):
        w = Writer("wrap " + name, text(), capacity=512).passphrase(kind)
        header(
            f"{name}-wrap",
            slot_a(lambda s: flip(s, 12 + 12 + 80)),
            "wrapped key flipped",
            writer=w,
            **phrase,
        )
        w = Writer("commit " + name, text(), capacity=512).passphrase(kind)
        header(
            f"{name}-commitment",
            slot_a(lambda s: flip(s, 12 + 12 + 30)),
            "commitment flipped, which reads as a wrong passphrase",
            "no-identity",
            writer=w,
            **phrase,
        )
    w = Writer("two-passphrases bad", text(), capacity=512).passphrase(5).passphrase(6)
    header(
        "two-passphrases",
        None,
        "two passphrase stanzas of a scope, bit 0 unset",
        writer=w,
        **phrase,
    )
    w = Writer("passphrase-beside", text(), capacity=1024).passphrase(6).to("alice")
    header(
        "passphrase-and-key",
        None,
        "a passphrase beside a key, bit 0 unset",
        writer=w,
        **phrase,
    )
    out.bad("objects/bad-passphrase-and-key.dcmx", "damaged", "the same, with the key")
    w = Writer("two-scopes bad", native("tsb", 4, 4)).passphrase(6, 2).passphrase(6, 3)
    w.capacity = 512
    header(
        "passphrase-two-scopes",
        None,
        "a passphrase stanza each of tags and pixels, bit 0 unset",
        writer=w,
        part="tags",
        **phrase,
    )
    for kind, name in ((200, "unknown"), (3, "reserved")):
        w = Writer("passphrase-and-" + name, text(), capacity=512).passphrase(6)
        w.stanzas.append(stanza(kind, 1, bytes(8), bytes(20)))
        note = f"a passphrase beside a stanza of type {kind}, bit 0 unset"
        header("passphrase-and-" + name, None, note, writer=w, **phrase)
    w = Writer("nine-passphrases", text(), 1, capacity=1536)
    for i in range(9):
        w.passphrase(6, text=PASSPHRASE if i == 0 else f"passphrase {i}")
    header("nine-passphrases", None, "nine passphrase stanzas", writer=w, **phrase)
    w = Writer("nine-batches", text(), capacity=1024).to("alice")
    w.stanzas += seven_stanzas(w, 9)
    header("nine-batches", None, "nine stanzas of type 7", writer=w)
    for scope in (0, 5):
        w = Writer(f"scope {scope}", text(), capacity=512).to("alice")
        w.stanzas[0] = b"\x01" + bytes([scope]) + w.stanzas[0][2:]
        note = f"the only stanza has scope {scope} and is ignored"
        header(f"stanza-scope-{scope}", None, note, "no-identity", writer=w)
    for name, by in (("short", -1), ("long", 1)):
        w = Writer("body " + name, text(), capacity=512).to("alice")
        w.stanzas = [resized(w.stanzas[0], by)]
        note = f"the only stanza is too {name} and is ignored"
        header("stanza-body-" + name, None, note, "no-identity", writer=w)
        w = Writer("scrypt body " + name, text(), capacity=512).passphrase(5)
        w.stanzas = [resized(w.stanzas[0], by)]
        header("scrypt-body-" + name, None, note, "no-identity", writer=w, **phrase)
    w = Writer("batch-scope-4", text(), capacity=1024).batch(1, "alice")
    w.stanzas[-1] = b"\x07\x04" + w.stanzas[-1][2:]
    header("batch-scope-4", None, "type 7 with scope 4 is ignored, so nothing opens", writer=w)
    for log2n in (14, 21, 255):
        w = Writer(f"scrypt {log2n}", text(), capacity=512).passphrase(5)
        w.stanzas[0] = w.stanzas[0][:12] + bytes([log2n]) + w.stanzas[0][13:]
        header(f"scrypt-{log2n}", None, f"log2 N = {log2n}", writer=w, **phrase)
    limits = {
        "memory-low": (15, 1, 2),
        "memory-high": (2097153, 1, 1),
        "passes-0": (64, 0, 1),
        "passes-17": (64, 17, 1),
        "lanes-0": (64, 1, 0),
        "lanes-17": (256, 1, 17),
    }
    for name, values in limits.items():
        w = Writer("argon2id " + name, text(), capacity=512).passphrase(6)
        raw = struct.pack("<IBB", *values)
        w.stanzas[0] = w.stanzas[0][:12] + raw + w.stanzas[0][18:]
        note = "memory {} KiB, {} passes, {} lanes".format(*values)
        header("argon2id-" + name, None, note, writer=w, **phrase)

    # D 1: the trailer
    def trailer(name, edit, note, parts=None, failure="damaged"):
        w = Writer(name, parts or native("t" + name, 13, 7), capacity=512).to("alice")
        out.bad(out.save("bad-trailer-" + name, w.build(trailer=edit)), failure, note)

    def add(*pairs):
        def edit(numbers):
            for i, by in pairs:
                numbers[i] += by
            return numbers

        return edit

    # Numbers: 0, 1 TAGS; 2, 3 PIXELS; 4, 5 TAIL; 6, 7 OPAQUE; 8, 9 signatures; 10 total.
    trailer("offset", add((0, 1)), "offset of TAGS too high")
    trailer("length", add((5, 1)), "length of TAIL reaches into the trailer")
    trailer("gap", add((1, -1)), "a gap between TAGS and PIXELS")
    trailer("overlap", add((2, -1), (3, 1)), "PIXELS overlaps TAGS")
    trailer("shifted-border", add((1, 1), (2, 1), (3, -1)), "the border of two streams is shifted")
    trailer("total", add((10, 1)), "another length of the file")
    trailer("huge", lambda n: [*n[:5], 2**64 - 1, *n[6:]], "a length of 2^64 - 1")
    trailer(
        "zero-length", lambda n: [*n[:6], n[4] + n[5], 0, *n[8:]], "OPAQUE with an offset, length 0"
    )
    trailer(
        "signatures",
        lambda n: [*n[:8], n[10] - 96, 0, n[10]],
        "a signature group",
        failure="damaged",
    )
    trailer("swapped", lambda n: [*n[2:4], *n[:2], *n[4:]], "TAGS and PIXELS exchanged")
    edited("trailer-magic", lambda d, w: flip(d, len(d) - 1), "magic of the trailer")
    edited("trailing-byte", lambda d, w: d + b"\0", "a byte behind the trailer")
    edited("cut-end", lambda d, w: d[:-1], "the last byte is missing")

    # D 2: streams taken away, exchanged, changed
    def streams(name, edit, note, parts=None, failure="damaged", keys=("alice",)):
        w = Writer(name, parts or native("s" + name, 13, 7), capacity=512).to("alice")
        w.capacity = 512
        w.seal()
        edit(w)
        out.bad(out.save("bad-" + name, w.build(streams=False)), failure, note, keys)

    streams("without-pixels", lambda w: w.sealed.pop(PIXELS), "PIXELS taken away")
    streams("without-tail", lambda w: w.sealed.pop(TAIL), "TAIL taken away")
    streams("without-tags", lambda w: w.sealed.pop(TAGS), "TAGS taken away")
    streams("without-all", lambda w: w.sealed.clear(), "all streams taken away")

    def laid_out(w, order, gap):
        w.order, w.gap = order, gap

    # All true and authentic, so that only the rule of D 1 refuses them.
    streams("layout-order", lambda w: laid_out(w, (PIXELS, TAGS, TAIL), 0), "PIXELS before TAGS")
    streams("layout-gap", lambda w: laid_out(w, w.order, 8), "8 zeros before each stream")

    def exchange(number):
        def edit(w):
            other = Writer("other object", native("x", 13, 7), capacity=512).to("alice")
            other.seal()
            w.sealed[number] = other.sealed[number]

        return edit

    streams("swap-pixels", exchange(PIXELS), "PIXELS of another object")
    streams("swap-tags", exchange(TAGS), "TAGS of another object")

    def tail_as_tags(w):
        w.sealed[TAGS] = w.sealed[TAIL]

    streams("tail-as-tags", tail_as_tags, "TAIL in the place of TAGS")
    two = {OPAQUE: Part(rand("two chunks", 40000))}
    change = lambda edit: lambda w: w.sealed.update({OPAQUE: edit(w.sealed[OPAQUE])})  # noqa: E731
    first, whole = 56, 16400
    streams(
        "chunks-reordered",
        change(
            lambda s: (
                s[:first]
                + s[first + whole : first + 2 * whole]
                + s[first : first + whole]
                + s[first + 2 * whole :]
            )
        ),
        "chunks exchanged",
        two,
    )
    streams("chunk-flipped", change(lambda s: flip(s, first + 100)), "a bit of chunk 0", two)
    streams("tag-flipped", change(lambda s: flip(s, first + whole - 1)), "a bit of a tag", two)
    streams("chunk-cut", change(lambda s: s[: first + 2 * whole]), "the last chunk is missing", two)
    streams("chunk-cut-1", change(lambda s: s[: first + whole + 20]), "chunk 1 is cut", two)
    streams("chunk-short", change(lambda s: s[: first + 15]), "shorter than one tag", text())
    streams("commitment", change(lambda s: flip(s, 30)), "commitment flipped", text())
    streams("stream-salt", change(lambda s: flip(s, 3)), "salt of the stream flipped", text())

    # D 6: index, all of it authenticated, so only the rules refuse it
    def index(name, edit, note, parts=None, number=OPAQUE, plain=False, failure="damaged"):
        w = Writer("index " + name, parts or text(), capacity=512).to("alice")
        (w.plain_edits if plain else w.index_edits)[number] = edit
        out.bad(out.save("bad-index-" + name, w.build()), failure, note)

    encode = cbor_encode

    def raw_map(pairs):
        return bytes([0xA0 | len(pairs)]) + b"".join(pairs)

    def pairs(value):
        return [encode(k) + encode(v) for k, v in value.items()]

    index(
        "long-form",
        lambda v: raw_map(pairs(v)).replace(b"\x00\x04", b"\x00\x18\x04", 1),
        "a number not in its shortest form",
    )
    index("unsorted", lambda v: raw_map(pairs(v)[1:] + pairs(v)[:1]), "keys are not ascending")
    index("duplicate", lambda v: raw_map(pairs(v)[:1] + pairs(v)), "a key twice")
    index("indefinite", lambda v: b"\xbf" + b"".join(pairs(v)) + b"\xff", "indefinite length")
    index("tag", lambda v: raw_map([*pairs(v), b"\x14\xc0\x01"]), "a CBOR tag")
    index("float", lambda v: raw_map([*pairs(v), b"\x14\xf9\x3c\x00"]), "a float")
    index("true", lambda v: raw_map([*pairs(v), b"\x14\xf5"]), "a simple value")
    index("nested-map", lambda v: raw_map([*pairs(v), b"\x14\xa0"]), "a map as a value")
    index("text-key", lambda v: raw_map([*pairs(v), b"\x61a\x01"]), "a key that is text")
    index("bad-utf8", lambda v: raw_map([*pairs(v), b"\x14\x61\xff"]), "text that is not UTF-8")
    index("array", lambda v: encode([1, 2]), "not a map")
    index("trailing", lambda v: encode(v) + b"\0", "a byte behind the map")
    index("cut", lambda v: encode(v)[:-1], "the map ends early")
    index(
        "array-length",
        lambda v: raw_map([*pairs(v), b"\x14\x9b" + b"\xff" * 8]),
        "an array of 2^64 - 1 elements",
    )
    index("empty", lambda v: b"", "an empty index")
    index(
        "length",
        lambda p: p[:-4] + struct.pack("<I", len(p)),
        "longer than the plaintext",
        plain=True,
    )
    index("length-max", lambda p: p[:-4] + b"\xff" * 4, "a length of 2^32 - 1", plain=True)
    index("plaintext-3", lambda p: p[-3:], "a plaintext of 3 bytes", plain=True)
    index("stream-id", lambda v: v | {0: PIXELS}, "the id of another stream")
    index("lengths", lambda v: v | {1: [OPAQUE, 99], 7: 99}, "payload length contradicts")
    index("size", lambda v: v | {7: 99}, "size of the file contradicts")
    index("no-lengths", lambda v: {k: v[k] for k in v if k != 1}, "no payload lengths")
    image = native("idx", 13, 7)
    index(
        "closing-pixels",
        lambda v: v | {1: [1, v[1][1], 2, v[1][3] - 1, 3, v[1][5] + 1]},
        "the closing index contradicts PIXELS",
        image,
        TAIL,
    )
    index("closing-missing", lambda v: v | {1: v[1][:4]}, "TAIL is not in its list", image, TAIL)
    index(
        "closing-extra", lambda v: v | {1: [*v[1], 4, 0]}, "a stream that is not there", image, TAIL
    )
    index("own-lengths", lambda v: v | {1: [2, 1]}, "PIXELS contradicts itself", image, PIXELS)

    # D 6, B 1 and 2: runs and methods
    runs = {
        "method-3": {3: b"\x03"},
        "method-3-high": {3: b"\xc0"},
        "methods-short": {3: b""},
        "methods-long": {3: b"\0\0"},
        "outside": {2: [[0, 101]]},
        "offset-outside": {2: [[101, 1]]},
        "zero": {2: [[0, 0]], 3: b""},
        "huge": {2: [[2**64 - 1, 2**64 - 1]]},
        "overlap": {2: [[0, 60], [59, 10]], 3: b"\0\0"},
        "order": {2: [[60, 10], [0, 10]], 3: b"\0\0"},
        "frame-rows-0": {2: [[0, 100, 0, 10, 5]]},
        "frame-rows-high": {2: [[0, 100, 2**32, 1, 1]]},
        "frame-width-0": {2: [[0, 100, 10, 0, 0]]},
        "frame-width-high": {2: [[0, 100, 1, 1048577, 524289]]},
        "frame-split": {2: [[0, 100, 10, 10, 11]]},
        "frame-split-0": {2: [[0, 100, 10, 10, 0]]},
        "frame-split-low": {2: [[0, 100, 10, 10, 4]]},
        "frame-split-low-odd": {2: [[0, 100, 10, 11, 5]]},
        "frame-split-high": {2: [[0, 100, 10, 10, 7]]},
        "frame-split-almost-all": {2: [[0, 100, 10, 10, 9]]},
        "frame-5x1-0": {2: [[0, 100, 5, 1, 0]], 3: bytes(20)},
        "frame-area": {2: [[0, 100, 2**31, 2**18, 2**17]]},
        "empty": {2: [], 3: b""},
        "three": {2: [[0, 100, 10]]},
        "negative": {2: [[-1, 100]]},
        "text": {2: [["0", 100]]},
    }
    for name, values in runs.items():
        index("run-" + name, lambda v, values=values: v | values, f"runs and methods: {values}")
    index("run-without-methods", lambda v: {k: v[k] for k in v if k != 3}, "runs, no methods")
    index("run-methods-alone", lambda v: {k: v[k] for k in v if k != 2}, "methods, no runs")
    index("run-tags", lambda v: v | {13: b"\x03"}, "method 3 in the methods of TAGS", image, TAIL)
    index("run-tags-empty", lambda v: v | {12: [], 13: b""}, "key 12 is empty", image, TAIL)
    index("link-with-content", lambda v: v | {11: b"x"}, "a link with a payload")
    blank = {TAGS: Part(b""), TAIL: Part(b"")}
    index("link-with-tags", lambda v: v | {11: b"x"}, "a link with TAGS and TAIL", blank, TAIL)
    nothing = {OPAQUE: Part(b"")}
    index("link-text", lambda v: v | {11: "x"}, "a target that is text", nothing)
    index("name-text", lambda v: v | {8: "x"}, "a name that is text")
    index("mode-high", lambda v: v | {9: 0o10000}, "a mode above 07777")
    index("mode-negative", lambda v: v | {9: -1}, "a negative mode")
    index("time-text", lambda v: v | {10: "now"}, "a time that is text")
    index("nesting-17", lambda v: v | {100: nested(17)}, "17 arrays, one in the other")
    index("no-stream-id", lambda v: {k: v[k] for k in v if k != 0}, "key 0 is missing")
    index("no-size", lambda v: {k: v[k] for k in v if k != 7}, "key 7 is missing")
    index(
        "own-no-lengths",
        lambda v: {k: v[k] for k in v if k != 1},
        "key 1 is missing from PIXELS",
        image,
        PIXELS,
    )


def good_frame_run_limits(out):
    """Shapes at the limits of B 1, which must be accepted."""
    for name, run in (
        ("width-max", [0, 100, 1, 1 << 20, 1 << 19]),
        ("rows-max", [0, 100, 2**32 - 1, 7, 4]),
        ("split-lowest", [3, 90, 4, 10, 5]),
        ("split-two-thirds", [3, 90, 4, 9, 6]),
        ("split-all", [3, 90, 4, 9, 9]),
        ("rows-1", [0, 99, 1, 13, 7]),
        ("width-1", [0, 99, 13, 1, 1]),
    ):
        payload = rand("limits " + name, 100)
        w = Writer("limits " + name, {OPAQUE: Part(payload, [run], None)}, capacity=512).to("alice")
        out.good(out.save("frame-" + name, w.build()), payload, note=f"a frame run {run}")


def signed_objects(out):
    """D 10. The tool does not verify the CMS itself: `cms` marks what only a reader that does
    refuses. Everything else is refused by both."""
    alice, bob = Signer("Signer A", "p256"), Signer("Signer B", "p384")

    def simple(name, parts, signer, note, **more):
        w = Writer("signed " + name, parts).to("alice").signed(signer)
        file = out.save("signed-" + name, w.build())
        subject = x509.load_der_x509_certificate(signer.certificate).subject.rfc4514_string()
        out.good(file, w.original(), note=note, signed=subject, **more)
        return w, file

    simple("p256", text(), alice, "signed, ECDSA with P-256; OPAQUE")
    simple("p384", native("sp3", 13, 7), bob, "signed, ECDSA with P-384; TAGS, PIXELS, TAIL")
    simple("ed25519", text(), Signer("Signer C", "ed25519"), "signed, Ed25519")
    w = Writer("signed scopes", native("ss", 26, 18, 16)).to("alice").to("bob", 2).to("carol", 3)
    file = out.save("signed-scopes", w.signed(alice).build())
    who = {"signed": "CN=Signer A"}
    out.good(file, w.original(), note="signed, three scopes, all of it", **who)
    out.good(file, w.original(TAGS, TAIL), ("bob",), "tags", "tags", "by the tags key", **who)
    out.good(file, w.original(PIXELS), ("carol",), "pixels", "pixels", "by the pixels key", **who)
    one = out.save("signed-stripped", stripped(Writer("stripped", text()).to("alice"), alice))
    out.good(one, text()[OPAQUE].payload, note="a signature taken away: as if never signed")

    def bad(name, note, cms_only=False, **edits):
        w = Writer("bad signed " + name, text(), capacity=1024).to("alice")
        file = out.save("bad-signed-" + name, w.signed(alice, **edits).build())
        out.bad(file, "damaged", note, **({"cms": True} if cms_only else {}))

    bad("manifest-core", "a manifest with another object's CORE", manifest=lambda m: flip(m, 20))
    bad("manifest-id", "a manifest with another stream id", manifest=lambda m: flip(m, 64))
    bad("manifest-length", "a manifest with another length", manifest=lambda m: flip(m, 65))
    bad("manifest-root", "a manifest with another root", manifest=lambda m: flip(m, 80))
    bad("leaves", "a leaf that does not give the root", leaves=lambda v: flip(v, 0))
    both = {"manifest": other_root, "leaves": lambda v: bytes(32)}
    bad("content", "signed as it must be, but for other content", **both)
    bad("leaf-missing", "a leaf is missing", leaves=lambda v: b"")
    bad("leaf-added", "a leaf too many", leaves=lambda v: v + v, cms_only=True)
    bad("no-cms", "no byte of CMS", cms=lambda v: b"")
    for number in (8, 9, 10):
        bad(
            f"stream-{number}",
            f"stream {number} says something else",
            **{f"stream_{number}": lambda p: flip(p, -1)},
        )
    def cms(name, note, edit):
        bad("cms-" + name, note, cms_only=True, **dict.fromkeys(
            ("stream_8", "stream_9", "stream_10"),
            lambda p: p[:137] + edit(p[:105], p[137:]),
        ))  # fmt: skip

    def remade(name, note, wanted, edit):
        cms(name, note, lambda manifest, old: alice.cms(manifest, changed(wanted, edit)))

    cms("other", "a signature of another manifest", lambda m, old: alice.cms(flip(m, 0)))
    cms("junk", "no ASN.1", lambda m, old: b"junk")
    cms("trailing", "a byte behind the CMS", lambda m, old: old + b"\0")
    cms("cut", "the CMS ends early", lambda m, old: old[:-1])
    remade("signature", "a bit of the signature", "signature", lambda s: flip(s, 12))
    for number, name in enumerate(("type", "time", "digest", "certificate")):
        remade(f"attribute-{number}", f"without one attribute ({name} or another)", "attributes",
               lambda a, n=number: a[:n] + a[n + 1 :])  # fmt: skip
    extra = der(0x30, oid("1.2.840.113549.1.9.99"), der(0x31, der(4, b"x")))
    remade("attribute-more", "a fifth attribute", "attributes", lambda a: sorted([*a, extra]))
    remade("attribute-twice", "an attribute twice", "attributes", lambda a: sorted([*a, a[0]]))
    remade("attribute-order", "attributes not in DER's order", "attributes", lambda a: a[::-1])
    remade("unsigned", "unsigned attributes", "unsigned", lambda v: [der(0xA1, extra)])
    remade("content", "the manifest inside", "content", lambda v: [der(0xA0, der(4, b"x"))])
    remade("no-certificate", "no certificate", "certificates", lambda c: [])
    remade("certificate", "another's certificate", "certificates", lambda c: [bob.certificate])
    remade("two-signers", "two signers", "signers", lambda s: s * 2)
    remade("no-signer", "no signer", "signers", lambda s: [])

    def trailer(name, edit, note):
        w = Writer("trailer signed " + name, text(), capacity=1024).to("alice").signed(alice)
        out.bad(out.save("bad-signed-trailer-" + name, w.build(trailer=edit)), "damaged", note)

    def change(at, by):
        return lambda n: [*n[:at], n[at] + by, *n[at + 1 :]]

    trailer("offset", change(8, 1), "the signatures' offset")
    trailer("length", change(9, -3), "the signatures' length")
    trailer("absent", lambda n: [*n[:8], 0, 0, n[10]], "signatures that the trailer denies")


def other_root(manifest):
    return manifest[:73] + hashlib.sha256(bytes(32)).digest()


def stripped(writer, signer):
    """An object whose signatures were cut out, its trailer made to fit."""
    whole = writer.signed(signer).build()
    numbers = list(struct.unpack_from("<11Q", whole, len(whole) - 96))
    rest = whole[: numbers[8]]
    numbers[8:] = 0, 0, len(rest) + 96
    return rest + struct.pack("<11Q", *numbers) + b"DCMXEND1"


def key_files(out):
    """A key file that is itself an object under a passphrase."""
    content = f"# a protected key\n\n{PEOPLE['carol'].identity}\n".encode()
    w = Writer("key file", {OPAQUE: linear(content)}).passphrase(6, parameters=(1024, 1, 1))
    file = out.save("key-file", w.build())
    out.good(file, content, (), note="a key file under a passphrase", passphrase=PASSPHRASE)


# ---- Block layer vectors ---------------------------------------------------------------------


def block_layer():
    cases = []

    def case(name, size, runs, method=None, sample=1, source="shake"):
        key = rand("block layer " + name, 64)
        seed = "block layer plaintext " + name
        plain = rand(seed, size) if source == "shake" else period(size)
        recipe = {"shake256": "dcmx vectors 1: " + seed} if source == "shake" else {"period": 251}
        out, methods = transform(key, plain, runs, method, sample)
        chosen = "randomized" if method is None else None
        if isinstance(method, int):
            chosen = METHOD_NAMES[method]
        cases.append(
            {
                "name": name,
                "key": key.hex(),
                "size": size,
                "plaintext": recipe,
                "runs": runs,
                "sample_bytes": sample,
                "method": chosen,
                "methods": methods.hex(),
                "sha256": hashlib.sha256(out).hexdigest(),
                "transformed": out.hex() if size <= 512 or chosen is None else None,
            }
        )

    for size in range(71):
        case(f"linear-{size}", size, [[0, size]] if size else [])
    for method, name in enumerate(METHOD_NAMES):
        for size in (1, 3, 4, 5, 17, 63, 64, 65, 127, 255, 1021, 1023, 1024, 1025, 4099):
            case(f"linear-{name}-{size}", size, [[0, size]], method)
        for size in (65532, 65535, 65536, 65537, 65540, 65600, 131071, 131072, 131141):
            case(f"linear-{name}-tiles-{size}", size, [[0, size]], method, source="period")
        case(f"frame-{name}", 13 * 7 * 4, [[0, 13 * 7 * 4, 13, 7, 4]], method)
        case(f"frame-{name}-cut", 13 * 14 * 3 - 33, [[0, 13 * 14 * 3 - 33, 13, 14, 8]], method, 2)
        for rows, width, split in (
            (1, 1, 1),
            (1, 2, 1),
            (2, 1, 1),
            (2, 2, 1),
            (3, 3, 2),
            (5, 1, 1),
            (4, 10, 5),
            (4, 9, 6),
            (4, 9, 9),
        ):
            size = rows * width * 3
            name_ = f"frame-{name}-{rows}x{width}-{split}"
            case(name_, size, [[0, size, rows, width, split]], method)
    for size in (1023, 1024, 1025, 65535, 65536, 65537, 262143, 262144):
        case(f"linear-randomized-{size}", size, [[0, size]])
    for rows, columns, sample in ((13, 7, 1), (13, 7, 2), (16, 16, 2), (31, 33, 4), (3, 5, 8)):
        width, split = columns * sample, (columns + 1) // 2 * sample
        for frames in (1, 2, 5):
            size = rows * width * frames
            name = f"frame-{rows}x{columns}-{8 * sample}-bit-{frames}"
            case(name, size, [[0, size, rows, width, split]], None, sample)
    for cut in (1, 6, 7, 8, 45, 46, 49, 50, 90):
        size = 13 * 7 * 2 - cut
        case(f"frame-cut-{cut}", size, [[0, size, 13, 7, 4]])
    case("frame-tiles", 301 * 503 * 2, [[0, 301 * 503 * 2, 301, 503, 252]], 2, source="period")
    case("frame-16-bit-tiles", 256 * 512 * 2, [[0, 256 * 512 * 2, 256, 512, 256]], None, 2)
    case("frame-larger-than-run", 40, [[0, 40, 4294967295, 7, 4]])
    case("runs-with-gaps", 500, [[8, 100], [116, 1], [125, 64, 4, 8, 4], [197, 300]])
    case("runs-adjacent", 60, [[0, 20], [20, 20], [40, 20]], 2)
    mixed = (None, 0b01_10_00_01)
    case("mixed-methods", 700, [[0, 300], [300, 400, 10, 20, 11]], mixed)
    size = (4 << 20) + 70001
    case("unit-border", size, [[1000, size - 1001]], 2, source="period")
    return {
        "about": "Vectors of docs/spec/block-layer-v1.md. plaintext: the first `size` bytes of "
        "SHAKE256 of the ASCII label, or byte i is i modulo the period. method: randomized, or the "
        "method that is forced for all blocks; null: no rule gives the methods, for decryption. "
        "sample_bytes: BitsAllocated/8 of frame runs. methods: the bytes of the index, the only "
        "thing that a reader takes. transformed: hexadecimal, null where long; sha256: of it.",
        "origin": "the independent implementation in tools/dcmx_rescue.py and "
        "tests/vectors/make_vectors.py, written from the specification alone",
        "cases": cases,
    }


OTHERS = ("p256", "rsa", "mlkem768", "mlkem1024", "p384", "p521")


def other_keys(out):
    """Types 2, 3 and 10 to 13: what they open, and what they must not."""
    for name in OTHERS:
        kind = PEOPLE[name].type
        w = Writer(name, text()).to(name)
        file = out.save(f"type-{kind}", w.build())
        out.good(file, w.original(), (name,), note=f"stanza type {kind}")
        out.bad(file, "no-identity", f"another key beside stanza type {kind}")
        w = Writer(name + " batch", text()).batch(1, name)
        file = out.save(f"type-{kind}-batch", w.build())
        out.good(file, w.original(), (name,), note=f"a batch key in a stanza of type {kind}")

        w = Writer(name + " body", text()).to(name)
        w.stanzas[0] = flip(w.stanzas[0], len(w.stanzas[0]) - 1)
        file = out.save(f"bad-type-{kind}-body", w.build())
        out.bad(file, "damaged", f"type {kind}: a bit of the wrapped key flipped", (name,))
        w = Writer(name + " length", text()).to(name)
        body = w.stanzas[0][12:-1]
        w.stanzas = [stanza(kind, 1, hashlib.sha256(PEOPLE[name].public).digest()[:8], body)]
        file = out.save(f"bad-type-{kind}-length", w.build())
        out.bad(file, "no-identity", f"type {kind}: a body too short is no stanza", (name,))
    w = Writer("hpke scope", text()).to("p256", 2)
    w.stanzas[0] = w.stanzas[0][:1] + bytes([1]) + w.stanzas[0][2:]
    file = out.save("bad-type-2-scope", w.build())
    out.bad(file, "damaged", "type 2: a stanza of the tags scope shown as one of full", ("p256",))
    w = Writer("rsa scope", text()).to("rsa", 2)
    w.stanzas[0] = w.stanzas[0][:1] + bytes([1]) + w.stanzas[0][2:]
    file = out.save("bad-type-3-scope", w.build())
    out.bad(file, "damaged", "type 3: the same, which the slot's code tells", ("rsa",))
    w = Writer("hpke object", text())
    other = Writer("hpke other object", text()).to("p256")
    w.stanzas = other.stanzas
    file = out.save("bad-type-2-object", w.build())
    out.bad(file, "damaged", "type 2: a stanza of another object", ("p256",))
    w = Writer("many kinds", native("many kinds", 13, 7)).to("p256").to("rsa", 2).to("p521", 3)
    file = out.save("types-2-3-13-scopes", w.build())
    out.good(file, w.original(), ("p256",), note="the scopes full, tags, pixels of types 2, 3, 13")
    out.good(file, w.original(TAGS, TAIL), ("rsa",), "tags", "tags", "by the tags key")
    out.good(file, w.original(PIXELS), ("p521",), "pixels", "pixels", "by the pixels key")


def main(folder):
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{folder} exists; the vectors are written into a new folder only")
    out = Collection(folder)
    good_objects(out)
    good_frame_run_limits(out)
    key_files(out)
    bad_objects(out)
    other_keys(out)
    signed_objects(out)
    people = PEOPLE.items()
    document = {
        "about": "Objects of docs/spec/dcmx-v1.md. exit: status of tools/dcmx_rescue.py; failure: "
        "the class of the failure; part: what is asked for, null is the whole file; scope: what "
        "the identities open; sha256 and size: of the plaintext of that part.",
        "identities": {name: person.identity for name, person in people},
        "recipients": {name: person.recipient for name, person in people},
        "objects": out.entries,
    }
    write_json(folder / "objects.json", document, "objects")
    write_json(folder / "block-layer-v1.json", block_layer(), "cases")


def write_json(path, document, rows):
    """One row a line, so that a changed vector is one changed line."""
    lines = ",\n".join(json.dumps(row) for row in document[rows])
    head = json.dumps({k: v for k, v in document.items() if k != rows}, indent=1)[:-2]
    path.write_text(f'{head},\n "{rows}": [\n{lines}\n ]\n}}\n')
    assert json.loads(path.read_text()) == document


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_vectors.py NEW_FOLDER")
    main(sys.argv[1])
