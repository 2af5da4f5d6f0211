"""Compare two builds: what changed, and whether anything fell.

    python bench/compare.py BASE HEAD [--processes 7] [--seconds 3] [--threshold 15] [--json]
                                      [--base-env NAME=VALUE] [--head-env NAME=VALUE]

BASE and HEAD are pythons of environments into which dicomcrypt is installed, or git
revisions: for each of those an environment is made in a temporary folder. Both run in turns, a
fresh process each time; the best of each side counts. The same measurement code, this tree's
dicomcrypt/cli/measure.py, runs on both.

Exit status: 0 nothing fell, 1 a ratio fell by more than the threshold, 2 it could not be measured.

Examples:
    python bench/compare.py main HEAD
    python bench/compare.py .venv/bin/python .venv/bin/python --head-env DICOMCRYPT_KERNEL=portable
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURE = ROOT / "dicomcrypt" / "cli" / "measure.py"
#: Loads this tree's measurement code as a part of whichever dicomcrypt is installed.
PROBE = """
import importlib.util, json, sys
import dicomcrypt.cli
spec = importlib.util.spec_from_file_location("dicomcrypt.cli._measure_compared", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
print(json.dumps(module.suite(float(sys.argv[2]), small=True)))
"""
Runs = list[dict[str, dict]]


def summarize(runs: Runs) -> dict[str, float]:
    """Return {name: ratio} of one side: best rate over its yardstick's best rate, of all runs."""
    yardsticks: dict[int, float] = {}
    rates: dict[str, tuple[float, int]] = {}
    for run in runs:
        for name, entry in run.items():
            size = entry["yardstick_bytes"]
            yardsticks[size] = max(entry["yardstick_gb_per_s"], yardsticks.get(size, 0.0))
            rates[name] = (max(entry["gb_per_s"], rates.get(name, (0.0, size))[0]), size)
    return {name: rate / yardsticks[size] for name, (rate, size) in rates.items()}


def changes(base: Runs, head: Runs, threshold: float = 0.15) -> list[dict]:
    """Return one entry a figure that both sides have: ratios, change, and whether it fell."""
    before, after = summarize(base), summarize(head)
    found = []
    for name in before:
        if name not in after:
            continue
        change = after[name] / before[name] - 1
        found.append({"name": name, "base": before[name], "head": after[name], "change": change,
                      "fell": change < -threshold})
    return found


def prepare(side: str, folder: pathlib.Path) -> str:
    """Return the python of one side; for a revision, make its environment first."""
    if os.path.isfile(side) and os.access(side, os.X_OK):
        return os.path.abspath(side)
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{side}^{{commit}}"],
                           cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"{side!r} is neither a python nor a git revision")
    tree = folder / "tree"
    tree.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", found.stdout.strip()], cwd=ROOT, check=True,
                             capture_output=True)
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install",
                    tree], check=True, stdout=sys.stderr)
    return str(python)


def probe(python: str, seconds: float, settings: dict[str, str], cwd: str) -> dict[str, dict]:
    """Run the measurements in one fresh process."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", **settings}
    done = subprocess.run([python, "-c", PROBE, MEASURE, str(seconds)], env=environment, cwd=cwd,
                          capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        print(f"{python} could not be measured", file=sys.stderr)
        raise SystemExit(2)
    return json.loads(done.stdout)


def setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("give NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE")
    parser.add_argument("head", metavar="HEAD")
    parser.add_argument("--processes", type=int, default=7, help="of each side, at least 7")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, a process")
    parser.add_argument("--threshold", type=float, default=15.0, help="per cent that may be lost")
    parser.add_argument("--base-env", type=setting, action="append", default=[])
    parser.add_argument("--head-env", type=setting, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pythons = [prepare(side, pathlib.Path(folder, name))
                   for side, name in ((options.base, "base"), (options.head, "head"))]
        settings = [dict(options.base_env), dict(options.head_env)]
        runs: list[Runs] = [[], []]
        for n in range(max(7, options.processes)):
            for side in (0, 1) if n % 2 == 0 else (1, 0):  # neither is always the first
                runs[side].append(probe(pythons[side], options.seconds, settings[side], folder))
            print(f"round {n + 1} of {max(7, options.processes)}", file=sys.stderr)
    found = changes(*runs, options.threshold / 100)
    fell = [entry["name"] for entry in found if entry["fell"]]
    if options.json:
        print(json.dumps({"changes": found, "fell": fell, "threshold": options.threshold}))
    else:
        width = max(len(entry["name"]) for entry in found)
        print(f"{'ratio to aes-256-gcm':{width}}  {'base':>8}  {'head':>8}  {'change':>8}")
        for entry in found:
            print(f"{entry['name']:{width}}  {entry['base']:8.4f}  {entry['head']:8.4f}  "
                  f"{entry['change']:+8.1%}{'  FELL' if entry['fell'] else ''}")
        print(f"fell by more than {options.threshold:g} %: {', '.join(fell) or 'nothing'}")
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
