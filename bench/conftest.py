"""`make bench`: every figure with its yardstick, target and verdict in one table."""

from __future__ import annotations

import json
import pathlib
import time
from dataclasses import asdict, dataclass

import pytest

from dicomcrypt.cli.bench import machine
from dicomcrypt.cli.measure import PIECE, aes_gcm, best

RESULTS = pathlib.Path(__file__).parent / "results"
ROWS: list[Row] = []


#: {yardstick: all that was measured of it in the run, GB/s or seconds}. One that was disturbed
#: would flatter whatever stands beside it: ratios are to the best, and a best that was not
#: reached again is none, so nothing is judged by it.
SEEN: dict[str, list[float]] = {}
DISTURBED = 1.25
AGAIN, WITHIN = 3, 1.1
GCM = "aes-256-gcm"


@dataclass
class Row:
    """One line of the table. seconds: the least of many; beside: the yardstick's own then."""

    name: str
    seconds: float
    gb_per_s: float | None
    yardstick: str
    beside: float | None
    at_most_us: float | None
    at_least: float | None
    note: str

    def best(self) -> float:
        return (max if self.gb_per_s else min)(SEEN[self.yardstick])

    def ratio(self) -> float | None:
        """The rate's share of the yardstick's best rate, or its best time by this time."""
        if self.beside is None:
            return None
        return self.gb_per_s / self.best() if self.gb_per_s else self.best() / self.seconds

    def disturbed(self) -> bool:
        """Whether the yardstick was much slower beside this figure than at its best."""
        if self.beside is None:
            return False
        low, high = sorted((self.beside, self.best()))
        return high > DISTURBED * low

    def settled(self) -> bool:
        """Whether the yardstick's best was reached more than once."""
        low, high = self.best() / WITHIN, self.best() * WITHIN
        return sum(low <= seen <= high for seen in SEEN[self.yardstick]) >= AGAIN or (
            not self.gb_per_s)  # a time beside a time: both ran in the same moment

    def target(self) -> str:
        if self.at_most_us is not None:
            return f"<= {self.at_most_us:g} us"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    def met(self) -> bool | None:
        if self.at_most_us is not None:
            return self.seconds * 1e6 <= self.at_most_us
        if self.at_least is None or not self.settled():
            return None
        return self.ratio() >= self.at_least

    def facts(self) -> dict:
        return {**asdict(self), "ratio": self.ratio(), "disturbed": self.disturbed(),
                "target": self.target(), "met": self.met()}

    def figure(self) -> str:
        unit = f"{self.seconds * 1e6:11.1f} us"
        return unit if self.gb_per_s is None else f"{unit} {self.gb_per_s:8.3f} GB/s"


def pytest_addoption(parser):
    parser.addoption("--short", action="store_true", help="Few rounds: under a minute in all.")


@pytest.fixture(scope="session")
def short(request):
    return request.config.getoption("--short")


class Recorder:
    """Measures by pytest-benchmark, puts the yardstick beside it, keeps the row."""

    def __init__(self, benchmark, short: bool) -> None:
        self._benchmark, self._short, self._used = benchmark, short, False

    def __call__(
        self, name, work, size=None, *, rounds=1000, yardstick=None, yardstick_size=PIECE,
        yardstick_name=GCM, **target,
    ) -> Row:
        """Measure `work`; a yardstick before and after it, AES-256-GCM on 64 KiB unless given.

        size: bytes a round, None for a time. target: at_most_us or at_least (a ratio); note.
        """
        rounds = max(5, rounds // 10) if self._short else rounds
        timed = size is None and yardstick is None  # a time that has nothing to stand beside
        other, some = yardstick or aes_gcm(), max(100, rounds // 20)
        before = None if timed else best(other, some)
        if self._used:  # pytest-benchmark takes one figure a test
            seconds = best(work, rounds)
        else:
            self._benchmark.pedantic(work, rounds=rounds, iterations=1, warmup_rounds=1)
            seconds, self._used = self._benchmark.stats.stats.min, True
        if timed:
            return self.keep(name, seconds, **target)
        times = (before, best(other, some))
        if size is None:
            SEEN.setdefault(yardstick_name, []).extend(times)
            return self.keep(name, seconds, None, yardstick_name, min(times), **target)
        rates = [yardstick_size / took / 1e9 for took in times]
        SEEN.setdefault(yardstick_name, []).extend(rates)
        return self.keep(name, seconds, size / seconds / 1e9, yardstick_name, max(rates),
                         **target)

    def keep(self, name, seconds, gb_per_s=None, yardstick="", beside=None, *, at_most_us=None,
             at_least=None, note="") -> Row:
        row = Row(name, seconds, gb_per_s, yardstick, beside, at_most_us, at_least, note)
        ROWS.append(row)
        return row


@pytest.fixture
def measure(benchmark, short):
    return Recorder(benchmark, short)


@pytest.fixture
def keep(short):
    """For what is measured without pytest-benchmark."""
    return Recorder(None, short).keep


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    facts = machine()
    write = terminalreporter.write_line
    width = max(len(row.name) for row in ROWS)
    terminalreporter.section(f"figures, kernel {facts['kernel']}")
    write(f"{'name':{width}}  {'figure':>28}  {'ratio':>8}  {'target':>12}  met?")
    for row in ROWS:
        ratio = "" if row.ratio() is None else f"{row.ratio():8.3f}"
        met = {True: "yes", False: "NO", None: "?" if row.target() else ""}[row.met()]
        notes = [f"to {row.yardstick}" if row.yardstick not in ("", GCM) else "", row.note,
                 "disturbed" if row.disturbed() else "",
                 "yardstick not settled" if met == "?" else ""]
        write(f"{row.name:{width}}  {row.figure():28}  {ratio:>8}  {row.target():>12}  "
              f"{met:4} {'; '.join(note for note in notes if note)}".rstrip())
    judged = [row.met() for row in ROWS if row.target()]
    write(f"ratios are to the run's best AES-256-GCM encrypt_into (64 KiB) unless named; "
          f"of {len(judged)} targets {judged.count(True)} met, {judged.count(False)} missed, "
          f"{judged.count(None)} not judged; "
          f"{sum(row.disturbed() for row in ROWS)} figures disturbed: repeat on a quiet machine")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("bench-%Y%m%dT%H%M%SZ.json", time.gmtime())
    path.write_text(json.dumps({**facts, "rows": [row.facts() for row in ROWS]}, indent=1))
    write(f"written: {path.relative_to(RESULTS.parent.parent)}")
