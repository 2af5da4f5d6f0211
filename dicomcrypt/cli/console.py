"""What reaches the terminal, and how: messages, progress, tables, JSON, passphrases."""

from __future__ import annotations

import builtins
import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import click

from ..errors import DicomcryptError, UsageError
from . import auditing
from .outcome import exit_status

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..trees.pool import Outcome


#: Where a command's context has whether it keeps quiet.
HUSHED = "dicomcrypt.hushed"


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
    """One line for a person, on standard error; none where `options.hushed` was given."""
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(HUSHED):
        remark(message)


def remark(message: str) -> None:
    """One line for a person, on standard error, that is said in any case."""
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
    return ask_secret("passphrase", "give --passphrase-file FILE", confirm=confirm)


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask_secret(what: str, otherwise: str, *, confirm: bool = False) -> str:
    """Ask for a secret on the terminal, without echo. otherwise: what to do without a terminal."""
    if not on_terminal():
        raise click.UsageError(f"no terminal to ask for the {printable(what)} on: {otherwise}")
    from ..keys.keyfile import secret_text

    try:
        text = click.prompt(printable(what), hide_input=True, confirmation_prompt=confirm, err=True)
    except UnicodeDecodeError:
        raise UsageError(f"the {what} is not in the terminal's encoding") from None
    return secret_text(text, f"the {what}")


def print_json(value: Any) -> None:
    """One JSON document on standard output; bytes in hexadecimal."""
    click.echo(json.dumps(value, indent=2, default=lambda b: b.hex()))


def print_table(rows: Iterable[Sequence[object]], heads: Sequence[str], title: str = "") -> None:
    """A table: drawn on a terminal, plain columns otherwise (--json is for programs)."""
    if not sys.stdout.isatty():
        if title:
            click.echo(f"# {printable(title)}")
        cells = [[printable(str(cell)) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for texts in cells:
            line = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True))
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


def time_text(seconds: float) -> str:
    """A time for people: 0:42, 2:03:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def run(report: Report, outcomes: Iterator[Outcome]) -> None:
    """Follow a job to its end; however that comes, the job is told at once."""
    try:
        for outcome in outcomes:
            report.add(outcome)
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()


class Surveyed(Protocol):
    """What is known of a job's files: how many, how many are through, and all their bytes, once
    `finished`; the path of the one that is being worked on."""

    @property
    def current(self) -> builtins.bytes: ...

    @property
    def files(self) -> int: ...

    @property
    def through(self) -> int: ...

    @property
    def bytes(self) -> int: ...

    @property
    def finished(self) -> bool: ...


class _Alone:
    """One file as a `Surveyed` job."""

    files, through, finished = 1, 0, True

    def __init__(self, path: str, size: int) -> None:
        self.current, self.bytes = os.fsencode(path), size


class Report:
    """Follows a job: progress while it runs, rows and a summary at its end.

    On a terminal a bar; otherwise lines, one for each failure, with --verbose one for
    each file; nothing but failures with --quiet; with --json one document. about: for the
    audit log, its `action` if that is not the verb, and details.
    """

    def __init__(
        self, verb: str, *, as_json: bool, quiet: bool, verbose: bool, **about: str
    ) -> None:
        self.verb, self.as_json, self.quiet, self.verbose = verb, as_json, quiet, verbose
        self.counts = {"done": 0, "skipped": 0, "failed": 0, "planned": 0}
        self.bytes_in = self.bytes_out = 0
        self.causes: list[int] = []
        #: Sentences for the JSON document; for people they were said when they came up.
        self.warnings: list[str] = []
        self._hard_links = self._before = 0
        self._read_back: set[str] = set()
        self._started = time.monotonic()
        self._shown = 0.0
        self._rows = 0
        self._bar: Progress | None = None
        self._about = about

    def __enter__(self) -> Report:
        self._audit = auditing.begin(self._about.pop("action", self.verb), **self._about)
        if self.as_json:
            click.echo('{"files": [')
        elif not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            # Drawn by hand: a thread that draws would be in the way of quick workers (fork).
            self._bar = bar = Progress(
                TextColumn("{task.description}"), BarColumn(12),
                TextColumn("{task.fields[figures]}"),
                console=Console(stderr=True), transient=True, auto_refresh=False,
            )  # fmt: skip
            self._task = bar.add_task(self.verb, total=None, figures="")
            bar.start()
        return self

    def watch(self, survey: Surveyed, done: int) -> None:
        """Show how far a tree's job is: files, bytes, rate, time left, failures, current file."""
        now = time.monotonic()
        if self._bar is None or now - self._shown < 0.1:
            return
        self._shown = now
        seconds = max(now - self._started, 1e-6)
        rate = done / seconds
        total, left, files = None, "", f"{survey.through} files"
        if survey.finished:
            total, files = max(survey.bytes, 1), f"{survey.through} of {survey.files} files"
            if rate > 0:
                left = f", {time_text((total - min(done, total)) / rate)} left"
        self._bar.update(self._task, completed=done, total=total, figures=(
            f"{files}, {size_text(done)}, {size_text(rate)}/s{left}, "
            f"{self.counts['failed']} failed  "
            f"{printable(os.path.basename(os.fsdecode(survey.current)))[-40:]}"
        ))
        self._bar.refresh()

    def follow(self, path: str) -> Callable[[int], None]:
        """Return what is to be told of the bytes that are done of a file that is alone."""
        survey, done = _Alone(path, os.path.getsize(path)), 0

        def tell(size: int) -> None:
            nonlocal done
            done += size
            self.watch(survey, done)

        return tell

    def add(self, outcome: Outcome) -> None:
        """Take what became of one file."""
        if self._audit is not None and outcome.state in ("done", "failed"):
            self._audit.saw(outcome.output if self.verb == "encrypt" else outcome.path)
        self.counts[outcome.state] += 1
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        self._hard_links += "hard_links" in outcome.details
        self._before += outcome.state == "skipped" and outcome.message.endswith(
            (" before", " already"))
        if "verified" in outcome.details:
            self._read_back.add(outcome.details["verified"])
        if outcome.state == "failed":
            self.causes.append(outcome.exit_status)
        elif "source_kept" in outcome.details:
            self.causes.append(1)
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
        if "source_kept" in outcome.details:
            self._line(f"source kept: {outcome.path}: {outcome.details['source_kept']}")
        if outcome.state == "failed":
            self._line(f"failed: {outcome.path}: {outcome.message}")
        elif self.quiet:
            return
        elif outcome.state == "skipped":
            if self.verbose or not outcome.message.endswith(" before"):
                self._line(f"skipped: {outcome.path}: {outcome.message}")
        elif self.verbose:
            arrow = f" -> {outcome.output}" if outcome.output else ""
            note = f" ({outcome.message})" if outcome.message else ""
            self._line(f"{outcome.path}{arrow}{note}")

    def _line(self, text: str) -> None:
        text = printable(text)
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(text), soft_wrap=True)
        else:
            click.echo(text, err=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._started
        if self.as_json:
            counts = self.counts if self.counts["planned"] else {
                state: n for state, n in self.counts.items() if state != "planned"
            }
            summary: dict[str, Any] = {
                **counts, "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
                "seconds": round(seconds, 6),
                "exit_status": 130 if kind is KeyboardInterrupt else self.exit_status(),
            }  # fmt: skip
            if kind is KeyboardInterrupt:
                summary["error"] = "interrupted"
            elif error is not None and kind is not SystemExit:
                known = isinstance(error, DicomcryptError | OSError)
                summary["exit_status"] = getattr(error, "exit_status", 1)
                summary["error"] = str(error) if known else type(error).__name__
            if self.warnings:
                summary["warnings"] = self.warnings
            click.echo(f'], "summary": {json.dumps(summary)}}}')
        elif not self.quiet:
            self._summarize(seconds)
        if self._audit is not None:
            counts = {state: n for state, n in self.counts.items() if n or state != "planned"}
            self._audit.end(
                auditing.status_of(error) or exit_status(self.causes),
                details=counts | {"bytes-in": self.bytes_in, "bytes-out": self.bytes_out},
            )  # fmt: skip

    def _summarize(self, seconds: float) -> None:
        skipped = f"{self.counts['skipped']} skipped, {self.counts['failed']} failed"
        if self.counts["planned"]:
            click.echo(f"{self.verb}, dry run: {self.counts['planned']} to do, {skipped}, "
                       f"{size_text(self.bytes_in)}; nothing was written", err=True)
            return
        rate = size_text(self.bytes_in / seconds) if seconds > 0 else "-"
        click.echo(
            f"{self.verb}: {self.counts['done']} done, {skipped}, {size_text(self.bytes_in)} in, "
            f"{size_text(self.bytes_out)} out, {seconds:.2f} s, {rate}/s",
            err=True,
        )
        if self._hard_links:
            click.echo(f"{self._hard_links} files have other names (hard links); each name was "
                       "encrypted as a file of its own", err=True)
        if self._read_back:
            where = {"medium": "the medium", "cache": "the system's cache (it could not be made "
                     "to read the medium)"}
            click.echo("verified: read back from "
                       + " and ".join(where[w] for w in sorted(self._read_back)), err=True)

    def exit_status(self, *, expect_some: bool = False) -> int:
        """0, the common cause of all failures, or 1 for mixed causes.

        expect_some: a job that found no object at all has not done what was asked for; one that
        an earlier job had done already is found."""
        if expect_some and not (self.counts["done"] or self.counts["failed"] or self._before):
            complain(f"no object to {self.verb} was found there")
            return 1
        return exit_status(self.causes)
