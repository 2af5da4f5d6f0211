"""Whether a line of dicomcrypt's, as text quotes it, names commands and options that exist."""

from __future__ import annotations

import shlex

import click

from dicomcrypt.cli import cli


def check(line: str) -> str:
    """Return what is wrong with a line, "" if nothing is; arguments and values are not judged."""
    words = shlex.split(line.replace("...", ""), comments=True)[1:]
    command: click.Command = cli
    with click.Context(cli, info_name="dicomcrypt") as context:
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            name = words.pop(0)
            if name.isupper():  # any of them
                return ""
            inner = command.get_command(context, name)
            if inner is None:
                return f"there is no command {name!r}"
            command = inner
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        known |= set(command.get_help_option_names(context)) | {"-h", "--help"}
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in known:
            return f"there is no option {word!r}"
        if word.startswith("-") and not word.startswith("--") and word != "-" \
                and word[:2] not in known:
            return f"there is no option {word[:2]!r}"
    return ""
