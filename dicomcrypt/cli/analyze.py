"""`dicomcrypt analyze`: what the image-encryption literature measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options as opt
from .figures import figure_place

if TYPE_CHECKING:
    from ..analysis.subject import Subject
    from ..objects.opened import OpenedObject


@click.command(epilog="""\b
Examples:
  dicomcrypt analyze ct.dcm
  dicomcrypt analyze ct.dcm --method all              one column a method
  dicomcrypt analyze ct.dcm --of sealed --json
  dicomcrypt analyze mr.dcm --per-frame
  dicomcrypt analyze mr.dcm -n 3 --plot out.png       image, histograms, neighbours
  dicomcrypt analyze us.dcm --decoded                 its pixels, as if they were not compressed

\b
Each measure stands beside the band that holds it for ideal noise with probability 1 - alpha, two
sided. docs/analysis.md has the protocol and the sources. The file stays as it is, and is held in
memory; keys are made for the measurement. The exit status does not depend on the bands: some
measures are outside by construction, and the text says which. The figure shows the image.
""")
@click.argument("path", metavar="FILE")
@click.option("--method", type=click.Choice([*opt.METHODS, "all"]), default="randomized",
              show_default=True, help="Method of the block layer; all: each of them.")
@click.option("--of", type=click.Choice(["layer", "sealed"]), default="layer", show_default=True,
              help="Measure the block layer's output, or the sealed bytes that leave the machine.")
@click.option("-n", "--number", type=click.IntRange(0), help="Only this frame, from 0 on.")
@click.option("--per-frame", is_flag=True, help="Each frame alone instead of all together.")
@click.option("--decoded", is_flag=True, help="Of compressed frames measure the pixels.")
@click.option("--alpha", type=click.FloatRange(1e-6, 0.5), default=0.01, show_default=True,
              help="Significance level of each band.")
@click.option("--trials", type=click.IntRange(1, 1000), default=8, show_default=True,
              help="Pairs of images for NPCR and UACI.")
@click.option("--seed", type=click.IntRange(0), help="Make the measurement's keys from a number: "
              "the same figures again (of the layer; each sealing draws its own salt).")
@click.option("--plot", metavar="X.png", help="Write a figure: before and after.")
@opt.force
@opt.as_json
def analyze(
    path: str, method: str, of: str, number: int | None, per_frame: bool, decoded: bool,
    alpha: float, trials: int, seed: int | None, plot: str | None, force: bool, as_json: bool,
) -> None:
    """Measure the block layer's output on a plain file, each measure against its band.

    Byte entropy, chi-square of the histogram, correlation of neighbours, NPCR and UACI of a changed
    bit in the image and in the keys. By byte, and by sample where samples have 16 bits.
    """
    from ..analysis.study import Protocol, remarks, study
    from ..analysis.subject import load
    from .console import print_json

    if per_frame and number is not None:
        raise UsageError("--per-frame and --number: give one of them")
    if plot is not None:
        figure_place(plot)
    subject, obj = load(path, frame=number, decoded=decoded)
    protocol = Protocol(alpha, trials, seed)
    subjects = [subject]
    if per_frame:
        if not subject.is_image:
            raise UsageError("--per-frame needs frames of pixels: give --decoded, or --number")
        subjects = [subject.only(n) for n in range(subject.shape[0])]
    methods = opt.METHODS if method == "all" else [method]
    results = [study(s, m, of=of, protocol=protocol) for m in methods for s in subjects]
    if plot is not None:
        _write_figure(plot, force, subject, obj, methods[0], of)
    said = remarks(results, alpha)
    if as_json:
        print_json({"path": path, "measured": subject.what, "protocol": protocol.facts(),
                    "results": results, "remarks": said, "plot": plot})
        return
    title = f"{path}: {of}, {subject.what}, alpha {alpha:g}, {trials} trials"
    if len(results) == 1:
        _show_one(results[0], title)
    else:
        _show_several(results, title, "method" if len(methods) > 1 else "frame")
    for sentence in said:
        click.echo(f"- {sentence}")


def _write_figure(
    plot: str, force: bool, subject: Subject, obj: OpenedObject, method: str, of: str
) -> None:
    from ..analysis.figures import draw_analysis
    from ..objects.atomic import AtomicFile, default_mode

    with AtomicFile(plot, force=force) as out:
        draw_analysis(subject, obj, method, of, out.raw)
        out.commit(mode=default_mode())


def _text(row: dict[str, Any], value: float | None) -> str:
    """A measure's value for people: shares in percent, as the literature gives them."""
    if value is None:
        return "-"
    kind = row["measure"]
    if kind.startswith(("NPCR", "UACI")):
        return f"{100 * value:.4f} %"
    return f"{value:.1f}" if kind == "chi-square" else f"{value:.4f}"


def _band(row: dict[str, Any]) -> str:
    if row["low"] is None:
        return "-"
    return f"{_text(row, row['low'])} to {_text(row, row['high'])}"


_VERDICTS = {True: "inside", False: "OUTSIDE", None: "not judged"}


def _show_one(result: dict[str, Any], title: str) -> None:
    rows = [(row["measure"], row["by"], _text(row, row["before"]), _text(row, row["value"]),
             _text(row, row["expected"]), _band(row), row["samples"], _VERDICTS[row["inside"]])
            for row in result["measures"]]
    heads = ("measure", "by", "before", result["method"], "expected", "band", "samples", "")
    _table(rows, heads, title)


def _show_several(results: list[dict[str, Any]], title: str, head: str) -> None:
    """One column a method, or one row a frame; a star is a measure outside its band."""

    def cell(row: dict[str, Any]) -> str:
        return _text(row, row["value"]) + ("*" if row["inside"] is False else "")

    if head == "method":
        rows = [(same[0]["measure"], same[0]["by"], _band(same[0]), *map(cell, same))
                for same in zip(*(r["measures"] for r in results), strict=True)]
        heads = ("measure", "by", "band", *(r["method"] for r in results))
    else:
        first = [(n, row) for n, row in enumerate(results[0]["measures"]) if row["by"] == "byte"]
        rows = [(r["frame"], *(cell(r["measures"][n]) for n, _ in first)) for r in results]
        heads = ("frame", *(row["measure"] for _, row in first))
    _table(rows, heads, f"{title}; * outside its band")


def _table(rows: Sequence[Sequence[object]], heads: tuple[str, ...], title: str) -> None:
    """As a table on a terminal; in plain columns with their heads otherwise."""
    import sys

    from .console import print_table

    print_table(rows if sys.stdout.isatty() else [heads, *rows], heads, title=title)
