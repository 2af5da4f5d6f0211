"""`docs/threat-model.md` is about the program as it is: every package, tests that are there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text()
#: Parts of the package that are one module each and have something to lose.
MODULES = ("api", "config", "regular")


def sections():
    """Heading and text of each component."""
    found = re.split(r"^## (\d+\. .*)$", TEXT, flags=re.M)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def overview():
    """The rows of the table of components: (component, packages, number of its section)."""
    return re.findall(r"^\| ([^|]+) \| ([^|]+) \| \[(\d+)\]\(#([^)]*)\) \|$", TEXT, re.M)


def test_every_package_is_a_component():
    packages = {p.parent.name for p in (ROOT / "dicomcrypt").glob("*/__init__.py")} | set(MODULES)
    named = {name for _, cell, _, _ in overview() for name in re.findall(r"`([a-z]+)`", cell)}
    assert named == packages


def test_every_component_of_the_table_has_its_section_and_no_section_is_left_out():
    headings = list(sections())
    assert [int(number) for _, _, number, _ in overview()] == list(range(1, len(headings) + 1))
    for heading, (_, _, _, anchor) in zip(headings, overview(), strict=True):
        plain = re.sub(r"[^a-z0-9 -]", "", heading.lower())
        assert anchor == plain.replace(" ", "-"), heading


@pytest.mark.parametrize(("heading", "text"), sections().items(), ids=lambda value: value[:20])
def test_every_component_says_what_shows_it_and_what_does_not_hold(heading, text):
    assert "oes not hold" in text, heading
    assert re.search(r"`[\w/]+\.py`", text), heading


def test_the_tests_that_it_names_are_there():
    named = set(re.findall(r"`((?:cli|fuzz|interop|kernels|properties|unit)/[\w/]+\.py)`", TEXT))
    assert len(named) > 80
    assert not [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()]


def test_the_pages_that_it_links_to_are_there():
    named = set(re.findall(r"\]\(([^)#]+)[)#]", TEXT))
    assert named
    assert not [name for name in sorted(named) if not (ROOT / "docs" / name).exists()]
