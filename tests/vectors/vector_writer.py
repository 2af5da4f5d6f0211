"""Writes an object as D says, or with one thing wrong."""

import hashlib
import struct
import unicodedata

import dcmx_rescue as rescue
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from vector_bytes import OPAQUE, PIXELS, TAGS, TAIL, cbor_encode, rand, transform
from vector_people import PASSPHRASE, PEOPLE, seal_to


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
