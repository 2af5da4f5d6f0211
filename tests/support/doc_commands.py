"""Run the commands of the documentation as they stand there.

How a page is written. Commands stand in ```sh fences exactly as a user types them: no `$ `,
comments begin with `#`, a line is continued by `\\`; here-documents, `for ... done` and the like
may be used. What a command prints stands in a ```text fence. ```python is run, ```toml parsed
(and loaded, if it is the configuration), ```json parsed. A plain fence holds no command.

How a page is tested. One file a page, tests/docs/test_NAME.py, which names it, so that the test
for completeness finds it:

    from doc_commands import Rule, Shown, page

    PAGE = "docs/keys.md"

    def test_the_page_runs_from_top_to_bottom(scene):
        scene.dicom("ct.dcm", "CT_small.dcm")              # what the reader has already
        scene.run(page(PAGE), [
            Rule(r"decrypt .* -i stolen.key", status=3),   # a refusal that the page shows
            Rule(r"pki init", replies={"passphrase": "of the authority"}),
            Rule(r"otp register LINK", replace={"LINK": lambda s: s.out.split()[-1]}),
            Rule(r"receiver.py", serve=r"listening on"),   # started, stopped at the end
            Rule(r"verify safe/", after=lambda s: check(s.out)),
            Rule(r"\\[audit\\]", do=lambda s, text: s.configure(text)),   # a fence
        ], replies={"passphrase": "correct horse"}, replace={"pacs.example": "127.0.0.1"})

`scene` (tests/docs/conftest.py) is a `Scene`: a folder of its own with a home folder in it. Each
command runs in bash in that folder; the working folder and exported variables carry over from one
to the next. A command must end with status 0, or with the one that its rule says. A rule is a
regular expression that is searched in the command (or in the text of a fence that is not `sh`);
the first rule that fits counts, and one that fits nothing fails the test, so that tests do not
outlive what they speak of. Prompts are answered by `replies`: a regular expression that is
searched in the prompt, and the answer: a text for a secret, which is typed once the terminal
shows nothing of it, `Shown(text)` for what the terminal shows, or a list of them, taken in turn.
"Repeat for confirmation" gets the last answer again. A prompt without an answer fails the test.
`replace` stands one word of the page for another: a text, or a function of the scene.

`page(PAGE).part("Heading")` is the part below a heading, for pages of procedures that begin anew
each time; `page(PAGE).headings()` lists those that have something to run, to parametrise over, so
that none is left out.

What a test cannot have is done by rules of this file, each checks what it can: `pip install` that
the extra exists, `make` that the target does, `apt-get install` that it is a package the tests
know.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click.testing
from doc_pages import ROOT, Command, Fence, Page, all_pages, page
from pydicom.data import get_testdata_file
from terminal import environment

from dicomcrypt import config
from dicomcrypt.cli import cli

__all__ = ["ROOT", "Command", "Fence", "Page", "Rule", "Scene", "Shown", "all_pages", "page"]

#: Debian's packages that the pages name: those that the tests skip without, and their like.
DEBIAN = frozenset("""dcmtk gcc git gnupg iproute2 ldap-utils libgdcm-tools libpcsclite-dev make
    openssl opensc pcscd python3-dev python3-venv slapd softhsm2 vsmartcard-vpcd xxd""".split())
_SECONDS = 60


class Shown(str):
    """An answer that the terminal shows as it is typed."""


Answer = str | Sequence[str] | Callable[["Scene"], str]
Word = str | Callable[["Scene"], str]


@dataclasses.dataclass
class Rule:
    """What a test says of the commands (or fences) in which `pattern` is found.

    status: the exit status that is right; several are taken in turn. replies, replace: beside
    those of the page. before, after: called with the scene, which has `out` and `err` of the last
    command. do: called with the scene and the text instead of running it. serve: it goes on
    running; what it says when it is ready.
    """

    pattern: str
    status: int | Sequence[int] = 0
    replies: Mapping[str, Answer] = dataclasses.field(default_factory=dict)
    replace: Mapping[str, Word] = dataclasses.field(default_factory=dict)
    before: Callable[[Scene], object] | None = None
    after: Callable[[Scene], object] | None = None
    do: Callable[[Scene, str], object] | None = None
    serve: str | None = None
    used: bool = False
    _turn: int = 0

    def right_status(self) -> int:
        """The status for the next command that fits."""
        if isinstance(self.status, int):
            return self.status
        self._turn += 1
        return self.status[min(self._turn, len(self.status)) - 1]

    def is_left(self) -> bool:
        """Whether one of several statuses never had its turn."""
        return not isinstance(self.status, int) and self._turn < len(self.status)

    def fits(self, text: str) -> bool:
        return re.search(self.pattern, text) is not None


class Scene:
    """A folder in which pages run, with a home folder; `dicomcrypt` and `python` on the path."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.base, self.folder, self.home = folder, folder / "here", folder / "home"
        tools = folder / "bin"
        for place in (self.folder, self.home, tools):
            place.mkdir()
        for name, words in {"dicomcrypt": "-m dicomcrypt", "python": "", "python3": ""}.items():
            program = tools / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            program.chmod(0o755)
        self.environment = environment()
        for name in ("DICOMCRYPT_CONFIG", "XDG_CONFIG_HOME"):
            self.environment.pop(name, None)
        self.environment |= {
            "HOME": str(self.home), "PATH": os.pathsep.join(
                [str(tools), os.path.dirname(sys.executable), os.environ["PATH"]]),
            "LC_ALL": "C.UTF-8", "TZ": "UTC", "GNUPGHOME": str(self.home / "gnupg"),
        }
        self._state = folder / "state"
        self._state.write_text(f"cd {shlex.quote(str(self.folder))}\n")
        self._servers: list[tuple[str, subprocess.Popen[bytes]]] = []
        #: What the last command wrote to standard output, and to standard error or the terminal.
        self.out = self.err = ""
        #: The names of the page's Python, for all its blocks.
        self.space: dict[str, Any] = {}

    # What the reader has before the page begins.

    def dicom(self, name: str, source: str = "CT_small.dcm") -> pathlib.Path:
        """Put one of pydicom's files into the folder."""
        return self.write(name, pathlib.Path(get_testdata_file(source)).read_bytes())

    def archive(self, name: str = "archive") -> pathlib.Path:
        """Put a small archive into the folder: five DICOM files, and one that is none."""
        for place, source in {"a/ct.dcm": "CT_small.dcm", "a/mr.dcm": "MR_small.dcm",
                              "b/us.dcm": "examples_ybr_color.dcm", "b/rt.dcm": "rtplan.dcm",
                              "b/c/nm.dcm": "JPEG2000.dcm"}.items():
            self.dicom(f"{name}/{place}", source)
        self.write(f"{name}/readme.txt", b"not DICOM\n")
        return self.folder / name

    def write(self, name: str, data: bytes | str, mode: int = 0o644) -> pathlib.Path:
        """Write a file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return path

    def configure(self, text: str) -> None:
        """Add to the reader's configuration file; names of files in it are relative to `config`."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        with open(self.config, "a") as file:
            file.write(text + "\n")

    def prepare(self, *lines: str) -> None:
        """Run lines of dicomcrypt's in this process, which is quicker: what was there before."""
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            for line in lines:
                done = click.testing.CliRunner().invoke(cli, shlex.split(line))
                assert done.exit_code == 0, (line, done.output, done.exception)
        finally:
            os.chdir(before)

    @property
    def config(self) -> pathlib.Path:
        """The reader's configuration file."""
        return self.home / ".config/dicomcrypt/config.toml"

    # Running.

    def run(self, part: Page, rules: Sequence[Rule] = (), *,
            replies: Mapping[str, Answer] | None = None,
            replace: Mapping[str, Word] | None = None) -> None:
        """Run what a page, or a part of one, holds, from top to bottom."""
        ran = 0
        for fence in part.fences:
            if fence.language == "sh":
                for command in fence.commands:
                    self._step(command, rules, replies or {}, replace or {})
                    ran += 1
            elif fence.language in ("python", "toml", "json"):
                self._block(fence, rules)
                ran += 1
        unused = [rule.pattern for rule in rules if not rule.used or rule.is_left()]
        assert not unused, f"{part.name} has nothing that these rules fit: {unused}"
        assert ran, f"{part.name}: nothing ran"

    def _step(self, command: Command, rules: Sequence[Rule], replies: Mapping[str, Answer],
              replace: Mapping[str, Word]) -> None:
        rule = _first(rules, command.text) or Rule("")
        if rule.before:
            rule.before(self)
        text = command.text
        for word, other in {**replace, **rule.replace}.items():
            value = other(self) if callable(other) else other
            text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", lambda _, v=value: v, text)
        try:
            if rule.do:
                rule.do(self, text)
            elif rule.serve is not None:
                self._start(text, rule.serve)
            elif not _by_name(text):
                status = self.shell(text, {**rule.replies, **replies})
                assert status == rule.right_status(), f"exit status {status}\n{self.err}{self.out}"
            if rule.after:
                rule.after(self)
        except Exception as error:
            raise AssertionError(f"{command}\n{type(error).__name__}: {error}") from error

    def _block(self, fence: Fence, rules: Sequence[Rule]) -> None:
        rule = _first(rules, fence.text) or Rule("")
        try:
            if rule.before:
                rule.before(self)
            if fence.language == "toml":
                check_toml(fence.text)
            elif fence.language == "json":
                json.loads(fence.text)
            elif rule.do is None:
                self.python(fence)
            if rule.do:
                rule.do(self, fence.text)
            if rule.after:
                rule.after(self)
        except Exception as error:
            raise AssertionError(f"{fence}\n{type(error).__name__}: {error}") from error

    def python(self, fence: Fence) -> None:
        """Run a block of Python in this process, in the scene's folder."""
        source = "\n" * (fence.line - 1) + fence.text
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            exec(compile(source, fence.page, "exec"), self.space)  # noqa: S102
        finally:
            os.chdir(before)

    def shell(self, text: str, replies: Mapping[str, Answer] | None = None) -> int:
        """Run one command in bash on a terminal of its own; return its exit status. `out` and
        `err` have what it wrote."""
        ours, theirs = os.openpty()
        process = self._popen(text, f"exec <{shlex.quote(os.ttyname(theirs))}\n",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            talk = _Talk(self, process, ours, theirs, replies or {})
            talk.run()
        finally:
            _end(process)
            for stream in (process.stdout, process.stderr):
                stream.close()
            os.close(ours)
            os.close(theirs)
        self.out, self.err = talk.out.decode(errors="replace"), talk.err.decode(errors="replace")
        return process.returncode

    def _popen(self, text: str, begin: str, **options: Any) -> subprocess.Popen[bytes]:
        # What a line of a user's shell leaves behind: where he is, and what he has exported.
        state = shlex.quote(str(self._state))
        script = (f"{begin}. {state}\n"
                  f"trap '{{ export -p; printf \"cd %q\\n\" \"$PWD\"; }} >{state}' EXIT\n{text}\n")
        return subprocess.Popen(["bash", "-c", script], env=self.environment, cwd=self.folder,
                                stdin=subprocess.DEVNULL, start_new_session=True, **options)

    def _start(self, text: str, ready: str) -> None:
        log = self.base / f"server{len(self._servers)}.log"
        with open(log, "wb") as file:
            process = self._popen(text, "", stdout=file, stderr=file)
        until = time.monotonic() + _SECONDS
        while not re.search(ready, said := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > until:
                _end(process)
                raise AssertionError(f"ended with {process.returncode}, never ready\n{said}")
            time.sleep(0.05)
        self._servers.append((text, process))
        self.out, self.err = said, ""

    def stop(self) -> None:
        """Stop what `serve` rules started, as a user does it: by SIGTERM."""
        while self._servers:
            text, process = self._servers.pop()
            assert process.poll() is None, f"{text}: ended on its own with {process.returncode}"
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                _end(process)
                raise AssertionError(f"{text}: does not end on SIGTERM") from None

    def close(self) -> None:
        """End everything that runs here."""
        try:
            self.stop()
        finally:
            if (self.home / "gnupg").exists() and shutil.which("gpgconf"):
                subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, check=False)


class _Talk:
    """One command on its terminal: reads what it writes, answers what it asks."""

    def __init__(self, scene: Scene, process: subprocess.Popen[bytes], ours: int, theirs: int,
                 replies: Mapping[str, Answer]) -> None:
        self.scene, self.process, self.ours, self.theirs = scene, process, ours, theirs
        self.out = self.err = b""
        # What was written since the last answer; typed lines may come back after the next question.
        self._since = {ours: b"", process.stderr.fileno(): b""}
        self._last = ""
        self._answers = {k: [v] if isinstance(v, str) or callable(v) else list(v)
                         for k, v in replies.items()}
        self._asked = 0
        self._quiet = time.monotonic()

    def run(self) -> None:
        until = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as chosen:
            for stream in (self.process.stdout.fileno(), self.process.stderr.fileno(), self.ours):
                chosen.register(stream, selectors.EVENT_READ)
            while len(chosen.get_map()) > 1 or self.process.poll() is None:
                ready = chosen.select(0.02)
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    if not data:
                        chosen.unregister(key.fd)
                    elif key.fd == self.process.stdout.fileno():
                        self.out += data
                    else:
                        self.err += data
                        self._since[key.fd] += data
                if not ready:
                    self._prompt()
                else:
                    self._quiet = time.monotonic()
                if time.monotonic() > until:
                    said = (self.out + self.err).decode(errors="replace")
                    raise TimeoutError(f"still runs after {_SECONDS} s; it said:\n{said}")

    def _prompt(self) -> None:
        """Answer if a last line is a question that was not answered yet."""
        for place, said in self._since.items():
            line = said.decode(errors="replace").rpartition("\n")[2].strip()
            if line and line[-1] in ":?]":
                self._answer(place, line)

    def _answer(self, place: int, line: str) -> None:
        reply = self._reply(line)
        if reply is None:  # a question, or half a line?
            asked = time.monotonic() - self._quiet > 3
            assert not asked, f"it asks {line!r}, and the test has no answer"
            return
        if not isinstance(reply, Shown) and termios.tcgetattr(self.theirs)[3] & termios.ECHO:
            return  # not yet: a secret is typed when the terminal shows nothing of it
        self._asked += 1
        assert self._asked < 20, f"it asks {line!r} again and again"
        self._last = reply
        if len(self._turn) > 1:
            del self._turn[0]
        self._since[place] = b""
        os.write(self.ours, reply.encode() + b"\n")

    def _reply(self, line: str) -> str | None:
        self._turn: list[Any] = []
        if "confirmation" in line:
            return self._last
        for pattern, answers in self._answers.items():
            if re.search(pattern, line):
                self._turn = answers
                return answers[0](self.scene) if callable(answers[0]) else answers[0]
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_toml(text: str) -> None:
    """Parse TOML; what is dicomcrypt's configuration by its sections is checked by the loader."""
    whole = tomllib.loads(text)
    if any(isinstance(v, dict) and k in config.SECTIONS for k, v in whole.items()):
        config._check(whole, "the page's configuration")


def _first(rules: Sequence[Rule], text: str) -> Rule | None:
    for rule in rules:
        if rule.fits(text):
            rule.used = True
            return rule
    return None


def _by_name(text: str) -> bool:
    """Whether a command is one that no test can run; checks of it what can be checked."""
    words = shlex.split(text, comments=True)
    if words[:1] == ["sudo"]:
        words = words[1:]
    if words[:2] == ["pip", "install"] or words[1:4] == ["-m", "pip", "install"]:
        for word in words[words.index("install") + 1:]:
            _check_requirement(word)
        return True
    if words[:1] == ["make"]:
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        return True
    if words[:2] == ["apt-get", "install"]:
        names = {w for w in words[2:] if not w.startswith("-")}
        assert names <= DEBIAN, f"not known as Debian's: {sorted(names - DEBIAN)}"
        return True
    return False


def _check_requirement(word: str) -> None:
    """An argument of `pip install`: this package, with extras that it has, or an option."""
    if word.startswith("-"):
        return
    match = re.fullmatch(r"(dicomcrypt|\.)(?:\[([\w,-]+)\])?", word)
    assert match, f"pip install {word}: not this package"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    missing = set((match[2] or "").split(",")) - {""} - set(extras)
    assert not missing, f"no extra {sorted(missing)}"
