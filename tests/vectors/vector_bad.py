"""Objects of which every reader says what is wrong."""

import struct

from vector_bytes import OPAQUE, PIXELS, TAGS, TAIL, cbor_encode, rand
from vector_dicom import native, text
from vector_people import PASSPHRASE
from vector_writer import Part, Writer, flip, stanza


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


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
