"""Collect what an installation without a network needs, with hashes and a bill of materials.

    python tools/wheelhouse.py [--output wheelhouse] [--extras pki,vault] dist/dicomcrypt-*.whl

Needs the extra `dist`. Run it with the Python, on the kind of system, that it is for. The folder
then holds every wheel (what comes as source is built), requirements.txt with the SHA-256 of each,
and sbom.cdx.json (CycloneDX 1.6). Before the tool ends it has installed all of it from the folder
alone into an environment of its own. docs/install.md tells what to do with the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(*command: str | os.PathLike[str]) -> None:
    subprocess.run(command, check=True)


def requirements(folder: pathlib.Path) -> str:
    """Return a line for each wheel: its project, its version, its hash."""
    lines = []
    for path in sorted(folder.glob("*.whl"), key=lambda path: path.name.lower()):
        name, version = path.name.split("-")[:2]
        name = re.sub(r"[-_.]+", "-", name).lower()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def collect(wheel: pathlib.Path, extras: str, folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    run(*PIP, "wheel", "--wheel-dir", folder, wanted)
    (folder / "requirements.txt").write_text(requirements(folder))


def try_out(folder: pathlib.Path, environment: pathlib.Path) -> pathlib.Path:
    """Install from the folder alone, and return the Python that has it."""
    run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(*PIP, "--python", python, "--isolated", "install", "--no-index", "--find-links", folder,
        "--require-hashes", "-r", folder / "requirements.txt")
    run(*PIP, "--python", python, "check")
    run(*PIP, "--python", python, "uninstall", "--yes", "pip", "setuptools")  # not in the bill
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("wheelhouse"))
    parser.add_argument("--extras", default="")
    parser.add_argument("wheel", type=pathlib.Path)
    options = parser.parse_args()
    folder = options.output.resolve()
    collect(options.wheel.resolve(), options.extras, folder)
    with tempfile.TemporaryDirectory() as name:
        python = try_out(folder, pathlib.Path(name) / "environment")
        run(sys.executable, "-m", "cyclonedx_py", "environment", "--spec-version", "1.6",
            "--output-reproducible", "--validate", "-o", folder / "sbom.cdx.json", python)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size:.1f} MB, tried")
    return 0


if __name__ == "__main__":
    sys.exit(main())
