"""What builds, packs and checks the project is well-formed, and says the same everywhere."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    text = (ROOT / "docs" / page).read_text().split(heading, 1)[1]
    rows = re.findall(r"^\|(.*)\|$", text.split("\n## ", 1)[0], re.M)[2:]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_workflows_follow_the_schema(need_module):
    need_module("check_jsonschema", "lint")
    assert [path.stem for path in WORKFLOWS] == ["bench", "ci", "wheels"]
    subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema",
                    "vendor.github-workflows", *WORKFLOWS], check=True, capture_output=True)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_one_version_and_steps_have_few_rights(path):
    text = path.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+\.\d+\.\d+", action), action
    assert re.search(r"^permissions:\n  contents: read$", text, re.M)
    assert "secrets." not in text


def test_the_same_pythons_are_named_built_and_tested():
    names = [f"cp{v.replace('.', '')}-*" for v in VERSIONS]
    assert PROJECT["tool"]["cibuildwheel"]["build"].split() == names
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert named == VERSIONS
    assert PROJECT["project"]["requires-python"] == f">={VERSIONS[0]}"
    tested = re.search(r"python: (\[.*\])", (ROOT / ".github/workflows/ci.yml").read_text())
    assert json.loads(tested[1]) == VERSIONS


def test_every_package_is_packed():
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "dicomcrypt").rglob("*.py")
        if path.parent.name != "__pycache__"
    }
    named = set(PROJECT["tool"]["setuptools"]["packages"])
    assert {name for name in found if (ROOT / name.replace(".", "/") / "__init__.py").exists()} \
        == named


def test_all_that_lies_in_a_package_is_packed_or_only_built_from():
    """Data that no pattern names would be missing from the wheel."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "dicomcrypt").rglob("*"):
        if path.is_dir() or path.suffix in {".py", ".so", ".pyd", ".pyc", ".pyx", ".pxd", ".c"}:
            continue
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert any(path.match(pattern) for pattern in data.get(package, [])), path


def test_every_extra_stands_in_the_table_of_the_page_on_installing():
    rows = table("install.md", "## Extras")
    assert sorted(row[0].strip("`") for row in rows) == sorted(EXTRAS)


def test_every_extra_that_a_message_names_exists():
    for path in (ROOT / "dicomcrypt").rglob("*.py"):
        for names in re.findall(r"dicomcrypt\[([\w,]+)\]", path.read_text()):
            assert set(names.split(",")) <= set(EXTRAS), path


def test_all_holds_whatever_is_used_and_nothing_that_develops():
    [entry] = EXTRAS["all"]
    inside = set(re.fullmatch(r"dicomcrypt\[(.*)\]", entry)[1].split(","))
    assert inside == set(EXTRAS) - {"all", "bench", "coverage", "dist", "docs", "lint", "test"}


def test_hooks_run_what_make_lint_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    for program in re.findall(r"\$\(BIN\)/([\w-]+)", recipe):
        assert f"entry: {program}" in hooks


def test_hooks_are_valid(need_module):
    need_module("pre_commit", "lint")
    done = subprocess.run([sys.executable, "-m", "pre_commit", "validate-config",
                           ROOT / ".pre-commit-config.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_core_tests_exist():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import core_tests
    finally:
        sys.path.remove(str(ROOT / "tools"))
    assert all((ROOT / path).exists() for path in core_tests.CORE)


def test_large_files_are_refused(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"")
    large.write_bytes(bytes(500_001))
    command = [sys.executable, ROOT / "tools" / "large_files.py"]
    assert subprocess.run([*command, small]).returncode == 0
    done = subprocess.run([*command, small, large], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, f"{large}: larger than 500 kB\n")
