"""How an inspection is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .console import print_json, print_table, printable, size_text

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset
    from pydicom.tag import BaseTag

_LETTERS = "TVM"
_SHOWN_UNITS = 16
_VALUE_LIMIT = 120


def tag_rows(dataset: Dataset, depth: int = 0) -> list[list[str]]:
    """Return a data set's elements as rows: tag, VR, keyword, value; items indented.

    An element that contradicts its VR is named with its size, whatever pydicom makes of it."""
    rows = []
    for tag in sorted(dataset.keys()):
        try:
            rows += _element_rows(dataset[tag], depth)
        except Exception:  # of one element; what it says may hold the value
            rows.append(_unread_row(dataset, tag, depth))
    return rows


def _tag_text(tag: BaseTag, depth: int) -> str:
    return f"{'  ' * depth}({tag.group:04X},{tag.element:04X})"


def _element_rows(element: DataElement, depth: int) -> list[list[str]]:
    tag = _tag_text(element.tag, depth)
    if element.VR == "SQ":
        rows = [[tag, "SQ", element.name, f"{len(element.value)} items"]]
        for item in element.value:
            rows += tag_rows(item, depth + 1)
        return rows
    if isinstance(element.value, bytes):
        value = f"{len(element.value)} bytes"
    else:
        value = str(element.value)
    if len(value) > _VALUE_LIMIT:
        value = value[:_VALUE_LIMIT] + "..."
    return [[tag, element.VR, element.name, value]]


def _unread_row(dataset: Dataset, tag: BaseTag, depth: int) -> list[str]:
    from pydicom.dataelem import DataElement, RawDataElement

    raw = dataset.get_item(tag, keep_deferred=True)  # which leaves empty values alone, too
    vr = raw.VR or "UN"
    size = f"{len(raw.value or b'')} bytes, " if isinstance(raw, RawDataElement) else ""
    return [_tag_text(tag, depth), vr, DataElement(tag, "UN", b"").name,
            f"{size}not to be read as {vr}"]


def show_inspection(path: str, facts: dict[str, Any], as_json: bool) -> None:
    """Print what `dicomcrypt.inspect` returned."""
    if as_json:
        print_json({"path": path, **facts})
        return
    rows = [
        ("object", facts["object_id"]),
        ("version", f"{facts['version']}, suite {facts['suite']} ({facts['suite_name']})"),
        ("size", f"{facts['size']} bytes ({size_text(facts['size'])})"),
        ("header", f"generation {facts['generation']}, "
                   f"{facts['slot_used']} of {facts['slot_capacity']} bytes used in a slot"),
    ]
    rows.append(("signed", "yes" if facts["signed"] else "no"))
    for name, sizes in facts["streams"].items():
        rows.append((f"stream {name}", f"{sizes['sealed']} bytes sealed"))
    print_table(rows, ("", ""), title=path)
    print_table(
        [(r["type"], r["scope"], r["hint"] or "-") for r in facts["recipients"]],
        ("recipient", "scope", "hint"), title="recipients",
    )  # fmt: skip
    opened = facts.get("opened")
    if opened is None:
        click.echo("nothing of this is authenticated; give --identity to see and verify more",
                   err=True)
        return
    rows = [("scopes", ", ".join(opened["scopes"]))]
    rows += [(f"payload {name}", f"{size} bytes") for name, size in opened["payload"].items()]
    for key in ("original_size", "name", "mode", "link", "dicom"):
        if opened.get(key) is not None:
            rows.append((key.replace("_", " "), opened[key]))
    rows += [(key.replace("_", " "), value) for key, value in opened.get("image", {}).items()]
    signature = opened.get("signature")
    if signature is not None:
        trust = {"not checked": "valid, not checked against a trust centre"}
        rows.append(("signature", trust.get(signature["trust"], "valid, " + signature["trust"])))
        rows += [(key, signature[key])
                 for key in ("signer", "issuer", "serial", "algorithm", "time")]
    print_table(rows, ("", ""), title="opened")
    if "elements" in opened:
        print_table(opened["elements"], ("tag", "VR", "name", "value"), title="data elements")
    elif opened.get("attributes"):
        print_table(opened["attributes"].items(), ("attribute", "value"), title="attributes")
    for name, methods in opened["methods"].items():
        if methods is not None:
            _show_methods(name, methods)


def _show_methods(name: str, methods: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {method}" for method, count in methods["blocks"].items())
    click.echo(f"methods of {name}: {methods['units']} units ({methods['unit']}), blocks: {counts}")
    shown = methods["map"][:_SHOWN_UNITS]
    for line in range(2):
        cells = ["".join(_LETTERS[unit[2 * line + k]] for k in (0, 1)) for unit in shown]
        more = " ..." if methods["units"] > len(shown) else ""
        click.echo("  " + " ".join(cells) + more)
    from ..ciphers.transform import METHOD_NAMES

    legend = ", ".join(f"{letter} {method}" for letter, method in
                       zip(_LETTERS, METHOD_NAMES, strict=True))
    click.echo(printable(f"  ({legend}; two rows of two blocks a unit)"))
