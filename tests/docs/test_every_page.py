"""Nothing that a page tells a reader to type is left without a test that types it."""

import ast
import pathlib
import re

import cli_lines
import pytest
from doc_commands import check_toml
from doc_pages import RUN, all_pages, page

HERE = pathlib.Path(__file__).parent
#: What a line that is typed begins with: it belongs into an `sh` fence.
TYPED = re.compile(
    r"^\s*(?:\$ )?(?:sudo )?(?:dicomcrypt|openssl|gpg|pip|python3?|apt-get|apt|make|dask|cat|cd|"
    r"curl|softhsm2-util|pkcs11-tool|ldapsearch|storescu|cp|mv|rm|cmp|shred|export) ")


def named() -> dict[str, list[str]]:
    """Which files of this folder say that they run a page: page -> files."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) \
                    and node.targets[0].id in ("PAGE", "PAGES"):
                value = ast.literal_eval(node.value)
                assert "page(" in path.read_text()
                for name in [value] if isinstance(value, str) else value:
                    found.setdefault(name, []).append(path.name)
    return found


def test_the_tests_name_pages_that_are_there():
    assert set(named()) <= set(all_pages())


@pytest.mark.parametrize("name", all_pages())
def test_a_page_with_something_to_run_has_a_test_that_runs_it(name):
    runs = [fence for fence in page(name).fences if fence.language in RUN]
    if runs:
        assert name in named(), f"no file in tests/docs says PAGE = {name!r}; first: {runs[0]}"


@pytest.mark.parametrize("name", all_pages())
def test_no_command_stands_where_nothing_runs_it(name):
    for fence in page(name).fences:
        if fence.language not in RUN:
            for number, line in enumerate(fence.text.split("\n"), fence.line):
                assert not TYPED.match(line), f"{name}:{number}: write ```sh: {line}"
    for number, line in enumerate(page(name).prose.split("\n"), 1):
        if line.startswith("    "):
            assert not TYPED.match(line), f"{name}:{number}: write ```sh: {line}"


@pytest.mark.parametrize("name", all_pages())
def test_what_is_not_typed_parses(name):
    for fence in page(name).fences:
        if fence.language == "python":
            compile(fence.text, str(fence), "exec")
        elif fence.language == "toml":
            check_toml(fence.text)


@pytest.mark.parametrize("name", all_pages())
def test_commands_and_options_in_the_text_exist(name):
    for line, span in page(name).spans():
        if span.startswith("dicomcrypt "):
            try:
                cli_lines.check_line(span)
            except ValueError as error:
                pytest.fail(f"{name}:{line}: {error}")
