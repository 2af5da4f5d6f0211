"""Types: the public API as a program uses it, and the stubs of the extension modules."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import dicomcrypt as dc

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPING = ROOT / "tests" / "typing"
STUBS = sorted((ROOT / "dicomcrypt" / "native").glob("*.pyi"))


@pytest.fixture
def check(need_module, tmp_path):
    """Runs a module of mypy in a folder."""
    need_module("mypy", "lint")

    def run(module, folder, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=folder, text=True, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache"), "MYPYPATH": str(folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    return run


def test_the_public_api_has_the_types_that_a_gateway_relies_on(check):
    check("mypy", ROOT, "--follow-imports=silent", str(TYPING / "consumer.py"))


def test_the_stubs_of_the_extension_modules_are_complete_and_true(check, tmp_path):
    # Beside nothing else of the package, which mypy would read too.
    native = tmp_path / "dicomcrypt" / "native"
    native.mkdir(parents=True)
    for folder in (native, native.parent):
        (folder / "__init__.pyi").touch()
    for stub in STUBS:
        shutil.copy(stub, native)
    names = [f"dicomcrypt.native.{stub.stem}" for stub in STUBS]
    allowed = str(TYPING / "stubtest-allowlist.txt")
    check("mypy.stubtest", tmp_path, "--allowlist", allowed, *names)


def test_every_extension_module_has_a_stub():
    sources = (ROOT / "dicomcrypt" / "native").glob("*.pyx")
    assert {path.stem for path in STUBS} == {path.stem for path in sources}


def test_type_checkers_see_the_names_that_can_be_imported():
    tree = ast.parse((ROOT / "dicomcrypt" / "__init__.py").read_text())
    seen = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        for alias in node.names if alias.asname
    }  # fmt: skip
    assert seen.keys() == set(dc.__all__)
    for name, (module, wanted) in seen.items():
        if module not in (None, "_version"):
            assert getattr(dc, name).__name__ == wanted
            assert getattr(dc, name).__module__ == f"dicomcrypt.{module}"
