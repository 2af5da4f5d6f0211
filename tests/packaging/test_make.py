"""`make` and the wheelhouse: what is missing is said in a line, what was there is not lost."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wheelhouse, can_build = tool("wheelhouse"), tool("can_build")


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "dicomcrypt-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("dicomcrypt-1.dist-info/METADATA",
                        "Name: dicomcrypt\nProvides-Extra: vault\nProvides-Extra: key-table\n")
    return path


@pytest.fixture
def earlier(tmp_path):
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    for name in ("requirements.txt", "sbom.cdx.json", "numpy-1-py3-none-any.whl"):
        (folder / name).write_text("of yesterday")
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def no_pip(monkeypatch):
    """Whatever would be run fails the test."""
    monkeypatch.setattr(wheelhouse, "run", lambda *command: pytest.fail(f"ran {command}"))


@pytest.mark.usefixtures("no_pip")
def test_a_folder_with_anything_else_in_it_is_refused_before_anything_is_run(earlier, wheel):
    (earlier / "thesis.odt").write_text("years of work")
    before = content(earlier)
    with pytest.raises(SystemExit, match=r"no earlier wheelhouse \(it has thesis\.odt in it\)"):
        wheelhouse.make(wheel, "", earlier)
    assert content(earlier) == before


@pytest.mark.usefixtures("no_pip")
def test_a_folder_of_wheels_that_lacks_the_lists_is_refused(earlier, wheel):
    (earlier / "sbom.cdx.json").unlink()
    with pytest.raises(SystemExit, match=r"lacks sbom\.cdx\.json"):
        wheelhouse.make(wheel, "", earlier)
    with pytest.raises(SystemExit, match="is no folder"):
        wheelhouse.make(wheel, "", earlier / "requirements.txt")


@pytest.mark.usefixtures("no_pip")
def test_an_extra_that_the_wheel_does_not_have_is_refused_before_anything_is_run(tmp_path, wheel):
    with pytest.raises(SystemExit, match="no extra valt: it has key-table, vault"):
        wheelhouse.make(wheel, "key_table,valt", tmp_path / "new")
    with pytest.raises(SystemExit, match="no wheel"):
        wheelhouse.make(tmp_path / "none.whl", "", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_leaves_the_wheelhouse_that_was_there(earlier, wheel, monkeypatch):
    def fails(*command):
        raise subprocess.CalledProcessError(1, command)

    before, beside = content(earlier), set(earlier.parent.iterdir())
    monkeypatch.setattr(wheelhouse, "run", fails)
    with pytest.raises(subprocess.CalledProcessError):
        wheelhouse.make(wheel, "vault", earlier)
    assert content(earlier) == before
    assert set(earlier.parent.iterdir()) == beside


@pytest.mark.parametrize("old", ["none", "empty", "wheelhouse"])
def test_a_run_that_ends_well_takes_the_place(earlier, wheel, monkeypatch, old):
    if old != "wheelhouse":
        shutil.rmtree(earlier)
    if old == "empty":
        earlier.mkdir()
    monkeypatch.setattr(wheelhouse, "collect", lambda wheel, _, folder: shutil.copy(wheel, folder))
    monkeypatch.setattr(wheelhouse, "try_out", lambda folder, environment: None)
    monkeypatch.setattr(wheelhouse, "describe", lambda folder, python, main: None)
    wheelhouse.make(wheel, "vault", earlier)
    assert content(earlier) == {wheel.name: wheel.read_bytes()}
    assert sorted(path.name for path in earlier.parent.iterdir()) == [wheel.name, "wheelhouse"]


def test_the_bill_names_its_subject_and_the_hash_of_each_wheel():
    names = [{"name": name, "type": "library"} for name in ("Dicom_Crypt", "numpy")]
    text = json.dumps({"components": names, "metadata": {}})
    hashes = {"dicom-crypt": "aa", "numpy": "bb"}
    bill = json.loads(wheelhouse.complete(text, hashes, "dicom-crypt"))
    assert [each["name"] for each in bill["components"]] == ["numpy"]
    assert bill["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "bb"}]
    assert bill["metadata"]["component"] == {
        "name": "Dicom_Crypt", "type": "application",
        "hashes": [{"alg": "SHA-256", "content": "aa"}],
    }  # fmt: skip


def test_a_source_archive_is_unpacked_by_every_python_that_is_supported(tmp_path):
    (tmp_path / "dicomcrypt-1").mkdir()
    (tmp_path / "dicomcrypt-1" / "PKG-INFO").write_text("Name: dicomcrypt\n")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "dicomcrypt-1", "dicomcrypt-1")
    tree = tool("build_wheels").unpack(tmp_path / "archive.tar.gz", tmp_path / "source")
    assert (tree.name, (tree / "PKG-INFO").read_text()) == ("dicomcrypt-1", "Name: dicomcrypt\n")


def test_the_core_tests_and_what_they_start_do_not_take_the_source_folder(monkeypatch):
    seen = []
    monkeypatch.setattr(pytest, "main", lambda arguments: seen.extend(sys.path) or 0)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setenv("CI", "")
    assert tool("core_tests").main([]) == 0
    assert os.environ["PYTHONSAFEPATH"] == "1"
    assert seen
    assert not any(pathlib.Path(path).resolve() == ROOT for path in seen)


def test_a_missing_compiler_or_header_is_named_with_what_to_install(tmp_path, need_command):
    environment = {**os.environ, "CC": "no-such-compiler"}
    said = can_build.missing(environment, str(tmp_path))
    assert said == f"there is no C compiler no-such-compiler. {can_build.DEBIAN}"
    need_command("gcc", "gcc")
    environment = {**os.environ, "CC": "gcc -O1", "CFLAGS": ""}
    said = can_build.missing(environment, str(tmp_path))
    assert said == f"gcc finds no Python.h in {tmp_path}. {can_build.DEBIAN}"
    (tmp_path / "Python.h").touch()
    assert can_build.missing(environment, str(tmp_path)) is None


#: Stands for Python and for the environment's: notes what pip is told, and takes its time.
STAND_IN = """#!/bin/sh
case "$*" in
*"-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
*" wheel "*) echo wheel >> log; sleep 0.5; mkdir -p build/wheel; touch build/wheel/a.whl;;
*" install "*) echo install >> log;;
esac
"""


@pytest.fixture
def copy(tmp_path, need_command):
    """A folder with the Makefile and a Python that only notes what it is told."""
    need_command("make", "make")
    folder = tmp_path / "copy"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "tools" / "can_build.py", folder / "tools")
    for name in ("pyproject.toml", "setup.py"):
        (folder / name).touch()
    (folder / "stand-in").write_text(STAND_IN)
    (folder / "stand-in").chmod(0o755)
    return folder


def start(folder, *arguments, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.Popen(["make", *arguments], cwd=folder, env={**environment, **variables},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_python_that_is_not_there_is_said_in_one_sentence(copy):
    said = start(copy, "demo", "PYTHON=nopython").communicate()[1].splitlines()
    assert [line for line in said if not line.startswith("make")] \
        == ["there is no program nopython: set PYTHON=..."]


def test_without_a_compiler_nothing_is_begun(copy):
    said = start(copy, "demo", f"PYTHON={sys.executable}", CC="no-cc").communicate()[1].splitlines()
    assert [line for line in said if not line.startswith("make")] \
        == [f"there is no C compiler no-cc. {can_build.DEBIAN}"]
    assert not (copy / ".venv").exists()


def test_the_second_make_of_two_waits_and_builds_nothing_again(copy, need_command):
    need_command("flock", "util-linux")
    both = [start(copy, "demo", "PYTHON=./stand-in") for _ in range(2)]
    said = [each.communicate()[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert (copy / "log").read_text().split() == ["wheel", "install", "install"]
