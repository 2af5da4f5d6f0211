"""`docs/architecture.md` against the code that it is about."""

import ast
import importlib
import io
import os
import pathlib
import re
import types

import object_files as make
import pytest
from doc_commands import page

from dicomcrypt import cli, errors
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.objects import encoder
from dicomcrypt.objects.files import Buffers, SourceFile, seal_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = "docs/architecture.md"
TEXT = (ROOT / PAGE).read_text()


def section(name):
    return TEXT.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def allowed():
    """What `tests/unit/test_architecture.py` lets each part import."""
    tree = ast.parse((ROOT / "tests/unit/test_architecture.py").read_text())
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    rows = zip(values["ALLOWED"].keys, values["ALLOWED"].values, strict=True)
    return {  # an empty one is written `set()`
        ast.literal_eval(part): set() if isinstance(names, ast.Call) else ast.literal_eval(names)
        for part, names in rows
    }


def test_the_table_of_layers_is_the_one_that_is_enforced():
    rows = "".join(
        f"| `{part}` | {', '.join(f'`{name}`' for name in sorted(names)) or 'nothing'} |\n"
        for part, names in allowed().items()
    )
    table = TEXT.split("| part | imports |\n|---|---|\n", 1)[1].split("\n\n", 1)[0] + "\n"
    assert table == rows, f"the table should be\n{rows}"


def test_the_layout_names_every_package():
    named = set(re.findall(r"^\| `dicomcrypt/([a-z]+)/`", section("Layout"), re.M))
    assert named == {path.parent.name for path in (ROOT / "dicomcrypt").glob("*/__init__.py")}


@pytest.mark.parametrize("name", ["One encrypt, from the command line to the name", "One decrypt",
                                  "One frame"])
def test_what_the_steps_name_is_there(name):
    """`package.module.thing` and `api.thing` of the three flows can be imported."""
    named = set(re.findall(r"`((?:[a-z_]+\.)+\w+)\b", section(name)))
    named = {n for n in named if not n.endswith((".py", ".pxd", ".part", ".pub"))}
    assert len(named) > 3
    for path in sorted(named):
        try:
            importlib.import_module(f"dicomcrypt.{path}")
        except ImportError:
            place, _, thing = path.rpartition(".")
            try:
                found = importlib.import_module(f"dicomcrypt.{place}")
            except ImportError:  # a method
                place, _, kind = place.rpartition(".")
                found = getattr(importlib.import_module(f"dicomcrypt.{place}"), kind)
            assert hasattr(found, thing), path


def test_the_buffers_have_the_sizes_of_the_page():
    text = section("One encrypt, from the command line to the name")
    table = dict(re.findall(r"^\| (window|scratch|sealed) \| ([\d,]+)", text, re.M))
    buffers = Buffers()
    for name, size in table.items():
        assert len(getattr(buffers, name)) == int(size.replace(",", "")), name
    assert set(table) == {"window", "scratch", "sealed"}


def test_each_byte_passes_each_step_once(tmp_path, monkeypatch, identity):
    """Read, transformed, written: the numbers of the page, counted."""
    path = tmp_path / "ct.dcm"
    path.write_bytes(make.dicom(512, 1024, make.noise(512 * 1024)))
    read, moved, written = [], [], []

    def readv(descriptor, views, real=os.readv):
        read.append(real(descriptor, views))
        return read[-1]

    class Counting:
        def __init__(self, *args, real=encoder.Run, **options):
            self.run = real(*args, **options)

        def __getattr__(self, name):
            return getattr(self.run, name)

        def advance(self, target, done, source, start):
            now = self.run.advance(target, done, source, start)
            moved.append(now - done)
            return now

    class Out(io.RawIOBase):
        def write(self, data):
            written.append(len(data))
            return len(data)

    monkeypatch.setattr(os, "readv", readv)
    monkeypatch.setattr(encoder, "Run", Counting)
    material = Envelope({1: [identity.recipient]}, batch=True).material()
    with SourceFile(path) as source:
        seal_file(source, types.SimpleNamespace(raw=Out()), material, -1, buffers=Buffers())
    size = path.stat().st_size
    assert sum(read) == sum(moved) == size
    said = [int(n.replace(",", "")) for n in re.findall(r"\b5\d\d,\d{3}\b", TEXT)]
    assert said == [size, size, size, *written]
    assert len([n for n in read if n]) == 5


def test_the_python_of_the_page_runs(scene):
    scene.dicom("us.dcm", "examples_ybr_color.dcm")
    scene.run(page(PAGE))
    for name in ("same.dcm", "rescued.dcm"):
        assert (scene.folder / name).read_bytes() == (scene.folder / "us.dcm").read_bytes()


def test_every_command_and_exit_status_is_told():
    text = section("Command line")
    commands = text.split("`", 2)[1].split()
    assert commands == list(cli.COMMANDS)
    told = {int(n) for n in re.findall(r"\s(\d)\s", text.split("Exit status:", 1)[1])}
    kinds = {
        kind.exit_status for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DicomcryptError)
    }  # fmt: skip
    assert kinds | {0} <= told


def test_the_pages_that_it_links_to_are_there():
    named = set(re.findall(r"\]\(([^)#]+)[)#]", TEXT))
    assert not [name for name in sorted(named) if not (ROOT / "docs" / name).exists()]
