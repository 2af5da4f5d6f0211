"""What the pages of the documentation hold: fences, the commands in them, inline code."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from functools import cached_property

ROOT = pathlib.Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*$")
_HEADING = re.compile(r"^(#{1,6}) +(.*?) *$")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_BLOCK = {"for": "done", "while": "done", "until": "done", "if": "fi", "case": "esac"}
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.S)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as a user types it: comments gone, continued lines joined."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Fence:
    """A fenced block: its language ("" if none is given), its text, the line after its ```."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.language or 'plain'} block"

    @cached_property
    def commands(self) -> list[Command]:
        """The commands of an `sh` fence."""
        return _commands(self) if self.language == "sh" else []


@dataclasses.dataclass(frozen=True)
class Page:
    """A page, or the part of one below a heading."""

    name: str
    text: str
    first: int = 1

    @cached_property
    def fences(self) -> list[Fence]:
        """All fenced blocks from top to bottom."""
        found, lines = [], self.text.split("\n")
        start = None
        for number, line in enumerate(lines):
            if (match := _FENCE.match(line)) is None:
                continue
            if start is None:
                start, indent, language = number, len(match["indent"]), match["language"]
            else:
                body = "".join(f"{x[min(indent, len(x) - len(x.lstrip())):]}\n"
                               for x in lines[start + 1:number])
                found.append(Fence(self.name, self.first + start + 1, language, body))
                start = None
        if start is not None:
            raise ValueError(f"{self.name}:{self.first + start}: a fence without an end")
        return found

    @property
    def commands(self) -> list[Command]:
        """The commands of all `sh` fences from top to bottom."""
        return [command for fence in self.fences for command in fence.commands]

    def headings(self, *, deep: int = 2) -> list[str]:
        """The headings of a level (2 is `##`) below which something is run."""
        return [heading for heading in self.all_headings(deep=deep)
                if any(fence.language in RUN for fence in self.part(heading).fences)]

    def all_headings(self, *, deep: int = 2) -> list[str]:
        """The headings of a level."""
        return [heading for _, marks, heading in self._headings if marks == "#" * deep]

    def part(self, heading: str) -> Page:
        """Return what stands below a heading, the headings below it included."""
        lines = self.text.split("\n")
        at = [(n, m) for n, m, h in self._headings if h == heading]
        if len(at) != 1:
            raise KeyError(f"{self.name} has {len(at)} headings {heading!r}")
        (start, marks), = at
        ends = [n for n, m, _ in self._headings if n > start and len(m) <= len(marks)]
        end = min(ends, default=len(lines))
        return Page(self.name, "\n".join(lines[start:end]), self.first + start)

    @cached_property
    def _headings(self) -> list[tuple[int, str, str]]:
        found, inside = [], False
        for number, line in enumerate(self.text.split("\n")):
            if _FENCE.match(line):
                inside = not inside
            elif not inside and (match := _HEADING.match(line)):
                found.append((number, match[1], match[2]))
        return found

    @cached_property
    def prose(self) -> str:
        """The text with its fences blanked out; the lines keep their numbers."""
        out, inside = [], False
        for line in self.text.split("\n"):
            mark = _FENCE.match(line) is not None
            out.append("" if mark or inside else line)
            inside ^= mark
        return "\n".join(out)

    def spans(self) -> list[tuple[int, str]]:
        """Inline code as (line, text on one line)."""
        return [(self.first + self.prose.count("\n", 0, m.start()), " ".join(m[1].split()))
                for m in _SPAN.finditer(self.prose)]


#: The languages of fences that a test runs or reads.
RUN = ("sh", "python", "toml", "json")


def page(name: str) -> Page:
    """Read a page, named from the top of the source: docs/keys.md."""
    return Page(name, (ROOT / name).read_text())


def all_pages() -> list[str]:
    """Every page whose commands are to run."""
    top = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    return top + sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))


def _commands(fence: Fence) -> list[Command]:
    found: list[Command] = []
    lines = fence.text.split("\n")
    at = 0
    while at < len(lines):
        start, text = at, _bare(lines[at])
        while text.endswith("\\"):
            at += 1
            text = f"{text[:-1].rstrip()} {_bare(lines[at]).lstrip()}"
        at += 1
        if not text.strip():
            continue
        text = text.strip()
        if (match := _HEREDOC.search(text)) is not None:
            end = lines.index(match[2], at)
            text = "\n".join([text, *lines[at:end + 1]])
            at = end + 1
        elif (closing := _BLOCK.get(text.split()[0])) and not re.search(rf"\b{closing}$", text):
            while not re.match(rf"\s*{closing}\b", lines[at - 1]):
                text += f"\n{_bare(lines[at])}"
                at += 1
        found.append(Command(fence.page, fence.line + start, text))
    return found


def _bare(line: str) -> str:
    """A line without its comment: `#` at its start or after a blank, outside of quotes."""
    quote = ""
    for place, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()
