"""`dicomcrypt vault ls` and `find`: what a vault's catalogue holds."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

import click

from ..errors import UsageError
from . import options as opt
from .vault import Unlocking, open_vault, tell_missing, unlocking

_LEVELS = ("patient", "study", "series", "instance")
#: What is shown of each level of the tree, and what tells one from the next.
_SHOWN = {
    "patient": ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "study": ("StudyDate", "StudyDescription", "AccessionNumber", "StudyInstanceUID"),
    "series": ("SeriesNumber", "Modality", "SeriesDescription", "SeriesInstanceUID"),
    "instance": ("InstanceNumber", "SOPInstanceUID", "path", "object_id"),
}
#: What is cut on a narrow terminal, and how short at most.
_CUT = {"PatientID", "IssuerOfPatientID", "PatientName", "StudyDescription", "AccessionNumber",
        "SeriesDescription", "InstanceNumber", "StudyDate", "SeriesNumber", "Modality"}
_LEAST = 8
#: Columns where there is no terminal: one line for each, of the same columns.
_COLUMNS = {
    "patient": ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
                "studies", "series", "objects", "size"),
    "study": ("PatientID", "PatientName", "StudyDate", "modalities", "StudyDescription",
              "AccessionNumber", "StudyInstanceUID", "series", "objects", "size"),
    "series": ("PatientID", "StudyDate", "SeriesNumber", "Modality", "SeriesDescription",
               "SeriesInstanceUID", "objects", "size"),
    "instance": ("object_id", "PatientID", "PatientName", "StudyDate", "Modality",
                 "SeriesNumber", "InstanceNumber", "size", "path"),
}  # fmt: skip


def _level(default: str) -> opt.Decorator:
    return click.option("--level", type=click.Choice(_LEVELS), default=default,
                        show_default=True, help="What is shown: one line for each.")


#: Option -> keyword of the query, and help.
_KEYS = {
    "patient-name": ("PatientName", "NAME", "Without case and accents; * and ? stand for letters: "
                     "'muel*', 'mueller^h*', '^hans'."),
    "patient-id": ("PatientID", "ID", "Patient ID; * and ? stand for letters."),
    "issuer": ("IssuerOfPatientID", "NAME", "Issuer of the patient ID."),
    "birth-date": ("PatientBirthDate", "DATE", "Birth date, or a range of them."),
    "modality": ("Modality", "CODE", "CT, MR, ...; repeatable."),
    "study-date": ("StudyDate", "DATE", "20260131, 2026-01-31, or a range: 20260101-20260131, "
                   "2026-01-01-, -20251231."),
    "study-uid": ("StudyInstanceUID", "UID", "Study Instance UID; repeatable."),
    "series-uid": ("SeriesInstanceUID", "UID", "Series Instance UID; repeatable."),
    "instance-uid": ("SOPInstanceUID", "UID", "SOP Instance UID; repeatable."),
    "accession": ("AccessionNumber", "TEXT", "Accession number; * and ? stand for letters."),
    "path": ("path", "PATH", "Where the file was when it was added: a file, all of a folder, or "
             "with * and ?."),
}  # fmt: skip
#: As the other commands of `vault` name them.
_SHORT = {"patient-id": ("--patient",), "study-uid": ("--study",), "series-uid": ("--series",)}
matching = opt.shared(*(
    click.option(*_SHORT.get(name, ()), f"--{name}", keyword, multiple=True, metavar=metavar,
                 help=text)
    for name, (keyword, metavar, text) in _KEYS.items()
))  # fmt: skip
_KEYWORDS = [keyword for keyword, _, _ in _KEYS.values()]


def _query(how: dict[str, Any], others: Iterable[str] = ()) -> dict[str, list[str]]:
    """Take the options of `matching` out of a command's options; return the query."""
    query = {keyword: [*found] for keyword in _KEYWORDS if (found := how.pop(keyword))}
    for text in others:
        keyword, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"{text!r}: give KEYWORD=TEXT, such as PatientID=4711")
        query.setdefault(keyword, []).append(value)
    if "path" in query:
        query["path"] = [os.path.normpath(path) for path in query["path"]]
    return query


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold; paths that are not UTF-8 with their bytes escaped."""
    return {
        name: os.fsencode(value).decode("utf-8", "backslashreplace") if name == "path"
        else value.hex() if isinstance(value, bytes) else value
        for name, value in found.items() if value is not None
    }  # fmt: skip


@click.command(epilog="""\b
Examples:
  dicomcrypt vault ls archive/ -i doctor.key
  dicomcrypt vault ls archive/ --level patient -i doctor.key
  dicomcrypt vault ls archive/ --level series --patient-id 4711 -i doctor.key --json
""")
@unlocking
@matching
@_level("study")
@opt.as_json
def ls(folder: str, level: str, as_json: bool, **how: Any) -> None:
    """Show patients, studies, series and instances as a tree, with counts and sizes.

    Long text is cut where the terminal is narrow. Where there is no terminal, a line of columns
    for each of the level asked for, with everything.
    """
    _show(folder, level, as_json, _query(how), how)


@click.command(epilog="""\b
Examples:
  dicomcrypt vault find archive/ --patient-name 'mueller*' --modality CT -i doctor.key
  dicomcrypt vault find archive/ --study-date 2026-01-01-2026-03-31 --level patient -i doctor.key
  dicomcrypt vault find archive/ BodyPartExamined=CHEST -i doctor.key --json

\b
All that is given has to match, as DICOM queries do (PS3.4 section C.2.2.2). An option that is
repeated matches if one of its texts does. KEYWORD=TEXT takes any keyword that the catalogue has.
""")
@unlocking
@click.argument("keys", nargs=-1, metavar="[KEYWORD=TEXT]...")
@matching
@_level("instance")
@opt.as_json
def find(folder: str, keys: tuple[str, ...], level: str, as_json: bool, **how: Any) -> None:
    """Find patients, studies, series or instances whose elements match; shown as by `ls`."""
    query = _query(how, keys)
    if not query:
        raise UsageError("find what? give --patient-name, --study-date or another; "
                         "`vault ls` shows everything")
    _show(folder, level, as_json, query, how)


def _show(
    folder: str, level: str, as_json: bool, query: dict[str, list[str]], how: dict[str, Any]
) -> None:
    from ..vault.query import Query
    from .console import print_json, print_table, size_text

    wanted = Query(query)  # refused before a passphrase is asked for
    # What `_query` left of the options are those of `unlocking`.
    with open_vault(folder, cast(Unlocking, how)) as vault:
        found = map(_plain, vault.catalogue.listing(level, wanted))
        if as_json:
            print_json(list(found))
        elif sys.stdout.isatty():
            for line in _tree(found, level, shutil.get_terminal_size().columns):
                click.echo(line)
        else:
            rows = [[size_text(row.get(name) or 0) if name == "size" else str(row.get(name, "-"))
                     for name in _COLUMNS[level]] for row in found]
            if rows:
                print_table(rows, _COLUMNS[level])
        lost = tell_missing(vault)
    sys.exit(lost)


def _tree(rows: Iterable[dict[str, Any]], level: str, width: int) -> Iterator[str]:
    """Yield a line for each row, below lines of what holds it, which are said once.

    width: columns of the terminal; long text is cut until a line fits, if that is enough."""
    from .console import printable, size_text

    levels = _LEVELS[: _LEVELS.index(level) + 1]
    last: list[Any] = [None] * len(levels)
    for row in rows:
        for depth, part in enumerate(levels):
            shown = [row.get(name) for name in _SHOWN[part]]
            if shown == last[depth] and depth < len(levels) - 1:
                continue
            last[depth:] = [shown, *[None] * (len(levels) - depth - 1)]
            parts = {name: printable(str(row[name])) for name in _SHOWN[part]
                     if row.get(name) is not None} or {"": f"(no {part})"}
            if depth == len(levels) - 1:
                counts = [f"{row[name]} {name}" for name in ("studies", "series", "objects")
                          if name in row]
                parts["counts"] = f"({', '.join([*counts, size_text(row.get('size') or 0)])})"
            yield "  " * depth + "  ".join(_fitted(parts, width - 2 * depth))


def _fitted(parts: dict[str, str], room: int) -> list[str]:
    """Cut the longest texts, so that all parts and two spaces between fit into so many columns."""
    from rich.cells import cell_len, set_cell_size

    cells = {name: cell_len(text) for name, text in parts.items()}
    room -= 2 * (len(parts) - 1) + sum(n for name, n in cells.items() if name not in _CUT)
    texts = [n for name, n in cells.items() if name in _CUT]
    most = max(texts, default=0)
    while most > _LEAST and sum(min(n, most) for n in texts) > room:
        most -= 1
    return [text if name not in _CUT or cells[name] <= most
            else set_cell_size(text, most - 1) + "\u2026" for name, text in parts.items()]
