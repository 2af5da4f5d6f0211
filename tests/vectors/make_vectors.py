"""Writes the test vectors of DCMX version 1 and of the block layer into a folder.

    python tests/vectors/make_vectors.py FOLDER

An encoder written from docs/spec/dcmx-v1.md ("D") and docs/spec/block-layer-v1.md ("B") alone;
it shares key derivations with tools/dcmx_rescue.py and nothing with the package. Keys and salts
come from SHAKE256 of a label, so that everything but the HPKE stanzas (which the library
randomises) is the same in every run. The vectors are the committed files; a new run gives
equivalent ones, and for that reason never writes over them.
"""

import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import dcmx_rescue as rescue
from vector_bad import bad_objects
from vector_bytes import METHOD_NAMES, OPAQUE, ORIGIN, PIXELS, TAGS, TAIL, period, rand, transform
from vector_dicom import native, text
from vector_good import good_frame_run_limits, good_objects
from vector_people import PASSPHRASE, PEOPLE
from vector_signed import signed_objects
from vector_writer import Writer, flip, linear, stanza


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


def key_files(out):
    """A key file that is itself an object under a passphrase."""
    content = f"# a protected key\n\n{PEOPLE['carol'].identity}\n".encode()
    w = Writer("key file", {OPAQUE: linear(content)}).passphrase(6, parameters=(1024, 1, 1))
    file = out.save("key-file", w.build())
    out.good(file, content, (), note="a key file under a passphrase", passphrase=PASSPHRASE)


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
