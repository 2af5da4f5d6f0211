"""The scanner under AddressSanitizer and UBSan, on mutated files."""

import os
import subprocess
from pathlib import Path

import pydicom
import pytest

from tests.conftest import absent, need

REPOSITORY = Path(__file__).parents[2]
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ITERATIONS = 200_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory) -> Path:
    compiler = need(os.environ.get("CC", "cc"), "gcc")
    folder = tmp_path_factory.mktemp("fuzz")
    trial = folder / "trial.c"
    trial.write_text("int main(void) { return 0; }\n")
    linked = subprocess.run(
        [compiler, *SANITIZE, str(trial), "-o", str(folder / "trial")], capture_output=True
    )
    if linked.returncode != 0:
        absent(f"sanitizer runtime of {compiler} missing: apt-get install gcc")
    program = folder / "fuzz_scan"
    sources = [REPOSITORY / "csrc/tests/fuzz_scan.c", *(REPOSITORY / "csrc/scan").glob("*.c")]
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *SANITIZE]
    command += [f"-I{REPOSITORY / 'csrc/include'}", *map(str, sources), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.parametrize("seed", [1, 20_260])
def test_no_mutation_is_read_outside_or_depends_on_the_windows(fuzzer, seed):
    files = sorted((Path(pydicom.__file__).parent / "data/test_files").glob("*.dcm"))
    run = subprocess.run(
        [fuzzer, str(ITERATIONS // 2), str(seed), *files],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{ITERATIONS // 2} inputs")
