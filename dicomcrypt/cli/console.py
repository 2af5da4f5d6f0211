"""What reaches the terminal, and how: messages, progress, tables, JSON, passphrases."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..trees.jobs import Outcome


def printable(text: str) -> str:
    """Return text without control characters and lone surrogates: tags and file names may
    hold escape sequences, which a terminal would obey."""
    return "".join(
        ch if unicodedata.category(ch) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else
        ch.encode("unicode_escape", "surrogatepass").decode("ascii")
        for ch in text
    )  # fmt: skip


def complain(message: str) -> None:
    """One line on standard error."""
    click.echo(f"dicomcrypt: {printable(message)}", err=True)


def say(message: str) -> None:
    """One line for a person, on standard error."""
    click.echo(printable(message), err=True)


def size_text(size: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def ask_passphrase(*, confirm: bool) -> str:
    """Ask on the terminal, without echo."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(
            "no terminal to ask for the passphrase on: give --passphrase-file FILE"
        )
    return click.prompt(
        "passphrase", hide_input=True, confirmation_prompt=confirm, err=True
    )


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=lambda b: b.hex()))


def print_table(rows: Iterable[Sequence[str]], heads: Sequence[str], title: str = "") -> None:
    """A table: drawn on a terminal, plain columns otherwise (--json is for programs)."""
    if not sys.stdout.isatty():
        if title:
            click.echo(f"# {printable(title)}")
        cells = [[printable(str(cell)) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo(line.rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, title=Text(printable(title)) if title else None,
                  title_justify="left")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    Console().print(table)


class Report:
    """Follows a job: progress while it runs, rows and a summary at its end.

    On a terminal a bar; otherwise lines, one for each failure, with --verbose one for
    each file; nothing but failures with --quiet; with --json one document.
    """

    def __init__(self, verb: str, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.verb, self.as_json, self.quiet, self.verbose = verb, as_json, quiet, verbose
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self.bytes_in = self.bytes_out = 0
        self.causes: list[int] = []
        self._started = time.monotonic()
        self._rows = 0
        self._bar = None

    def __enter__(self) -> Report:
        if self.as_json:
            click.echo('{"files": [')
        elif not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(pulse_style="cyan"),
                TextColumn("{task.fields[figures]}"), TimeElapsedColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self.verb, total=None, figures="")
            self._bar.start()
        return self

    def add(self, outcome: Outcome) -> None:
        """Take what became of one file."""
        self.counts[outcome.state] += 1
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        if outcome.state == "failed":
            self.causes.append(outcome.exit_status)
        if self.as_json:
            row = {
                "path": outcome.path, "state": outcome.state, "output": outcome.output,
                "bytes_in": outcome.bytes_in, "bytes_out": outcome.bytes_out,
                "message": outcome.message,
                "exit_status": outcome.exit_status, **outcome.details,
            }  # fmt: skip
            click.echo(("," if self._rows else "") + json.dumps(row, default=lambda b: b.hex()))
            self._rows += 1
            return
        if self._bar is not None:
            self._show(outcome)
        if outcome.state == "failed":
            self._line(f"failed: {outcome.path}: {outcome.message}")
        elif self.quiet:
            return
        elif outcome.state == "skipped":
            self._line(f"skipped: {outcome.path}: {outcome.message}")
        elif self.verbose:
            arrow = f" -> {outcome.output}" if outcome.output else ""
            note = f" ({outcome.message})" if outcome.message else ""
            self._line(f"{outcome.path}{arrow}{note}")

    def _show(self, outcome: Outcome) -> None:
        seconds = max(time.monotonic() - self._started, 1e-6)
        name = printable(outcome.path)
        figures = (
            f"{self.counts['done']} files, {size_text(self.bytes_in)}, "
            f"{size_text(self.bytes_in / seconds)}/s, {self.counts['failed']} failed"
            f"  {name[-40:]}"
        )
        self._bar.update(self._task, figures=figures)

    def _line(self, text: str) -> None:
        text = printable(text)
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(text), soft_wrap=True)
        else:
            click.echo(text, err=True)

    def __exit__(self, kind, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._started
        if self.as_json:
            summary = {
                **self.counts, "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
                "seconds": round(seconds, 6),
                "exit_status": 130 if kind is KeyboardInterrupt else self.exit_status(),
            }  # fmt: skip
            click.echo(f'], "summary": {json.dumps(summary)}}}')
        elif not self.quiet:
            rate = size_text(self.bytes_in / seconds) if seconds > 0 else "-"
            click.echo(
                f"{self.verb}: {self.counts['done']} done, {self.counts['skipped']} skipped, "
                f"{self.counts['failed']} failed, {size_text(self.bytes_in)} in, "
                f"{size_text(self.bytes_out)} out, {seconds:.2f} s, {rate}/s",
                err=True,
            )

    def exit_status(self, *, expect_some: bool = False) -> int:
        """0, the common cause of all failures, or 1 for mixed causes.

        expect_some: a job that found no object at all has not done what was asked for."""
        if expect_some and not self.counts["done"] and not self.counts["failed"]:
            complain(f"no object to {self.verb} was found there")
            return 1
        from ..trees.tree import exit_status

        return exit_status(self.causes)
