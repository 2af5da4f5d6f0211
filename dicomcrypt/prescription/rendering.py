"""A prescription for people: text and HTML."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator

from .document import Medication, Prescription

_SUBSTITUTION: dict[bool | None, str] = {True: "may be replaced", False: "must not be replaced"}


def _rows(prescription: Prescription) -> Iterator[tuple[str, str]]:
    patient, doctor, pharmacy = prescription.patient, prescription.doctor, prescription.pharmacy
    number = f", number {patient.number}" if patient.number else ""
    yield "Serial number", prescription.serial
    yield "Patient", f"{patient.name}, born {patient.birth_date}{number}"
    yield "Prescribed by", f"{doctor.name} <{doctor.email}>"
    yield "Pharmacy", f"{pharmacy.name} <{pharmacy.email}>"
    yield "Prescribed on", prescription.authored.strftime("%Y-%m-%d %H:%M UTC")
    yield "Good until", prescription.expires.isoformat()
    for reference in prescription.references:
        yield "Refers to", reference


def _line(medication: Medication) -> tuple[str, str]:
    code = f" ({medication.code})" if medication.code else ""
    more = [medication.dosage, medication.quantity and f"quantity {medication.quantity}",
            _SUBSTITUTION.get(medication.substitution, ""), medication.note]
    return f"{medication.text}{code}", ", ".join(part for part in more if part)


def _clean(text: str) -> str:
    """Without characters that a terminal would obey or that change the order of reading."""
    wrong = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
    return "".join(" " if unicodedata.category(ch) in wrong else ch for ch in text)


def as_text(prescription: Prescription) -> str:
    """Return it as lines of text, without control characters."""
    lines = [f"{name + ':':15} {_clean(value)}" for name, value in _rows(prescription)]
    for number, medication in enumerate(prescription.medications, 1):
        what, how = _line(medication)
        lines += [f"{number}. {_clean(what)}", f"   {_clean(how)}".rstrip()]
    return "\n".join(line for line in lines if line) + "\n"


def as_html(prescription: Prescription) -> str:
    """Return it as an HTML page of its own, everything in it escaped; it loads nothing."""
    def safe(text: str) -> str:
        return html.escape(_clean(text))

    facts = "".join(
        f"<tr><th>{safe(name)}</th><td>{safe(value)}</td></tr>\n"
        for name, value in _rows(prescription)
    )
    lines = "".join(
        f"<li><b>{safe(what)}</b><br>{safe(how)}</li>\n"
        for what, how in map(_line, prescription.medications)
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n"
        "<title>Prescription</title>\n<style>body{font-family:sans-serif}th{text-align:left;"
        "padding-right:1em}</style></head>\n<body><h1>Prescription</h1>\n"
        f"<table>\n{facts}</table>\n<ol>\n{lines}</ol>\n</body></html>\n"
    )
