"""`dicomcrypt audit`: whether the log is whole, and what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from ..errors import UsageError
from . import options as opt


@click.group(epilog="""\b
Examples:
  dicomcrypt audit verify --trust audit.pem --heads /mnt/other/heads
  dicomcrypt audit show --since 2027-01-31 --action decrypt
  dicomcrypt audit export -o january.csv --since 2027-01-01 --until 2027-02-01

\b
The log is written if the configuration names one:
  [audit]
  log = "audit.log"
  key = "audit.key"                  signs the heads; Ed25519, P-256, P-384, RSA or ML-DSA, PEM
  heads = "/mnt/other/heads"         a second place, best on another machine
""")
def audit() -> None:
    """The log of who did what, with which object, when, and how it ended.

    It holds no names: persons are numbers of the system or keys, objects their random ids.
    """


log_argument = click.argument("log", required=False, metavar="[LOG]")
filters = opt.shared(
    click.option("--since", metavar="TIME", help="From this time on, such as 2027-01-31 or "
                 "2027-01-31T08:00 (UTC)."),
    click.option("--until", metavar="TIME", help="Before this time."),
    click.option("--action", multiple=True, metavar="NAME", help="Such as decrypt; repeatable."),
    click.option("--object", "objects", multiple=True, metavar="ID",
                 help="An object's id, or the beginning of it; repeatable."),
    click.option("--outcome", multiple=True, metavar="NAME", help="Such as refused; repeatable."),
)


def _log_path(log: str | None) -> str:
    from .auditing import configured

    path: str | None = log or configured().get("log")
    if path is None:
        raise UsageError("no audit log: name one, or set it in the configuration: [audit] log")
    return path


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time such as 2027-01-31T08:00") from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def events(
    log: str | None, since: str | None, until: str | None, action: tuple[str, ...],
    objects: tuple[str, ...], outcome: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    """Yield the events of a log, by default the configured one, that pass the filters."""
    from ..audit import read
    from ..audit.vocabulary import ACTIONS, OUTCOMES

    path = _log_path(log)
    for what, given, known in (("action", action, ACTIONS), ("outcome", outcome, OUTCOMES)):
        if unknown := sorted(set(given) - known):
            raise UsageError(f"{unknown[0]!r} is no {what} of the log; there are "
                             f"{', '.join(sorted(known))}")
    since, until = _time(since), _time(until)
    wanted = tuple(found.lower() for found in objects)
    if not all(re.fullmatch("[0-9a-f]{2,64}", found) for found in wanted):
        raise UsageError("--object takes hexadecimal digits")
    for record in read(path):
        if (
            (since is None or record["at"] >= since)
            and (until is None or record["at"] < until)
            and (not action or record["action"] in action)
            and (not outcome or record["outcome"] in outcome)
            and (not wanted or any(o.startswith(wanted) for o in record["objects"]))
        ):
            yield {k: record[k] for k in ("n", "at", "actor", "action", "outcome", "objects",
                                          "details")}


@audit.command(epilog="""\b
Examples:
  dicomcrypt audit verify
  dicomcrypt audit verify audit.log --trust audit.pem --heads /mnt/other/heads

\b
Exit status: 0 whole, 4 changed, cut off or forged.
""")
@log_argument
@click.option("--trust", multiple=True, metavar="FILE",
              help="Public key or certificate of who signs heads; repeatable.")
@click.option("--heads", multiple=True, metavar="FILE",
              help="Heads that were kept elsewhere; repeatable.")
@opt.as_json
@opt.hushed
def verify(log: str | None, trust: tuple[str, ...], heads: tuple[str, ...], as_json: bool) -> None:
    """Check that the log is whole.

    A change, removal or exchange inside is always noticed. That the end is missing, or that who
    holds the signing key wrote the log anew, is noticed only against heads kept elsewhere.
    """
    from ..audit import read_heads
    from ..audit import verify as verify_log
    from ..policy.signing import load_verifier
    from .console import complain, print_json, say

    kept = [head for path in heads for head in read_heads(path)]
    report = verify_log(_log_path(log), [load_verifier(path) for path in trust], kept)
    if as_json:
        facts = {k: v for k, v in vars(report).items() if k != "keys"}
        print_json({**facts, "unsigned": report.unsigned, "signers": sorted(report.keys)})
        return
    if report.unfinished:
        complain(f"the last line is cut off after {report.unfinished} bytes: power failed, or "
                 "somebody is writing")
    if report.torn:
        complain(f"lines that a failure cut off, behind which the log went on: {report.torn}")
    if report.backwards:
        complain(f"the clock was put back: {report.backwards} times")
    say(f"whole: records {report.first} to {report.last}, {report.events} events, "
        f"{report.heads} heads, {report.parts} files")
    if not trust:
        say("signatures were not checked: give --trust FILE")
    else:
        say(f"signed up to record {report.signed_to}; {report.unsigned} records behind it")
    if not heads:
        say("whether its end is missing cannot be told: give --heads FILE, kept elsewhere")
    else:
        say(f"heads kept elsewhere: {report.heads_checked} stand in it, {report.heads_before} are "
            "of parts that are not here")


@audit.command(epilog="""\b
Examples:
  dicomcrypt audit show --since 2027-01-31
  dicomcrypt audit show --object 0d91b1 --json
""")
@log_argument
@filters
@opt.as_json
def show(
    log: str | None, since: str | None, until: str | None, action: tuple[str, ...],
    objects: tuple[str, ...], outcome: tuple[str, ...], as_json: bool,
) -> None:
    """Show events. The chain is checked on the way, signatures are not (see verify)."""
    show_events(list(events(log, since, until, action, objects, outcome)), as_json)


def show_events(found: list[dict[str, Any]], as_json: bool) -> None:
    """Print events as a table, or as JSON."""
    from .console import print_json, print_table

    if as_json:
        print_json(found)
        return
    print_table(
        ([e["n"], e["at"][:23] + "Z", e["actor"], e["action"], e["outcome"], _objects(e),
          _details(e)] for e in found),
        ("n", "time", "actor", "action", "outcome", "objects", "details"),
    )  # fmt: skip


def _objects(event: dict[str, Any]) -> str:
    ids = [found[:16] for found in event["objects"]]
    return " ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "") or "-"


def _details(event: dict[str, Any], *, whole: bool = False) -> str:
    return " ".join(f"{k}={v[:8] if k == 'job' and not whole else v}"
                    for k, v in event["details"].items())


@audit.command(epilog="""\b
Examples:
  dicomcrypt audit export -o january.csv --since 2027-01-01 --until 2027-02-01
  dicomcrypt audit export -o all.jsonl
""")
@log_argument
@filters
@click.option("-o", "--output", required=True, metavar="FILE.csv|FILE.jsonl",
              help="Where the events go, as a table or a JSON object a line.")
@opt.force
@opt.hushed
def export(
    log: str | None, since: str | None, until: str | None, action: tuple[str, ...],
    objects: tuple[str, ...], outcome: tuple[str, ...], output: str, force: bool,
) -> None:
    """Write events into a file for other programs."""
    import csv
    import io
    import json

    from ..objects.atomic import AtomicFile
    from .console import say

    if not output.endswith((".csv", ".jsonl")):
        raise UsageError("the output's name must end in .csv or .jsonl")
    count = 0
    fields = ["n", "at", "actor", "action", "outcome", "objects", "details"]
    with AtomicFile(output, force=force) as file:
        row = io.StringIO()
        table = csv.writer(row, lineterminator="\n")
        if output.endswith(".csv"):
            table.writerow(fields)
        for event in events(log, since, until, action, objects, outcome):
            count += 1
            if output.endswith(".csv"):
                table.writerow([*(event[f] for f in fields[:5]), " ".join(event["objects"]),
                                _details(event, whole=True)])
            else:
                row.write(json.dumps(event) + "\n")
            file.raw.write(row.getvalue().encode())
            row.seek(0)
            row.truncate()
        file.raw.write(row.getvalue().encode())
        file.commit(mode=0o600)
    say(f"{count} events -> {output}")
