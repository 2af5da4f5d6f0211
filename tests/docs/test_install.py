"""Installing and building: what takes minutes or another machine is looked at, not run."""

import shlex

import cli_lines
from doc_commands import ROOT, Rule, page

import dicomcrypt as dc

PAGES = ["docs/install.md", "docs/building.md"]


def one_version(scene, text):
    assert f"dicomcrypt-{dc.__version__}-" in text


def later_dicomcrypt(scene, text):
    cli_lines.check_line(text.replace("dicomcrypt/bin/", ""), whole=True)


def programs(scene, text):
    """The programs of the project that it starts are there."""
    for word in shlex.split(text, comments=True):
        if word.endswith(".py"):
            assert (ROOT / word).is_file(), word


def test_the_page_on_installing(scene):
    scene.run(page("docs/install.md"), [
        Rule(r"\.whl", do=one_version),
        Rule(r"-m venv", do=programs),
        Rule(r"bin/pip", do=cli_lines.check_pip),
        Rule(r"bin/dicomcrypt", do=later_dicomcrypt),
    ])  # fmt: skip


def test_the_page_on_building(scene):
    scene.run(page("docs/building.md"), [
        Rule(r"python -m build", do=programs),
        Rule(r"setup\.py", do=programs),
    ])  # fmt: skip
