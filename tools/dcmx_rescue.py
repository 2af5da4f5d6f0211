#!/usr/bin/env python3
"""Opens DCMX version 1 objects without the program that wrote them.

This one file, Python 3.9 or later and the package `cryptography` (44 or later; 47 or later
for ML-KEM keys) are enough. It was written from the two
specifications alone, docs/spec/dcmx-v1.md ("D" in the comments below) and
docs/spec/block-layer-v1.md ("B"), and is to be read from top to bottom beside them.

    python dcmx_rescue.py OBJECT.dcmx -i KEYFILE -o OUT        one object, with a key file
    python dcmx_rescue.py OBJECT.dcmx -p -o OUT                one object, passphrase asked for
    python dcmx_rescue.py OBJECT.dcmx -i KEY.pem -o OUT        private key: PEM, DER, PKCS #12
    python dcmx_rescue.py FOLDER -i KEYFILE -o OUTFOLDER       every .dcmx file below FOLDER
    python dcmx_rescue.py OBJECT.dcmx -i KEYFILE --part tags -o OUT    holders of one scope
    python dcmx_rescue.py OBJECT.dcmx --list                   what the header shows
    python dcmx_rescue.py vault FOLDER --keys TABLE -i KEYFILE -o OUTFOLDER    all of a vault

A vault (docs/spec/vault-v1.md, "V", and docs/keytable.md, "K") needs its key table, which lies
elsewhere. Its catalogue has the paths, several of an object that is stored once for identical
files; where it cannot be read, each object gets the one path that stands in it, and the status
is 1.

Of a signed object it checks that the content is what the manifest says, and leaves the signature
of the manifest to others: with --signature-out F it writes the signature to F and the manifest to
F.manifest, and then

    openssl cms -verify -binary -inform DER -in F -content F.manifest -CAfile CA.pem -purpose any

Exit status: 0 all done, 1 some inputs failed, 2 usage, 3 no identity fits or the passphrase
is wrong, 4 damaged or forged or refused.
"""

import argparse
import base64
import getpass
import hashlib
import hmac
import os
import pathlib
import re
import sqlite3
import stat
import struct
import sys
import unicodedata
import zlib
from operator import itemgetter

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

MAGIC = b"\x89DCMX\r\n\x1a"
END_MAGIC = b"DCMXEND1"
CHUNK, TAG = 16384, 16
TAGS, PIXELS, TAIL, OPAQUE = 1, 2, 3, 4
STREAM_NAMES = {TAGS: "tags", PIXELS: "pixels", OPAQUE: "opaque", TAIL: "tail"}
FILE_ORDER = (TAGS, PIXELS, OPAQUE, TAIL)  # D 1: the order in the object and in the file
FULL, BATCH = 1, 4
SCOPE_NAMES = {1: "full", 2: "tags", 3: "pixels", 4: "batch"}
STANZA_NAMES = {1: "x25519", 4: "mlkem768-x25519", 5: "scrypt", 6: "argon2id", 7: "batch"}
STANZA_NAMES |= {2: "p-256", 3: "rsa-oaep", 10: "mlkem768", 11: "mlkem1024", 12: "p-384"}
STANZA_NAMES |= {13: "p-521", 9: "vault"}
BODY_SIZES = {1: 80, 2: 113, 4: 1168, 5: 89, 6: 94, 7: 56}  # D 4.2; type 3: as its modulus
BODY_SIZES |= {9: 88, 10: 1136, 11: 1616, 12: 145, 13: 181}
PASSPHRASE_TYPES = (5, 6)
SCOPE_STREAMS = {1: (OPAQUE,), 2: (TAGS, TAIL), 3: (PIXELS,)}  # D 3
SIGNATURE_STREAMS = ((8, 2), (9, 3), (10, 1))  # D 10: stream and scope, in the order of the file
PIECE = 1 << 20
MAX_CMS = 262144
MAX_INDEX = 64 << 20
MAX_KEY_FILE = 1 << 20
PEM_KEY = re.compile(rb"([A-Z ]*PRIVATE KEY-----)\s")
EXIT_STATUS = {"failed": 1, "usage": 2, "no-identity": 3}
EXIT_STATUS |= {"damaged": 4, "refused-header": 4, "refused-version": 4}
# What the system, or a `cryptography` without some algorithm, may raise.
SYSTEM_ERRORS = (OSError, ValueError, OverflowError, MemoryError, ImportError, UnsupportedAlgorithm)


class Failure(Exception):
    """One input could not be opened; `kind` is a key of EXIT_STATUS."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def need(condition, text, kind="damaged"):
    if not condition:
        raise Failure(kind, text)


def open_regular(path):
    """Open a regular file for reading; never waits for a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Failure("usage", path + " is no regular file")
    return file


# ---- Key derivation: HKDF (RFC 5869) and HPKE base mode (RFC 9180) --------------------------


def expand(key, info, size, digest="sha512"):
    """HKDF-Expand; with SHA-512 it is `Expand` of the specification."""
    out = block = b""
    number = 0
    while len(out) < size:
        number += 1
        block = hmac.new(key, block + info + bytes([number]), digest).digest()
        out += block
    return out[:size]


def label(name, number, core):
    """D 3: L(label, s)."""
    return b"dcmx/1 " + name + b"\0" + bytes([number]) + core


def scope_keys(object_key, core):
    """D 3: {scope: scope key} of the object key."""
    raw = expand(object_key, label(b"scopes", 0, core), 96)
    return {1: raw[:32], 2: raw[32:64], 3: raw[64:]}


def keys_of_scope(scope, scope_key, core):
    """D 3: the slot MAC key, and {stream id: (stream input key, block-layer key)}."""
    ids = SCOPE_STREAMS[scope]
    raw = expand(scope_key, label(b"scope", scope, core), 32 + 96 * len(ids))
    parts = [raw[32 + 96 * i : 128 + 96 * i] for i in range(len(ids))]
    return raw[:32], {ids[i]: (part[:32], part[32:]) for i, part in enumerate(parts)}


def hpke_extract(suite, salt, name, data, digest="sha256"):
    return hmac.new(salt, b"HPKE-v1" + suite + name + data, digest).digest()


def hpke_expand(suite, key, name, info, size, digest="sha256"):
    info = size.to_bytes(2, "big") + b"HPKE-v1" + suite + name + info
    return expand(key, info, size, digest)


def dhkem(kem, dh, context, size, digest="sha256"):
    """RFC 9180 section 4.1: ExtractAndExpand."""
    suite = b"KEM" + struct.pack(">H", kem)
    key = hpke_extract(suite, b"", b"eae_prk", dh, digest)
    return hpke_expand(suite, key, b"shared_secret", context, size, digest)


def hpke_open(kem, shared_secret, info, ciphertext):
    """RFC 9180 section 5.1 in base mode and one Open, HKDF-SHA256, AES-256-GCM, no AAD."""
    suite = b"HPKE" + struct.pack(">HHH", kem, 1, 2)
    context = b"\0" + hpke_extract(suite, b"", b"psk_id_hash", b"")
    context += hpke_extract(suite, b"", b"info_hash", info)
    secret = hpke_extract(suite, shared_secret, b"secret", b"")
    key = hpke_expand(suite, secret, b"key", context, 32)
    nonce = hpke_expand(suite, secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, None)


class X25519Identity:
    """D 4.2, type 1."""

    stanza_type, enc_size = 1, 32

    def __init__(self, private):
        self.x = X25519PrivateKey.from_private_bytes(private)
        self.public = self.x.public_key().public_bytes_raw()

    def open(self, enc, ciphertext, info):
        shared = self.x.exchange(X25519PublicKey.from_public_bytes(enc))
        return hpke_open(0x0020, dhkem(0x0020, shared, enc + self.public, 32), info, ciphertext)


class XWingIdentity:
    """D 4.2, type 4: ML-KEM-768 and X25519, both of which would have to be broken."""

    stanza_type, enc_size = 4, 1120

    def __init__(self, seed):
        try:  # imported here so that all other objects open where ML-KEM is not there
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        except ImportError:
            raise Failure("usage", "this `cryptography` is too old for ML-KEM keys") from None
        raw = hashlib.shake_256(seed).digest(96)
        self.m = MLKEM768PrivateKey.from_seed_bytes(raw[:64])
        self.x = X25519PrivateKey.from_private_bytes(raw[64:])
        self.public = self.m.public_key().public_bytes_raw()
        self.public += self.x.public_key().public_bytes_raw()

    def open(self, enc, ciphertext, info):
        shared = self.m.decapsulate(enc[:1088])
        shared += self.x.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        shared += enc[1088:] + self.public[1184:] + b"\\.//^\\"  # the label of X-Wing
        return hpke_open(0x647A, hashlib.sha3_256(shared).digest(), info, ciphertext)


def spki(key):
    """D 4.2: what the hints of all types but 1 and 4 are made of."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class CurveIdentity:
    """D 4.2, types 2, 12 and 13: {curve: (type, KEM, hash, bytes of a secret, of a point)}."""

    curves = {  # noqa: RUF012
        "secp256r1": (2, 0x0010, "sha256", 32, 65),
        "secp384r1": (12, 0x0011, "sha384", 48, 97),
        "secp521r1": (13, 0x0012, "sha512", 64, 133),
    }

    def __init__(self, key):
        need(key.curve.name in self.curves, "a key on an unknown curve", "usage")
        self.key, self.public = key, spki(key.public_key())
        self.stanza_type, self.kem, self.digest, self.size, self.enc_size = self.curves[
            key.curve.name
        ]

    def open(self, enc, ciphertext, info):
        shared = self.key.exchange(ECDH(), from_point(self.key.curve, enc))
        own = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = dhkem(self.kem, shared, enc + own, self.size, self.digest)
        return hpke_open(self.kem, secret, info, ciphertext)


def from_point(curve, data):
    return EllipticCurvePublicKey.from_encoded_point(curve, data)


class RsaIdentity:
    """D 4.2, type 3. All of the body is the ciphertext."""

    stanza_type, enc_size = 3, 0

    def __init__(self, key):
        need(2048 <= key.key_size <= 16384, "an RSA key of that size", "usage")
        self.key, self.public = key, spki(key.public_key())
        self.body_size = (key.key_size + 7) // 8

    def open(self, enc, ciphertext, info):
        oaep = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        key = self.key.decrypt(ciphertext, oaep)
        if len(key) != 32:
            raise ValueError
        return key


class MlkemIdentity:
    """D 4.2, types 10 and 11."""

    def __init__(self, key):
        self.key, self.public = key, spki(key.public_key())
        large = type(key).__name__.startswith("MLKEM1024")
        self.stanza_type, self.kem, self.enc_size = (
            (11, 0x0042, 1568) if large else (10, 0x0041, 1088)
        )

    def open(self, enc, ciphertext, info):
        return hpke_open(self.kem, self.key.decapsulate(enc), info, ciphertext)


def identity_of(key):
    """The identity of a private key from a file of another program."""
    if isinstance(key, X25519PrivateKey):
        return X25519Identity(key.private_bytes_raw())
    if isinstance(key, EllipticCurvePrivateKey):
        return CurveIdentity(key)
    if isinstance(key, RSAPrivateKey):
        return RsaIdentity(key)
    need(type(key).__name__.startswith("MLKEM"), "a key that cannot decrypt", "usage")
    return MlkemIdentity(key)


ALGORITHMS = {"x25519": X25519Identity, "mlkem768-x25519": XWingIdentity}


class Keyring:
    """The identities and the passphrase the user gave."""

    def __init__(self, identities=(), passphrase=None):
        self.identities = {
            (i.stanza_type, hashlib.sha256(i.public).digest()[:8]): i for i in identities
        }
        self.passphrase = passphrase
        self.derived = {}  # objects of one job share their KDF parameters

    def run_kdf(self, kind, parameters, salt):
        """D 4.2, types 5 and 6; the limits are checked before any memory is taken."""
        secret = unicodedata.normalize("NFC", self.passphrase).encode()
        if kind == 5:
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

            need(15 <= parameters[0] <= 20, "scrypt parameter out of range")
            return Scrypt(salt=salt, length=32, n=1 << parameters[0], r=8, p=1).derive(secret)
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        memory, passes, lanes = struct.unpack("<IBB", parameters)
        fine = 1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= 2097152
        need(fine, "Argon2id parameters out of range")
        kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        return kdf.derive(secret)

    def open_stanza(self, kind, scope, hint, body, bindings):
        """D 4.2: [(binding, 32 bytes)]; None where the stanza is not for this keyring."""
        info = b"dcmx/1 stanza\0" + bytes([kind, scope])
        opened = []
        if kind in PASSPHRASE_TYPES:
            if self.passphrase is None:
                return None
            head, commitment, wrapped = body[:-72], body[-72:-40], body[-40:]
            if (kind, head) not in self.derived:
                self.derived[kind, head] = self.run_kdf(kind, head[:-16], head[-16:])
            for binding in bindings:
                both = expand(self.derived[kind, head], info + binding, 64)
                if hmac.compare_digest(both[32:], commitment):
                    opened += [(binding, key) for key in unwrap_aes(both[:32], wrapped)]
                    need(opened, "the key under the passphrase is damaged")
            return opened or None
        identity = self.identities.get((kind, hint))
        if identity is None:
            return None
        if len(body) != getattr(identity, "body_size", len(body)):
            return None  # a type 3 stanza of another length than the modulus
        enc, ciphertext = body[: identity.enc_size], body[identity.enc_size :]
        for binding in bindings:
            try:
                opened.append((binding, identity.open(enc, ciphertext, info + binding)))
            except (InvalidTag, ValueError):
                continue
        return opened


def unwrap_aes(key, wrapped):
    """[the unwrapped key], or [] when it was wrapped under another one."""
    try:
        return [aes_key_unwrap(key, wrapped)]
    except InvalidUnwrap:
        return []


# ---- A vault's key table (K 1, K 2) and its keys (V 2) ----------------------------------------


class KeyTable:
    """The rows of a key table that a keyring opens."""

    def __init__(self, path, keyring):
        self.rows = {}
        with open_regular(path) as file:
            need(file.read(16) == b"SQLite format 3\0", path + ": not a key table", "usage")
        name = pathlib.Path(path).absolute().as_uri() + "?mode=ro"
        try:
            database = sqlite3.connect(name, uri=True)
            for space in ("head", "access", "entries", "documents"):
                query = "SELECT key, value FROM " + space  # noqa: S608
                self.rows[space] = dict(database.execute(query))
            database.close()
        except sqlite3.Error as error:
            raise Failure("damaged", f"{path}: {error}") from None
        head = self.rows["head"].get(b"head", b"")
        need(len(head) == 96, path + ": the key table has no head")
        self.table_id = head[:16]
        self.key = self.unlock(keyring)
        seal = hmac.new(self.derive(b"head", b""), head[:64], "sha256").digest()
        need(hmac.compare_digest(seal, head[64:]), path + ": the head was changed")

    def unlock(self, keyring):
        for name, value in self.rows["access"].items():
            kind, scope, size = struct.unpack_from("<BBH", value)
            need(scope == 5 and len(value) == 12 + size, "an access of the key table is damaged")
            start = b"dcmx/1 keytable access\0" + self.table_id + name
            bindings = [hashlib.sha256(start).digest()]
            opened = keyring.open_stanza(kind, scope, value[4:12], value[12:], bindings)
            for _, key in opened or ():
                return key
        raise Failure("no-identity", "no identity fits the key table, or the passphrase is wrong")

    def derive(self, purpose, name):
        info = b"dcmx/1 keytable " + purpose + b"\0" + self.table_id + name
        return expand(self.key, info, 32)

    def open_row(self, purpose, name, head, sealed):
        cipher = AESGCM(self.derive(purpose, name))
        try:
            return cipher.decrypt(sealed[:12], sealed[12:], self.table_id + name + head)
        except InvalidTag:
            raise Failure("damaged", "a row of the key table was changed") from None

    def document(self, name):
        value = self.rows["documents"].get(name)
        need(value is not None, "the key table is no vault's", "usage")
        return self.open_row(b"document", name, value[:8], value[8:])

    def entry(self, key_id, kind):
        """The key; None if there is none of this kind: it was erased."""
        value = self.rows["entries"].get(key_id)
        if value is None or value[9 : 9 + value[8]] != kind:
            return None
        at = 9 + value[8]
        return self.open_row(b"entry", key_id, value[:at], value[at:])[:32]


class VaultKeyring(Keyring):
    """V 2.1: opens stanzas of type 9 with the keys of a key table."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        document = cbor_decode(table.document(b"vault"))
        need(document.get(0) == 1, "the vault is of an unknown version", "usage")
        self.vault_id = document[1]
        self.stanza_keys, self.catalogue_keys = [], []
        for key_id in document[2]:
            key = table.entry(key_id, b"vault")
            need(key is not None, "the key table lacks a vault key")
            info = b"dcmx/1 vault stanza\0" + self.vault_id
            self.stanza_keys.append(AESGCM(expand(key, info, 32)))
            info = b"dcmx/1 vault catalogue\0" + self.vault_id
            self.catalogue_keys.append(AESGCM(expand(key, info, 32)))

    def open_stanza(self, kind, scope, hint, body, bindings):
        if kind != 9 or scope != FULL or hint != self.vault_id[:8]:
            return None
        generation = struct.unpack_from("<I", body)[0]
        need(0 < generation <= len(self.stanza_keys), "the key table is older than the object")
        seal, core = self.stanza_keys[generation - 1], bindings[0]
        try:
            content = seal.decrypt(body[4:16], body[16:], b"dcmx/1 stanza\0\x09\x01" + core)
        except InvalidTag:
            return []
        record = self.table.entry(content[:16], b"record")
        need(record is not None, "the object's record was erased", "no-identity")
        key = expand(record, b"dcmx/1 vault kek\0" + core, 32)
        return [(core, found) for found in unwrap_aes(key, content[16:])]


class Catalogue:
    """V 3 and 4: the paths of each object, as far as the catalogue can be read."""

    def __init__(self, folder, keyring):
        self.folder, self.keyring = os.path.join(folder, "catalogue"), keyring
        self.added = {}  # (record key id, object id, path): time of adding
        self.complete = self.guarded("the catalogue", self.read_head)

    def guarded(self, what, action, *args):
        """Whether it could be read. What is wrong with one part does not keep others back."""
        try:
            action(*args)
        except (*SYSTEM_ERRORS, Failure, InvalidTag, zlib.error, struct.error, KeyError, TypeError,
                IndexError, AttributeError) as error:  # fmt: skip
            text = "is damaged or forged" if isinstance(error, InvalidTag) else str(error)
            sys.stderr.write(f"dcmx_rescue: {what}: {text}: further paths may be missing\n")
            return False
        return True

    def unseal(self, g, sealed, head):
        need(0 < g <= len(self.keyring.catalogue_keys), "the key table is older than this")
        return self.keyring.catalogue_keys[g - 1].decrypt(sealed[:12], sealed[12:], head)

    def read_head(self):
        """V 4.2. An old copy is read too, and told: its rows are better than none."""
        with open_regular(os.path.join(self.folder, "head")) as file:
            data = file.read(1 << 20)
        need(data[:24] == b"DCMXHED1" + self.keyring.vault_id, "the head is another vault's")
        g, generation = struct.unpack_from("<IQ", data, 24)
        listed = cbor_decode(self.unseal(g, data[36:], data[:36]))
        fine = True
        for part in zip(listed[0], listed[1], listed[2]):  # noqa: B905
            fine &= self.guarded("segment " + part[0].hex(), self.read_segment, *part)
        need(fine, "not all of it can be read")
        state = cbor_decode(self.keyring.table.document(b"state"))
        old = generation < state.get(0, 0) or g < state.get(1, 0)
        need(not old, "an old copy, from before the key table's last change")

    def read_segment(self, segment_id, digest, size):
        """V 4.1. Of one that was changed the frames are read that authenticate."""
        with open_regular(os.path.join(self.folder, segment_id.hex() + ".seg")) as file:
            data = file.read(size + 1)
        start = b"DCMXSEG1" + self.keyring.vault_id + segment_id
        need(data[:40] == start and len(data) >= 68, "is another segment, or cut")
        g, _, length = struct.unpack_from("<IIQ", data, 40)
        at, fine, name = 68 + length, True, segment_id.hex()
        directory = cbor_decode(self.unseal(g, data[56:at], data[:56]))
        for number, (key_id, length) in enumerate(zip(*map(directory.get, (0, 1)))):  # noqa: B905
            frame = data[at : at + length]
            what = f"frame {number} of segment {name}"
            fine &= self.guarded(what, self.read_frame, key_id, frame, start[8:], number)
            at += length
        right = hmac.compare_digest(hashlib.sha256(data).digest(), digest)
        need(fine and right and len(data) == size == at, "not all of it can be read")

    def read_frame(self, key_id, data, binding, number):
        """V 4.1. One whose key was erased or replaced is skipped."""
        table = self.keyring.table
        need(key_id in table.rows["entries"], "the key table has no key for it")
        key = table.entry(key_id, b"record")
        if key is None:
            return
        cipher = AESGCM(expand(key, b"dcmx/1 vault rows\0" + self.keyring.vault_id, 32))
        aad = b"dcmx/1 vault frame\0" + binding + struct.pack("<I", number)
        engine = zlib.decompressobj()
        frame = engine.decompress(cipher.decrypt(data[:12], data[12:], aad), 16 << 20)
        frame = cbor_decode(frame)
        need(engine.eof and not engine.unused_data, "a frame is too long or cut")
        n, folders = frame[10], []
        need(n <= 16384, "a frame has too many rows")
        for group in frame.get(11, []):  # key 2 of a group: the folder, with its last "/"
            need(0 < group[0] <= n - len(folders), "the groups of a frame contradict")
            folders += [dict(zip(group[1::2], group[2::2])).get(2, b"")] * group[0]  # noqa: B905
        need(len(folders) == n, "the groups of a frame contradict")
        columns = []
        for key in (0, 2, 1, 6):
            column = frame.get(key, [])
            if column == [] or type(column) is not list:
                column = [column] * n
            need(len(column) == n, "the columns of a frame contradict")
            columns.append(column)
        for folder, object_id, name, state, added in zip(folders, *columns):  # noqa: B905
            row = key_id, object_id, folder + name
            self.added.pop(row, None)
            if state in (0, []):
                self.added[row] = added or 0

    def names(self):
        """{object id: [path]}. Of several objects of one path the last that was added has it, and
        the others the first 8 digits of their ids behind it (V 3)."""
        objects, names = {}, {}
        for (_, object_id, path), added in self.added.items():
            objects.setdefault(path, {})[object_id] = added
        for path, times in objects.items():
            *others, last = sorted(times, key=times.get)
            names.setdefault(last, []).append(path)
            for object_id in others:
                names.setdefault(object_id, []).append(path + b"." + object_id.hex()[:8].encode())
        return names


# ---- Deterministic CBOR (D 6) ---------------------------------------------------------------


def cbor_decode(data):
    """The index as a dict. Anything but its one right encoding is refused: what has definite
    lengths, shortest forms, ascending keys and UTF-8 text encodes to the same bytes again."""

    def item(at, depth):  # depth: the number of arrays around it, -1 for the index itself
        need(at < len(data), "index ends early")
        major, value = data[at] >> 5, data[at] & 31
        need(value < 28, "index has an indefinite or reserved length")
        size = 1 << value - 24 if value >= 24 else 0
        at += 1 + size
        if size:
            value = int.from_bytes(data[at - size : at], "big")
            need(value >= (24 if size == 1 else 1 << 4 * size), "a number is too long or cut")
        if major < 2:
            return (value if major == 0 else -1 - value), at
        # Each element takes a byte or more, so a count cannot promise more than is there.
        need(major < 6 and value <= len(data) - at, "index ends early, or holds a tag or a float")
        if major < 4:
            raw = data[at : at + value]
            return (raw if major == 2 else raw.decode("utf-8")), at + value
        if major == 4:
            need(depth < 16, "index is nested too deeply")
            array = []
            for _ in range(value):
                element, at = item(at, depth + 1)
                array.append(element)
            return array, at
        need(depth == -1, "index holds a map")
        result, last = {}, -1
        for _ in range(value):
            key, at = item(at, 0)
            need(type(key) is int and key > last, "index keys are not ascending integers")
            last = key
            result[key], at = item(at, 0)
        return result, at

    try:
        value, end = item(0, -1)
    except UnicodeDecodeError:
        raise Failure("damaged", "index holds text that is not UTF-8") from None
    need(type(value) is dict and end == len(data), "index is not one map")
    return value


# ---- The block layer, inverted (B) ----------------------------------------------------------

TILE, UNIT = 16384, 4 << 20
SHIFT_255 = bytes([1, *range(1, 256)])  # B 4: k' = max(k, 1)


def xor(a, b):
    value = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    return value.to_bytes(len(a), "little")


def subtract(a, b):
    """a - b modulo 256 in every byte, as one long integer: bit 7 is set in a and cleared in b,
    so that no byte borrows from the next, and mended afterwards."""
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    high = int.from_bytes(b"\x80" * len(a), "little")
    result = ((x | high) - (y & ~high)) ^ ((x ^ y ^ high) & high)
    return result.to_bytes(len(a), "little")


def aes_ctr(key, counter, size):
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(size))


def read_runs(runs, methods, size):
    """B 1 and 2: the units of a stream of `size` bytes as (offset, length, R, W, split, methods),
    R = 0 in linear units, or a Failure for runs and methods that break a rule."""
    if runs is None:
        need(methods is None, "methods without runs")
        return
    need(type(runs) is list and type(methods) is bytes, "runs or methods are missing")
    end = count = 0
    for run in runs:
        fine = type(run) is list and len(run) in (2, 5)
        need(fine and all(type(v) is int and v >= 0 for v in run), "malformed run")
        need(run[0] >= end and run[1] >= 1, "runs overlap, are out of order or empty")
        end = run[0] + run[1]
        need(end <= size, "run ends outside the payload")
        if len(run) == 5:
            rows, width, split = run[2:]
            fine = 1 <= rows < 1 << 32 and 1 <= width <= 1 << 20 and rows * width < 1 << 48
            fine &= 2 * split >= width and (split == width or 3 * (width - split) >= width)
            need(fine, "frame run with a wrong shape")
        count += -(-run[1] // (UNIT if len(run) == 2 else run[2] * run[3]))
        need(count <= 1 << 26, "too many units")
    need(count == len(methods), "the number of methods is not that of the units")
    wrong = {b for b in range(256) if 3 in (b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6)}
    need(wrong.isdisjoint(methods), "unknown method")
    number = 0
    for run in runs:
        shape = (0, 0, 0) if len(run) == 2 else tuple(run[2:])
        step = shape[0] * shape[1] or UNIT
        for start in range(0, run[1], step):
            yield (run[0] + start, min(step, run[1] - start), *shape, methods[number])
            number += 1


class BlockLayer:
    def __init__(self, key):
        self.key = key[:32]
        words = struct.unpack("<1263I", aes_ctr(key[32:], bytes(16), 5052))
        at = 0
        tables = []
        for size in [1024] + [16] * 16:  # B 3.1
            table = list(range(size))
            for i in range(size - 1, 0, -1):
                j = words[at] * (i + 1) >> 32
                table[i], table[j] = table[j], table[i]
                at += 1
            tables.append(table)
        self.pi, self.mask = tables[0], tables[1:]
        self.gather = {}

    def keystream(self, unit, block, stage, size):
        counter = unit.to_bytes(6, "big") + bytes([block, stage]) + bytes(8)  # B 3
        return aes_ctr(self.key, counter, size)

    def untranspose(self, unit, block, data):
        """The inverse of stage T. B 4 has out[16j+b] = in[16 pi_L[(j+rot) mod L] + mask[...][b]];
        here the bytes go back within all cells first, then the cells within each tile."""
        cells, rest = len(data) // 16, len(data) % 16
        end = 16 * cells
        inner = bytearray(end)
        for m in range(16):  # tiles are whole multiples of the 256 bytes after which masks recur
            for b in range(16):
                inner[16 * m + self.mask[m][b] :: 256] = data[16 * m + b : end : 256]
        tail = bytearray(rest)
        for b, to in enumerate([v for v in self.mask[0] if v < rest]):
            tail[to] = data[end + b]
        rotations = self.keystream(unit, block, 3, -(-end // TILE) * 2)
        out = []
        for t in range(-(-end // TILE)):
            tile = inner[TILE * t : TILE * (t + 1)]
            count = len(tile) // 16
            if count not in self.gather:
                pi = [v for v in self.pi if v < count]
                order = [0] * count
                for i, v in enumerate(pi):
                    order[v] = i
                # One index more than needed: itemgetter gives a tuple for two or more.
                self.gather[count] = struct.Struct("16s" * count), itemgetter(*order, 0)
            cell_format, get = self.gather[count]
            parts = cell_format.unpack(tile)
            rotate = count - int.from_bytes(rotations[2 * t : 2 * t + 2], "little") % count
            out.extend(get(parts[rotate:] + parts[:rotate])[:-1])
        return b"".join(out) + tail

    def decrypt_block(self, unit, block, method, data):
        """B 4, the stages of B 2 in reverse order."""
        if method == 1:
            return subtract(data, self.keystream(unit, block, 2, len(data)))
        if method == 2:
            shift = self.keystream(unit, block, 2, len(data)).translate(SHIFT_255)
            data = subtract(shift, data) if unit % 2 else subtract(data, shift)
        data = xor(data, self.keystream(unit, block, 1, len(data)))
        return self.untranspose(unit, block, data)

    def decrypt_unit(self, unit, data, rows, width, split, methods):
        size = len(data)
        if rows:  # B 1: a block is a list of row pieces, cut at the end of a cut unit
            upper, last = (rows + 1) // 2, -(-size // width)
            pieces = []
            for first, stop in ((0, min(upper, last)), (upper, last)):
                starts = range(first * width, stop * width, width)
                for low, high in ((0, split), (split, width)):
                    cut = [(s + low, min(s + high, size)) for s in starts]
                    pieces.append([(a, b) for a, b in cut if a < b])
        else:
            borders = [size * k // 4 for k in range(5)]
            pieces = [[(borders[k], borders[k + 1])] for k in range(4)]
        out = bytearray(size)
        for k in range(4):
            block = b"".join([data[a:b] for a, b in pieces[k]])
            if block:
                block = self.decrypt_block(unit, k, methods >> 2 * k & 3, block)
            at = 0
            for a, b in pieces[k]:
                out[a:b] = block[at : at + b - a]
                at += b - a
        return bytes(out)


# ---- One stream: C2SP chunked encryption (D 2) ----------------------------------------------


class Stream:
    """Random access to the plaintext of a sealed stream; each chunk is verified when read."""

    def __init__(self, file, offset, length, key, context):
        body = length - 56
        last = body % (CHUNK + TAG)
        need(body >= TAG and last >= TAG, "a stream has an impossible length")
        self.size = body - TAG * (body // (CHUNK + TAG) + 1)
        self.file, self.start = file, offset + 56
        file.seek(offset)
        head = read_exactly(file, 56)
        info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + head[:24] + context
        keys = expand(key, info, 76)
        need(hmac.compare_digest(keys[44:], head[24:]), "the commitment of a stream is wrong")
        self.aead, self.nonce = AESGCM(keys[:32]), int.from_bytes(keys[32:44], "big")
        self.cached = (-1, b"")

    def chunk(self, number):
        if self.cached[0] != number:
            self.file.seek(self.start + number * (CHUNK + TAG))
            size = min(CHUNK, self.size - number * CHUNK)
            sealed = read_exactly(self.file, size + TAG)
            nonce = (self.nonce ^ number).to_bytes(12, "big")
            try:
                self.cached = (number, self.aead.decrypt(nonce, sealed, None))
            except InvalidTag:
                raise Failure("damaged", "a chunk of a stream is not authentic") from None
        return self.cached[1]

    def read(self, offset, length):
        if not length:
            return b""
        first = offset // CHUNK
        chunks = [self.chunk(i) for i in range(first, (offset + length - 1) // CHUNK + 1)]
        return b"".join(chunks)[offset - first * CHUNK :][:length]

    def verify_end(self):
        """The last chunk may be empty, and then no read touches it."""
        self.chunk(self.size // CHUNK)


def read_exactly(file, size):
    data = file.read(size)
    need(len(data) == size, "file ends early")
    return data


# ---- One object (D 1, 4, 6, 7) --------------------------------------------------------------


class DcmxObject:
    def __init__(self, file):
        """D 7 step 1: refuses what can be seen without a key."""
        self.file = file
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        need(file.read(8) == MAGIC, "not a DCMX object", "refused-header")
        file.seek(0)
        self.core = read_exactly(file, 64)
        version, suite, self.flags, reserved = struct.unpack_from("<BBHI", self.core, 8)
        need(version == 1, f"version {version} is unknown", "refused-version")
        need(suite == 1, f"suite {suite} is unknown", "refused-version")
        need(self.flags <= 1, f"flags {self.flags:#x} are unknown", "refused-version")
        need(reserved == 0, "reserved bytes of the header are set", "refused-header")
        self.capacity_bytes = read_exactly(file, 8)
        self.capacity, complement = struct.unpack("<II", self.capacity_bytes)
        fine = self.capacity ^ complement == 0xFFFFFFFF and self.capacity % 512 == 0
        need(fine and 512 <= self.capacity <= 1 << 20, "broken slot capacity", "refused-header")
        need(size >= 72 + 2 * self.capacity + 96, "file is too short")
        slots = [self.parse_slot(read_exactly(file, self.capacity), i) for i in (0, 1)]
        self.slots = sorted((s for s in slots if s), reverse=True)
        file.seek(size - 96)
        self.read_trailer(read_exactly(file, 96), size)
        self.keys = {}  # scope: scope key
        self.stream_keys = {}  # stream: (input key, block-layer key)
        self.streams = {}
        self.indexes = {}
        self.manifest = self.cms = None
        self.leaves = {}

    def read_trailer(self, raw, size):
        values = struct.unpack_from("<11Q", raw)
        need(raw[88:] == END_MAGIC, "the trailer is missing: cut off, or bytes behind it")
        need(values[10] == size, "the trailer states another length of the file")
        pairs = {i: values[2 * i - 2 : 2 * i] for i in FILE_ORDER}
        self.places = {i: pair for i, pair in pairs.items() if pair != (0, 0)}
        at = 72 + 2 * self.capacity
        for i in FILE_ORDER:
            if i in self.places:
                need(self.places[i][0] == at, "the streams have gaps or overlap")
                at += self.places[i][1]
        self.signatures = None
        if values[8:10] != (0, 0):
            self.signatures = values[8], values[9] // 3
            fine = values[8] == at and values[9] % 3 == 0 and values[9] >= 3 * 72
            need(fine, "the trailer is wrong about the signatures")
            at += values[9]
        need(at == size - 96, "the streams do not end at the trailer")
        present = set(self.places)
        need(present == {OPAQUE} or present >= {TAGS, TAIL}, "a stream is missing")

    def parse_slot(self, raw, number):
        """D 4: (generation, [(type, scope, hint, body)], authenticated bytes, MACs) or None."""
        generation, used, count, reserved = struct.unpack_from("<IIHH", raw)
        right = generation >= 2 and generation % 2 == number and reserved == 0 and count <= 1024
        if not right or not 12 <= used <= self.capacity - 96 or any(raw[used:-96]):
            return None
        stanzas, at = [], 12
        for _ in range(count):
            if at + 12 > used:
                return None
            kind, scope, size = struct.unpack_from("<BBH", raw, at)
            stanzas.append((kind, scope, raw[at + 4 : at + 12], raw[at + 12 : at + 12 + size]))
            at += 12 + size
        kinds = [stanza[0] for stanza in stanzas]
        if at != used or kinds.count(5) + kinds.count(6) > 8 or kinds.count(7) > 8:
            return None
        macs = raw[-96:]
        return generation, stanzas, raw[:used], (macs[:32], macs[32:64], macs[64:])

    # -- D 4: finding the active slot

    def open(self, keyring):
        """Finds the active slot. What is wrong with one slot is told only if none is active."""
        need(self.slots, "no slot of the header is well-formed")
        failure = Failure("no-identity", "no identity fits, or the passphrase is wrong")
        for _, stanzas, authenticated, macs in self.slots:
            try:
                keys = self.unwrap(stanzas, keyring)
                self.check_macs(keys, authenticated, macs)
            except Failure as error:
                failure = error if failure.kind == "no-identity" else failure
                continue
            if keys:
                self.keys = keys
                for scope, key in keys.items():
                    self.stream_keys.update(keys_of_scope(scope, key, self.core)[1])
                if self.signatures:
                    self.read_signature()
                return
        raise failure

    def check_macs(self, keys, authenticated, macs):
        for scope, key in keys.items():
            mac = HMAC(keys_of_scope(scope, key, self.core)[0], hashes.SHA512_256())
            mac.update(self.core + self.capacity_bytes + authenticated)
            right = hmac.compare_digest(mac.finalize(), macs[scope - 1])
            need(right, "the header is damaged or forged: a MAC is wrong")

    def unwrap(self, stanzas, keyring):
        """{scope: scope key} of what the keyring opens in a slot; {} when nothing fits."""
        phrases = [s for s in stanzas if s[0] in PASSPHRASE_TYPES]
        alone = len(phrases) < 2 and all(s[0] in (*PASSPHRASE_TYPES, 7) for s in stanzas)
        need(alone or not phrases or self.flags & 1, "a passphrase beside other stanzas")
        sized = [s for s in stanzas if len(s[3]) == BODY_SIZES.get(s[0]) or s[0] == 3]
        sevens = [s for s in sized if s[0] == 7 and s[1] in SCOPE_STREAMS]
        batches = list(dict.fromkeys(s[3][:16] for s in sevens))
        found, matched = {}, False  # found: scope -> 32 bytes, scope 1 being the object key
        for stanza in sorted(sized, key=lambda s: s[0] in PASSPHRASE_TYPES):
            scope = stanza[1]
            if stanza[0] == 7 or scope not in SCOPE_NAMES or FULL in found:
                continue
            opened = keyring.open_stanza(*stanza, batches if scope == BATCH else [self.core])
            matched |= opened is not None
            for binding, key in opened or ():
                if scope != BATCH:
                    found.setdefault(scope, key)
                    continue
                for _, scope7, _, body in sevens:  # D 5
                    if body[:16] == binding:
                        kek_info = b"dcmx/1 kek\0" + bytes([scope7]) + binding + self.core
                        for inner in unwrap_aes(expand(key, kek_info, 32), body[16:]):
                            found.setdefault(scope7, inner)
        need(found or not matched, "the header is damaged: a recipient's stanza does not open")
        return scope_keys(found[FULL], self.core) if FULL in found else found

    # -- D 10: what was signed

    def read_signature(self):
        """Reads every signature stream that the keys open; they must be the same."""
        counts = {i: -(-self.places[i][1] // PIECE) for i in sorted(self.places)}
        head = 64 + 41 * len(counts)
        fixed = head + 32 * sum(counts.values())
        found = set()
        offset, length = self.signatures
        for number, scope in SIGNATURE_STREAMS:
            if scope in self.keys:
                key = expand(self.keys[scope], label(b"signature", scope, self.core), 32)
                context = label(b"stream", number, self.core)
                stream = Stream(self.file, offset, length, key, context)
                need(fixed < stream.size <= fixed + MAX_CMS, "the length of the signature is wrong")
                found.add(stream.read(0, stream.size))
                stream.verify_end()
            offset += length
        need(len(found) == 1, "the signatures of the scopes differ")
        plain = found.pop()
        manifest, at = self.core, head
        for number, count in counts.items():
            self.leaves[number] = plain[at : at + 32 * count]
            at += 32 * count
            root = hashlib.sha256(self.leaves[number]).digest()
            manifest += struct.pack("<BQ", number, self.places[number][1]) + root
        need(plain[:head] == manifest, "the signature is of another object")
        self.manifest, self.cms = manifest, plain[at:]

    def check_pieces(self, number):
        """Compares a stream's ciphertext with its leaves."""
        offset, length = self.places[number]
        self.file.seek(offset)
        for at in range(0, length, PIECE):
            piece = hashlib.sha256(read_exactly(self.file, min(PIECE, length - at))).digest()
            leaf = self.leaves[number][32 * (at // PIECE) :][:32]
            need(hmac.compare_digest(piece, leaf), "the content is not what was signed")

    # -- D 6 and 7: indexes, payloads

    def stream(self, number):
        if number not in self.streams:
            offset, length = self.places[number]
            if self.signatures:
                self.check_pieces(number)
            context = label(b"stream", number, self.core)
            key = self.stream_keys[number][0]
            self.streams[number] = Stream(self.file, offset, length, key, context)
        return self.streams[number]

    def index(self, number):
        """(index, payload length) of a stream that ends with an index."""
        if number not in self.indexes:
            stream = self.stream(number)
            need(stream.size >= 4, "a stream is too short for its index")
            size = int.from_bytes(stream.read(stream.size - 4, 4), "little")
            payload = stream.size - 4 - size
            need(size <= MAX_INDEX and payload >= 0, "the length of an index is wrong")
            index = cbor_decode(stream.read(payload, size))
            need(index.get(0) == number, "an index belongs to another stream")
            need([] not in (index.get(2), index.get(12)), "an empty list of runs")
            self.indexes[number] = index, payload
        return self.indexes[number]

    def closing(self):
        """The closing index, or {} where the keys do not open it. Checked by `payload_sizes`."""
        number = TAIL if TAIL in self.places else OPAQUE
        return self.index(number)[0] if number in self.stream_keys else {}

    def payload_sizes(self, wanted):
        """{stream: payload length}, each one checked against all indexes that can be read."""
        sizes, closing = {}, self.closing()
        for number in wanted:
            if number == TAGS:
                sizes[number] = self.stream(TAGS).size
                continue
            index, sizes[number] = self.index(number)
            if index is not closing:
                need(index.get(1) == [number, sizes[number]], "payload lengths contradict")
        if closing:
            listed = closing.get(1)
            fine = type(listed) is list and listed[::2] == sorted(self.places)
            fine = fine and len(listed) == 2 * len(self.places)
            need(fine, "the list of streams is wrong")
            need(all(type(v) is int and v >= 0 for v in listed), "payload lengths are malformed")
            total = {listed[i]: listed[i + 1] for i in range(0, len(listed), 2)}
            need(all(total[i] == sizes[i] for i in sizes), "payload lengths contradict")
            need(closing.get(7) == sum(total.values()), "the size of the file contradicts")
            for key, kind in ((8, bytes), (9, int), (10, int), (11, bytes)):
                need(type(closing.get(key, kind())) is kind, "malformed name, mode, time or link")
            need(0 <= closing.get(9, 0) <= 0o7777, "malformed mode")
            if 11 in closing:
                need(total == {OPAQUE: 0}, "a link with a content")
        return sizes

    def write_streams(self, wanted, out):
        """D 7 steps 3 and 4 for these streams, in the order of the file."""
        for number, size in self.payload_sizes(wanted).items():
            index = self.index(TAIL if number == TAGS else number)[0]
            runs, methods = map(index.get, (12, 13) if number == TAGS else (2, 3))
            stream = self.stream(number)
            layer = BlockLayer(self.stream_keys[number][1]) if runs else None
            at = 0
            for unit, (offset, length, *shape) in enumerate(read_runs(runs, methods, size)):
                copy(stream, at, offset, out)
                out(layer.decrypt_unit(unit, stream.read(offset, length), *shape))
                at = offset + length
            copy(stream, at, size, out)
            stream.verify_end()


def copy(stream, start, end, out):
    for at in range(start, end, 1 << 20):
        out(stream.read(at, min(1 << 20, end - at)))


# ---- Key files and the command line ---------------------------------------------------------


def parse_identities(text, name):
    identities = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = line.split(":")
        fine = len(parts) == 3 and parts[0] == "dcmx-identity-1" and parts[1] in ALGORITHMS
        need(fine, name + ": not an identity this tool knows", "usage")
        try:
            raw = base64.b64decode(parts[2] + "=" * (-len(parts[2]) % 4), b"-_", True)
        except ValueError:
            raw = b""
        prefix = f"dcmx-identity-1:{parts[1]}:".encode()
        right = len(raw) == 36 and hashlib.sha256(prefix + raw[:32]).digest()[:4] == raw[32:]
        need(right, name + ": an identity is mistyped or cut (checksum)", "usage")
        identities.append(ALGORITHMS[parts[1]](raw[:32]))
    need(identities, name + ": holds no identity", "usage")
    return identities


def foreign_identities(data, name, passphrase):
    """The private keys in PEM, DER or PKCS #12, under the passphrase or none."""
    pieces, identities = [], []
    for part in data.split(b"-----BEGIN ")[1:]:
        match = PEM_KEY.match(part)
        end = b"\n-----END " + match[1] if match else b"-"
        if match and end in part:
            pieces.append(b"-----BEGIN " + part[: part.index(end)] + end + b"\n")
    pieces = pieces or [data]
    for piece in pieces:
        for load in (load_pem_private_key, load_der_private_key, load_pkcs12):
            secrets = [None] if passphrase is None else [None, passphrase.encode()]
            for secret in secrets:
                try:
                    key = load(piece, secret)
                except (ValueError, TypeError, UnsupportedAlgorithm):
                    continue
                key = getattr(key, "key", key)  # PKCS #12 has more than the key
                if key is not None:
                    identities.append(identity_of(key))
                    break
    text = ": no private key in it that opens, with this passphrase or none (-p)"
    need(len(identities) >= len(pieces), name + text, "no-identity")
    return identities


def read_key_file(path, passphrase):
    """A text of identities, or a DCMX object sealed with the passphrase that holds one."""
    with open(path, "rb") as file:
        data = file.read(MAX_KEY_FILE)
        if data.startswith(MAGIC):
            need(passphrase is not None, path + ": needs a passphrase (-p)", "usage")
            parts = []
            try:
                sealed = DcmxObject(file)
                sealed.open(Keyring((), passphrase))
                wanted = streams_wanted(sealed, None)
                size = sum(sealed.payload_sizes(wanted).values())
                need(size <= MAX_KEY_FILE, "too long for a key file")
                sealed.write_streams(wanted, parts.append)
            except Failure as error:
                raise Failure(error.kind, f"{path}: {error}") from None
            data = b"".join(parts)
    if b"-----BEGIN " in data or (data[:1] == b"0" and not data.isascii()):
        return foreign_identities(data, path, passphrase)
    try:
        return parse_identities(data.decode("utf-8"), path)
    except UnicodeDecodeError:
        raise Failure("usage", path + ": not a key file") from None


def streams_wanted(obj, part):
    """The streams to give out: all, TAGS | TAIL, or PIXELS (D 6)."""
    ids = {None: FILE_ORDER, "tags": (TAGS, TAIL), "pixels": (PIXELS,)}[part]
    wanted = [i for i in ids if i in obj.places]
    need(wanted, f"the object has no {part}", "failed")
    opened = " and ".join(SCOPE_NAMES[s] for s in sorted(obj.keys))
    text = f"the identity opens the {opened} only (--part)"
    need(all(i in obj.stream_keys for i in wanted), text, "no-identity")
    return wanted


def rescue(path, relative, keyring, options, name=None):
    """Opens one object; `relative` is its path in the folder that is opened, or None; `name` the
    path that the catalogue has for it. Returns (name, target) of a symbolic link that is still to
    be made, or None."""
    with open_regular(path) as file:
        obj = DcmxObject(file)
        obj.open(keyring)
        wanted = streams_wanted(obj, options.part)
        obj.payload_sizes(wanted)
        closing, out_path = obj.closing(), options.output
        if name is not None:
            own = obj.core[16:32].hex() + ".dcmx"
            need(own == os.path.basename(path), "another object stands in this one's place")
        if relative is not None:
            out_path = tree_path(out_path, relative, closing.get(8) if name is None else name)
        if obj.cms is not None:
            options.signed += [path] if path not in options.signed else []
            if options.signature_out:
                for name, data in (("", obj.cms), (".manifest", obj.manifest)):
                    with open(options.signature_out + name, "xb") as out:
                        out.write(data)
        if options.vault and os.path.lexists(out_path):  # two objects of one path
            out_path += "." + obj.core[16:32].hex()
        taken = Failure("usage", f"{out_path} exists, not overwritten")
        if os.path.lexists(out_path):
            raise taken
        temporary = os.path.join(os.path.dirname(out_path), f".dcmx-{os.urandom(8).hex()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as out:
                obj.write_streams(wanted, out.write)
                out.flush()
                os.fsync(out.fileno())
            if 11 in closing and options.part is None:
                return out_path, closing[11]
            if options.attributes and 9 in closing:
                os.chmod(temporary, closing[9] & 0o777)
            if options.attributes and 10 in closing:
                os.utime(temporary, ns=(closing[10], closing[10]))
            try:
                os.link(temporary, out_path)  # fails where the name was taken meanwhile
            except FileExistsError:
                raise taken from None
            except OSError:  # a file system without hard links
                os.rename(temporary, out_path)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
    return None


def tree_path(root, relative, recorded):
    """D 6 key 8, V 3 key 2: the recorded name rules where there is one. A name that would lead out
    of the output folder is an attack, as is a symbolic link on the way."""
    parts = relative[: -len(".dcmx")].split(os.sep)
    if recorded is not None:
        name = os.fsdecode(recorded)
        parts = name.split("/") if "/" in name else [*parts[:-1], name]
    bad = any(p in ("", ".", "..") or "\0" in p or os.sep in p for p in parts)
    need(not bad and not (os.altsep and "\\" in "".join(parts)), "unsafe name in the index")
    path = os.path.join(root, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    inside = os.path.realpath(os.path.dirname(path)) + os.sep
    need(inside.startswith(os.path.realpath(root).rstrip(os.sep) + os.sep), "unsafe name")
    return path


def show(path):
    with open_regular(path) as file:
        obj = DcmxObject(file)
    print(f"{path}: DCMX version 1, suite 1, flags {obj.flags:#06x}")
    print(f"  object id {obj.core[16:32].hex()}")
    print(f"  slots of {obj.capacity} bytes, {len(obj.slots)} well-formed")
    for generation, stanzas, _, _ in obj.slots:
        print(f"  generation {generation}, {len(stanzas)} stanzas")
        for kind, scope, hint, body in stanzas:
            names = STANZA_NAMES.get(kind, f"type {kind}"), SCOPE_NAMES.get(scope, f"scope {scope}")
            print(f"    {names[0]}, {names[1]}, hint {hint.hex()}, {len(body)} bytes")
    for number, (offset, length) in obj.places.items():
        print(f"  {STREAM_NAMES[number]}: {length} bytes at {offset}")
    if obj.signatures:
        print(f"  signed: three times {obj.signatures[1]} bytes at {obj.signatures[0]}")


def arguments(argv):
    argv = sys.argv[1:] if argv is None else list(argv)
    vault = argv[:1] == ["vault"] and len(argv) > 1 and not argv[1].startswith("-")
    parser = argparse.ArgumentParser(prog="dcmx_rescue", description="opens DCMX objects")
    parser.add_argument("input", help="a DCMX object, or a folder with .dcmx files below it")
    parser.add_argument("-i", "--identity", action="append", default=[], metavar="KEYFILE")
    parser.add_argument("-p", "--passphrase", action="store_true", help="ask for a passphrase")
    parser.add_argument("--passphrase-file", metavar="F", help="read the passphrase from F")
    parser.add_argument("-o", "--output", metavar="OUT", help="file (or folder) to write")
    parser.add_argument("--part", choices=("tags", "pixels"), help="only what this scope reads")
    parser.add_argument("--attributes", action="store_true", help="set recorded mode and time")
    parser.add_argument("--signature-out", metavar="F", help="write signature and manifest")
    parser.add_argument("--list", action="store_true", help="show the header, decrypt nothing")
    parser.add_argument("--keys", metavar="TABLE", help="a vault's key table (vault FOLDER)")
    options = parser.parse_args(argv[1:] if vault else argv)
    options.vault = vault
    if vault != (options.keys is not None) or (vault and (options.list or options.part)):
        parser.error("a vault is opened with: vault FOLDER --keys TABLE -i KEYFILE -o OUT")
    given = options.identity or options.passphrase or options.passphrase_file
    if not options.list and not (options.output and given):
        parser.error("-o is missing, or one of -i, -p and --passphrase-file")
    if options.signature_out and os.path.isdir(options.input):
        parser.error("--signature-out is for one object")
    options.signed = []
    return options


def make_keyring(options):
    passphrase = None
    if options.passphrase_file:
        # The first line, without the mark and the line end that editors add.
        with open(options.passphrase_file, encoding="utf-8-sig", newline="") as file:
            passphrase = file.readline().rstrip("\r\n")
    elif options.passphrase:
        passphrase = getpass.getpass("Passphrase: ")
    identities = []
    for path in options.identity:
        identities += read_key_file(path, passphrase)
    keyring = Keyring(identities, passphrase)
    if not options.vault:
        return keyring
    keyring = VaultKeyring(KeyTable(options.keys, keyring))
    with open_regular(os.path.join(options.input, "vault")) as file:
        head = file.read(32)
    need(head[:8] == b"DCMXVLT1", options.input + " is no vault", "usage")
    need(head[8:24] == keyring.vault_id, "the key table is another vault's", "usage")
    return keyring


def attempt(name, action, *args):
    """(exit status, result) of one step; its failure becomes one line."""
    try:
        return 0, action(*args)
    except Failure as error:
        status = EXIT_STATUS[error.kind]
        text = f"{error.kind}: {error}" if status > 2 else str(error)
    except SYSTEM_ERRORS as error:
        status, text = 1, str(error) or "out of memory"
    sys.stderr.write(f"dcmx_rescue: {name}: {text}\n")
    return status, None


def main(argv=None):
    options = arguments(argv)
    status, keyring = (0, None) if options.list else attempt("keys", make_keyring, options)
    if status:
        return max(status, 2)
    jobs, tree = [(options.input, None)], os.path.isdir(options.input)
    if options.vault:
        options.input = os.path.join(options.input, "objects")
    if tree:
        paths = [os.path.join(base, n) for base, _, names in os.walk(options.input) for n in names]
        found = [p for p in sorted(paths) if os.path.splitext(p)[1] == ".dcmx"]
        jobs = [(path, os.path.relpath(path, options.input)) for path in found]
        if not jobs:
            sys.stderr.write(f"dcmx_rescue: {options.input}: no .dcmx files\n")
            return 1
    statuses, links = [], []
    if options.vault:
        catalogue = Catalogue(os.path.dirname(options.input), keyring)
        names = {i.hex() + ".dcmx": paths for i, paths in catalogue.names().items()}
        statuses += [0 if catalogue.complete else 1]
        jobs = []
        for path in found:  # what has no name of its own gets its id
            base = os.path.basename(path)
            jobs += [(path, base, name) for name in names.pop(base, [None])]
        for base in names:  # in the catalogue, and not there
            statuses.append(attempt(base, need, False, "the object is missing", "failed")[0])
    for path, *where in jobs:
        relative, *name = where
        step = (show, path) if options.list else (rescue, path, relative, keyring, options, *name)
        status, link = attempt(path, *step)
        statuses.append(status)
        links += [link] if link else []
    if options.signed and not options.signature_out:
        text = "signed, and the signature itself was not verified: see --signature-out"
        name = options.signed[0] if len(options.signed) == 1 else f"{len(options.signed)} objects"
        sys.stderr.write(f"dcmx_rescue: {name}: {text}\n")
    for name, target in links:  # last, so that nothing is written through a link of this run
        if options.vault and os.path.islink(name) and os.fsencode(os.readlink(name)) == target:
            continue  # it was added twice
        statuses.append(attempt(name, os.symlink, os.fsdecode(target), name)[0])
    return int(any(statuses)) if tree else max(statuses)


if __name__ == "__main__":
    sys.exit(main())
