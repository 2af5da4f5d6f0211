"""What --help says: of every command, with examples that the parser takes."""

import click
import pytest
from cli_lines import check_line, logical_lines

from dicomcrypt.cli import cli


def tree(command=cli, words=("dicomcrypt",)):
    """Every command with its words."""
    yield " ".join(words), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from tree(command.get_command(context, name), (*words, name))


COMMANDS = dict(tree())


def examples(command):
    """The lines of an epilog under `Examples:`."""
    found, inside = [], False
    for line in logical_lines(command.epilog or ""):
        if line in ("Examples:", ""):
            inside = line == "Examples:"
        elif inside:
            found.append(line)
    return found


def test_the_tree_is_walked_to_its_leaves():
    assert len(COMMANDS) > 100
    assert "dicomcrypt prescription register serve" in COMMANDS


def test_every_command_s_help_begins_with_a_sentence():
    first = {words: (command.help or "").strip().split("\n\n")[0]
             for words, command in COMMANDS.items()}  # fmt: skip
    assert {words: text for words, text in first.items()
            if not (text[:1].isupper() and text.endswith("."))} == {}  # fmt: skip


def test_every_command_has_an_example_of_itself():
    assert [words for words, command in COMMANDS.items()
            if not any(f"{words} " in f"{line} " for line in examples(command))] == []  # fmt: skip


def test_every_example_is_taken():
    wrong = []
    for command in COMMANDS.values():
        for line in examples(command):
            try:
                check_line(line, whole=True)
            except ValueError as error:
                wrong.append(str(error))
    assert wrong == []


def test_no_line_of_help_is_wider_than_100_columns():
    wide = [(words, line) for words, command in COMMANDS.items()
            for line in command.get_help(click.Context(command, terminal_width=100)).splitlines()
            if len(line) > 100]  # fmt: skip
    assert wide == []


def test_every_option_says_what_it_is_for():
    assert [f"{words} {option.opts[0]}" for words, command in COMMANDS.items()
            for option in command.params
            if isinstance(option, click.Option) and not option.help] == []  # fmt: skip


@pytest.mark.parametrize(("line", "wrong"), [
    ("dicomcrypt encript ct.dcm", "has no command 'encript'"),
    ("dicomcrypt vault cheque safe/", "dicomcrypt vault has no command 'cheque'"),
    ("dicomcrypt encrypt", "Missing argument"),
    ("dicomcrypt encrypt ct.dcm --recipients a.pub", "No such option"),
    ("dicomcrypt encrypt ct.dcm -r", "requires an argument"),
    ("dicomcrypt encrypt ct.dcm --method caesar", "'caesar' is not one of"),
    ("dicomcrypt frame us.dcmx -i a.key", "Missing option '-o'"),
    ("dicomcrypt keygen -o a.key b.key", "unexpected extra argument"),
    ("dicomcrypt pki revoke anna --ca ca/", "no serial number"),
    ("cat ct.dcm | dicomcrypt encrypt - -q --loud > x", "No such option"),
    ("dicomcrypt vault", "which command?"),
    ("dicomcrypt keygen -o 'a.key", "quotation"),
])  # fmt: skip
def test_a_line_that_is_refused_is_told_from_others(line, wrong):
    with pytest.raises(ValueError, match=wrong):
        check_line(line, whole=True)


@pytest.mark.parametrize("line", [
    "dicomcrypt keygen -o doctor.key        makes two files, --not-an-option",
    "DICOMCRYPT_KERNEL=portable dicomcrypt bench > figures.txt",
    "dicomcrypt vault cat a/ x -i k 2>/dev/null | dcmdump - && dicomcrypt bench",
    "dicomcrypt vault find a/ --patient-name 'two  spaces' -i k",
    "pip install dicomcrypt",
    "dicomcrypt pki revoke SERIAL --ca ca/",
    "dicomcrypt vault erase --help",
])
def test_a_line_that_is_taken_passes(line):
    check_line(line, whole=True)


def test_a_mere_mention_of_a_command_passes_where_no_whole_line_is_wanted():
    check_line("dicomcrypt vault")
    check_line("dicomcrypt encrypt")
    with pytest.raises(ValueError, match="has no command"):
        check_line("dicomcrypt vault burn")
