"""Signed objects, and what signatures look like that do not hold."""

import hashlib
import struct

from cryptography import x509
from vector_bytes import OPAQUE, PIXELS, TAGS, TAIL
from vector_cms import Signer, changed, der, oid
from vector_dicom import native, text
from vector_writer import Writer, flip


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
