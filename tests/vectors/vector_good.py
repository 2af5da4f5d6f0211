"""Objects that every reader opens."""

import unicodedata

from vector_bad import nested, resized, seven_stanzas
from vector_bytes import METHOD_NAMES, OPAQUE, PIXELS, TAGS, TAIL, cbor_encode, period, rand
from vector_dicom import EXPLICIT, dicom_tags, encapsulated, native, text
from vector_people import PASSPHRASE
from vector_writer import Part, Writer, flip, linear, stanza


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
