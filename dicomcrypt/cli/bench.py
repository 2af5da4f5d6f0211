"""The command that tells how fast this machine is, and with which kernel."""

from __future__ import annotations

import os
import platform
from typing import Any

import click

from . import options as opt


def machine() -> dict[str, Any]:
    """The kernel in use, the verdict on each, and what it runs on."""
    import cryptography

    from .._version import __version__
    from ..ciphers.transform import active_kernel, kernels

    return {
        "version": __version__, "kernel": active_kernel(), "kernels": kernels(),
        "python": platform.python_version(), "cryptography": cryptography.__version__,
        "machine": platform.machine(), "cpus": os.cpu_count(),
    }  # fmt: skip


@click.command(epilog="""\b
Examples:
  dicomcrypt bench
  dicomcrypt bench --seconds 60            steadier figures on a busy machine
  dicomcrypt bench --json > figures.json
  DICOMCRYPT_KERNEL=portable dicomcrypt bench

\b
Each figure is the best of many; the last column is its share of AES-256-GCM, measured in turns
with it (over the same 16 MiB for the 16 MiB buffer). Every answer is checked.
""")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True,
              help="About how long to measure.")
@opt.as_json
def bench(seconds: float, as_json: bool) -> None:
    """Measure how fast this machine encrypts, and say which kernel runs on it."""
    from .console import print_json
    from .measure import suite

    facts = machine()
    figures = suite(seconds)
    if as_json:
        print_json({**facts, "figures": figures})
        return
    verdicts = ", ".join(f"{name}: {verdict}" for name, verdict in facts["kernels"].items())
    click.echo(f"kernel: {facts['kernel']}  ({verdicts})")
    click.echo(f"dicomcrypt {facts['version']}, Python {facts['python']}, "
               f"cryptography {facts['cryptography']}, {facts['cpus']} CPUs\n")
    width = max(map(len, figures))
    for name, found in figures.items():
        note = f"  {found['note']}" if found["note"] else ""
        click.echo(f"{name:{width}}  {found['gb_per_s']:8.3f} GB/s  {found['ratio']:6.2f}{note}")
