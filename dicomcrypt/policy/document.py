"""Policy documents: JSON that changes a preset, and its signature (docs/policy.md).

What is signed is "dcmx/1 policy", a zero byte, and the document in canonical form: keys sorted, no
blanks, ASCII. So a file may be laid out for people.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import DamagedError, PolicyError, UsageError
from .rules import (
    ALLOWED,
    PREFERRED,
    PRESETS,
    STATES,
    Policy,
    Rule,
    ceiling,
    kind_of,
    preset,
    registry,
    weaker,
)

CONTEXT = b"dcmx/1 policy\0"
VERSION = 1
LIMIT = 1 << 18
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_REQUIRED = {"dcmx-policy", "name", "issuer", "sequence", "valid-from", "base"}
_OPTIONAL = {"algorithms", "other", "signers"}


class Document(NamedTuple):
    """A policy document that has been checked; data is what it was parsed from."""

    data: dict[str, Any]
    name: str
    issuer: str
    sequence: int
    valid_from: datetime
    signers: tuple[str, ...]

    def canonical(self) -> bytes:
        return canonical(self.data)

    def signed(self) -> bytes:
        """What a signature covers."""
        return CONTEXT + self.canonical()

    def policy(self, origin: str) -> Policy:
        """The preset with the document's changes."""
        base = preset(self.data["base"])
        rules = dict(base)
        for algorithm, change in self.data.get("algorithms", {}).items():
            rules[algorithm] = _changed(rules.get(algorithm), change)
        return Policy(self.name, origin, rules, self.data.get("other", base.other),
                      note=f"{base.name} as {self.issuer} changed it", sources=base.sources)


def canonical(data: Any) -> bytes:
    """Return JSON's one form: keys sorted, no blanks, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object without doubled keys, fractions and oddities; raises UsageError."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(found)
        if len(result) != len(found):
            raise ValueError("a key is there twice")
        return result

    def refuse(text: str) -> Any:
        raise ValueError(f"{text[:20]} is no whole number")

    def whole(text: str) -> int:
        return int(text) if len(text) < 20 else refuse(text)

    if len(data) > LIMIT:
        raise UsageError(f"the {what} is too large")
    try:
        found = json.loads(data.decode(), object_pairs_hook=pairs, parse_float=refuse,
                           parse_constant=refuse, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the {what} is no JSON that is understood: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"the {what} is no JSON object")
    return found


def parse(data: bytes) -> Document:
    """Parse a policy document and check every field.

    Raises UsageError for what cannot be meant, PolicyError for a document that would let
    algorithms make something that may at most be read."""
    return check(parse_json(data, "policy document"))


def check(found: dict[str, Any]) -> Document:
    """Check a document's fields; see `parse`."""
    fields = set(found)
    if found.get("dcmx-policy") != VERSION or isinstance(found["dcmx-policy"], bool):
        raise UsageError("no policy document of version 1: \"dcmx-policy\": 1 is wanted")
    if missing := _REQUIRED - fields:
        raise UsageError(f"the policy document has no {min(missing)!r}")
    if unknown := fields - _REQUIRED - _OPTIONAL:
        raise UsageError(f"the policy document has an unknown field {min(unknown)[:64]!r}")
    name, issuer, sequence = found["name"], found["issuer"], found["sequence"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError("the policy's name is no word of a-z, 0-9, - and .")
    if name in PRESETS:
        raise UsageError(f"the policy's name {name!r} is a preset's")
    if not isinstance(issuer, str) or not 1 <= len(issuer) <= 200 or not issuer.isprintable():
        raise UsageError("the policy's issuer is no line of text")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 1 <= sequence < 1 << 53:
        raise UsageError("the policy's sequence is no number from 1 on")
    try:
        valid_from = datetime.strptime(found["valid-from"], _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise UsageError(
            "the policy's valid-from is no time such as 2027-01-31T00:00:00Z"
        ) from None
    if found["base"] not in PRESETS:
        raise UsageError(f"the policy's base is none of {', '.join(PRESETS)}")
    if found.get("other", "refused") not in STATES:
        raise UsageError(f"the policy's other is none of {', '.join(STATES)}")
    _check_algorithms(found.get("algorithms", {}), dict(preset(found["base"])))
    signers = found.get("signers", [])
    if not isinstance(signers, list) or len(signers) > 16 or not all(
        isinstance(s, str) and _KEY_ID.fullmatch(s) for s in signers
    ) or ("signers" in found and not signers):
        raise UsageError("the policy's signers are no SHA-256 of public keys, in hexadecimal")
    return Document(found, name, issuer, sequence, valid_from, tuple(signers))


def check_names(document: Document, allowed: Collection[str] = ()) -> None:
    """Raise UsageError for algorithms that the registry does not have: a rule for a mistyped name
    changes nothing. allowed: names of plug-ins, which are meant."""
    for algorithm in document.data.get("algorithms", {}):
        if not kind_of(algorithm) and algorithm not in allowed:
            close = difflib.get_close_matches(algorithm, registry()["kinds"], 1)
            hint = f": is {close[0]} meant?" if close else ""
            raise UsageError(f"the policy names an unknown algorithm {algorithm!r}{hint} (give "
                             f"--allow-unknown {algorithm} for one of a plug-in)")


def _check_algorithms(found: Any, base: dict[str, Rule]) -> None:
    if not isinstance(found, dict) or len(found) > 256:
        raise UsageError("the policy's algorithms are no JSON object")
    for algorithm, change in found.items():
        if not _NAME.fullmatch(algorithm):
            raise UsageError(f"the policy names an impossible algorithm {algorithm[:64]!r}")
        if not isinstance(change, dict) or not change:
            raise UsageError(f"the policy's rule for {algorithm} is no JSON object")
        if unknown := set(change) - {"state", "min-bits", "below"}:
            raise UsageError(f"the policy's rule for {algorithm} has an unknown field "
                             f"{min(unknown)[:64]!r}")
        if algorithm not in base and "state" not in change:
            raise UsageError(f"the policy's rule for {algorithm} has no state")
        for field in ("state", "below"):
            if change.get(field, ALLOWED) not in STATES:
                raise UsageError(f"the policy's rule for {algorithm}: {field} is none of "
                                 f"{', '.join(STATES)}")
        bits = change.get("min-bits", 1)
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 1 << 16:
            raise UsageError(f"the policy's rule for {algorithm}: min-bits is no number of bits")
        _check_ceiling(algorithm, _changed(base.get(algorithm), change))


def _check_ceiling(algorithm: str, rule: Rule) -> None:
    """What would be lowered silently is refused instead: its writer meant something else."""
    claims = [(rule.state, ceiling(algorithm, rule.min_bits))]
    if rule.min_bits is not None:
        claims.append((rule.below, ceiling(algorithm, min(rule.min_bits - 1, 2047))))
    for state, most in claims:
        if state in (PREFERRED, ALLOWED) and weaker(state, most) != state:
            raise PolicyError(
                f"the policy would have {algorithm} {state}"
                + (f" from {rule.min_bits} bits" if rule.min_bits else "")
                + ": SHA-1, RSA below 2048 bits, 3DES and their like are read at most"
            )


def _changed(rule: Rule | None, change: dict[str, Any]) -> Rule:
    rule = rule or Rule("refused")
    return Rule(change.get("state", rule.state), change.get("min-bits", rule.min_bits),
                change.get("below", rule.below), "")


def check_signature(document: Document, signature: bytes, verifier: Any) -> None:
    """Raise DamagedError unless the signature is the key's and covers this document."""
    if not verifier.verify(document.signed(), signature):
        raise DamagedError(
            f"the signature of policy {document.name!r} is wrong: it was changed, or another key "
            "signed it"
        )


def check_time(document: Document, now: datetime | None = None) -> None:
    """Raise PolicyError before the document's time."""
    if (now or datetime.now(UTC)) < document.valid_from:
        raise PolicyError(
            f"policy {document.name!r} is not valid before {document.valid_from:{_TIME}}: set it "
            "then, or put the clock right"
        )
