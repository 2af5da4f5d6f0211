"""tools/dcmx_rescue.py as a module, with the vectors that it is tested on."""

import importlib.util
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
TOOL = ROOT / "tools" / "dcmx_rescue.py"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# make_vectors imports the tool by its name, so both share one module and its Failure class.
rescue = load("dcmx_rescue", TOOL)
make_vectors = load("dcmx_make_vectors", VECTORS / "make_vectors.py")
vector_bytes = importlib.import_module("vector_bytes")  # beside make_vectors

DOCUMENT = json.loads((VECTORS / "objects.json").read_text())
ENTRIES = DOCUMENT["objects"]
CASES = json.loads((VECTORS / "block-layer-v1.json").read_text())["cases"]
PASSPHRASE = make_vectors.PASSPHRASE


def entry_id(entry):
    return pathlib.Path(entry["file"]).stem + (f"-{entry['part']}" if entry["part"] else "")


def options(entry, keys):
    result = []
    for name in entry["identities"]:
        result += ["-i", str(keys / name)]
    if entry["passphrase"] is not None:
        (keys / "used").write_text(entry["passphrase"], encoding="utf-8")
        result += ["--passphrase-file", str(keys / "used")]
    return result + (["--part", entry["part"]] if entry["part"] else [])
