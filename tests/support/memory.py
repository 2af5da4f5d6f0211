"""Resident memory of a command and its workers, sampled while it runs."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from dataclasses import dataclass, field


@dataclass
class Samples:
    """status: of the command; peaks: MB by process, the command's own first; series: (seconds,
    MB of the largest process) over time."""

    status: int = -1
    peaks: dict[int, float] = field(default_factory=dict)
    series: list[tuple[float, float]] = field(default_factory=list)
    err: str = ""

    @property
    def largest(self) -> float:
        return max(self.peaks.values())

    def text(self, points: int = 12) -> str:
        """Some of the series, and the peaks."""
        step = max(len(self.series) // points, 1)
        line = ", ".join(f"{at:.1f} s {size:.0f} MB" for at, size in self.series[::step])
        peaks = ", ".join(f"{size:.0f}" for size in self.peaks.values())
        return f"{line}; peaks of the {len(self.peaks)} processes in MB: {peaks}"


def _family(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text()
            waiting += map(int, text.split())
    return found


def sample(words, *, pause: float = 0.05, **options) -> Samples:
    """Run a command and sample it."""
    samples, begin = Samples(), time.monotonic()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, **options)
    while process.poll() is None:
        now = []
        for pid in _family(process.pid):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name == "VmHWM":
                        samples.peaks[pid] = int(value.split()[0]) * 1024 / 1e6
                    elif name == "VmRSS":
                        now.append(int(value.split()[0]) * 1024 / 1e6)
        if now:
            samples.series.append((time.monotonic() - begin, max(now)))
        time.sleep(pause)
    samples.err = process.communicate()[1].decode()
    samples.status = process.returncode
    return samples
