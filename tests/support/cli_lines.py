"""Whether a command line that stands in a text would be taken: parsed by click, and not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dicomcrypt.cli import cli

if TYPE_CHECKING:
    from doc_commands import Scene

#: What texts write for a value that has a form of its own.
_PLACEHOLDERS = {"SERIAL": "1f", "N": "3", "K/N": "1/4", "SECONDS": "5"}
#: What may stand before a command's name.
_BEFORE = re.compile(r"[A-Z_][A-Z0-9_]*=\S*|sudo|time|nice|exec|env|\$")
#: Two spaces that no quotes hold: behind them a remark stands.
_REMARK = re.compile(r"""((?:[^"' ]|"[^"]*"|'[^']*'| (?! ))*)\s{2,}.*""")
_REDIRECTION = re.compile(r"\s[12]>(&[12]|\s*\S+)")
_OPERATORS = {"|", "||", "&&", ";", "&"}


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, without what they are indented by; those that \\ cuts, joined."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        yield line.strip()


def check_line(line: str, *, whole: bool = False) -> None:
    """Raise ValueError with what is wrong if a shell's line has a `dicomcrypt` that is refused.

    Each one of the line is looked at: command, options and their number of values, arguments,
    choices. Remarks, pipes and redirections are not. whole: a command's name alone will not do for
    one that takes arguments; otherwise that is a mention of it."""
    for words in _commands(line):
        try:
            _parse(words, whole)
        except click.ClickException as error:
            raise ValueError(f"{line!r}: {error.format_message()}") from None


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words behind each `dicomcrypt` that is a command's name."""
    line = _REDIRECTION.sub(" ", line)
    cut = _REMARK.fullmatch(line)
    lexer = shlex.shlex(cut[1] if cut else line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        tokens = [*lexer, ";"]
    except ValueError as error:
        raise ValueError(f"{line!r}: {error}") from None
    words: list[str] = []
    skip = False
    for token in tokens:
        if token in _OPERATORS:
            while words and _BEFORE.fullmatch(words[0]):
                del words[0]
            if words[:1] == ["dicomcrypt"]:
                yield words[1:]
            words = []
        elif token in ("<", ">", ">>"):
            skip = True
        elif skip:
            skip = False
        else:
            words.append(token)


def _parse(words: list[str], whole: bool) -> None:
    command: click.Command = cli
    context = click.Context(cli, info_name="dicomcrypt")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"{context.command_path} has no command {name!r}")
        command, context = found, click.Context(found, parent=context, info_name=name)
    if {"-h", "--help", "--version"} & {*words} or not (words or whole):
        return
    if isinstance(command, click.Group):
        raise click.UsageError(f"{context.command_path}: which command?")
    words = [_PLACEHOLDERS.get(word, word) for word in words]
    command.make_context(context.info_name, words, parent=context.parent)


def check_pip(scene: Scene, text: str) -> None:
    """A line of pip's that is not run: its options are pip's."""
    options = [word for word in shlex.split(text, comments=True)[1:] if word.startswith("-")]
    assert scene.shell("python -m pip install --help") == 0, scene.err
    for option in options:
        assert option in scene.out.split() or f"{option}," in scene.out.split(), option
