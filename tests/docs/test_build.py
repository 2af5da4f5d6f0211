"""The documents are built without a warning; their reference has everything that is exported."""

import inspect
import pathlib
import subprocess
import sys
import zlib

import pytest

import dicomcrypt as dc
from dicomcrypt.keytable import SqliteStore, Store

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ["dicomcrypt", *(f"dicomcrypt.{name}" for name in
            ("audit", "ciphers", "keys", "keytable", "policy"))]  # fmt: skip
ERRORS = "dicomcrypt.errors"
#: Classes whose methods are explained where their protocol is.
PROTOCOLS = {SqliteStore: Store}


def exported():
    """(package, name, object) of everything in `__all__`, modules and plain values left out."""
    from importlib import import_module

    for package in map(import_module, PACKAGES):
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isclass(thing) or callable(thing):
                yield package.__name__, name, thing


def public_members(kind):
    """(name, object) of the methods and properties that a class adds to its bases."""
    for name, member in vars(kind).items():
        member = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and (inspect.isroutine(member) or inspect.isfunction(member)):
            yield name, member


@pytest.fixture(scope="module")
def built(need_module, tmp_path_factory):
    """The pages as HTML."""
    need_module("sphinx", "docs")
    need_module("myst_parser", "docs")
    need_module("sqlalchemy", "otp")
    out = tmp_path_factory.mktemp("docs") / "html"
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, ROOT / "docs", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


@pytest.fixture(scope="module")
def listed(built):
    """The names that the reference has."""
    packed = (built / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = [line.split() for line in zlib.decompress(packed).decode().splitlines()]
    return {name for name, kind, *_ in lines if kind.startswith("py:")}


def test_everything_exported_is_in_the_reference(listed):
    missing = [
        f"{package}.{name}" for package, name, thing in exported()
        if listed.isdisjoint(f"{place}.{name}" for place in (package, *PACKAGES[:1], ERRORS))
    ]  # fmt: skip
    assert not missing


def test_every_error_is_in_the_reference(listed):
    names = [name for name in vars(dc.errors) if name.endswith("Error")]
    assert len(names) > 20
    assert not [name for name in names if f"dicomcrypt.errors.{name}" not in listed]


def test_every_page_of_the_folder_is_built_and_reached_from_the_first(built):
    first = (built / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        place = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (built / place).exists()
        assert place == "index.html" or f'href="{place}"' in first, f"{place} is in no contents"


def test_pictures_of_the_first_page_are_there(built):
    assert {p.name for p in (built / "_images").iterdir()} >= {"analyze.png", "methods.png"}


def test_everything_exported_says_what_it_does():
    silent = [f"{package}.{name}" for package, name, thing in exported()
              if not (inspect.getdoc(thing) or "").strip().endswith((".", ")", ">"))]  # fmt: skip
    assert not silent


def test_every_method_of_what_is_exported_says_what_it_does():
    silent = [
        f"{name}.{member}" for _, name, thing in exported() if inspect.isclass(thing)
        for member, method in public_members(PROTOCOLS.get(thing, thing))
        if not inspect.getdoc(method)
    ]  # fmt: skip
    assert not silent
