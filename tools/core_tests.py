"""Run the tests of the core on the dicomcrypt that is installed.

    python tools/core_tests.py [options for pytest]

They need pytest, hypothesis, cbor2 and pydicom-data, no extra and no program of the system, and
run wherever a wheel is built. `make test` runs all tests; many of the others need Linux.
"""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORE = [
    "tests/kernels/test_kernels_from_python.py",
    "tests/properties/test_block_layer.py",
    "tests/unit/container",
    "tests/unit/dicom",
    "tests/unit/objects",
    "tests/unit/rescue",
    "tests/cli/test_roundtrip.py",
]


def main(options: list[str]) -> int:
    os.environ.pop("CI", None)  # under which a missing extra is a failure: here it is meant
    os.environ["PYTHONSAFEPATH"] = "1"  # else what the tests start takes the source folder
    sys.path[:] = [path for path in sys.path if pathlib.Path(path).resolve() != ROOT]
    settings = ["-c", str(ROOT / "pyproject.toml")]
    return pytest.main([*settings, *options, *(str(ROOT / path) for path in CORE)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
