"""Who may do what to which file: the one table of access rules (docs/spec/hpjc-v1.md section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ..pki.names import Role
from .profile import MF, CardRole


class Operation(StrEnum):
    """What can be done to a file."""

    READ = "read"
    UPDATE = "update"  # ERASE BINARY too
    SET = "set"  # CHANGE REFERENCE DATA without the old value
    VERIFY = "verify"  # of a PIN; of a partner's certificate against the authority's
    CHANGE = "change"  # CHANGE REFERENCE DATA with the old value
    UNBLOCK = "unblock"  # RESET RETRY COUNTER
    GENERATE = "generate"
    SIGN = "sign"  # PSO: COMPUTE DIGITAL SIGNATURE
    DECIPHER = "decipher"  # PSO: DECIPHER
    AUTHENTICATE = "authenticate"  # INTERNAL AUTHENTICATE
    ACTIVATE = "activate"  # the end of the initialisation


class Condition(StrEnum):
    """What must be shown before."""

    ALWAYS = "always"
    NEVER = "never"
    PIN = "PIN"
    PIN_OR_PHYSICIAN = "PIN or physician"  # an EXTERNAL AUTHENTICATE by one
    ABSENT = "absent"  # the card of this role has no such file


@dataclass
class SecurityStatus:
    """What has been shown since the card was switched on or reset."""

    pin: bool = False
    partners: set[Role] = field(default_factory=set)

    def meets(self, condition: Condition) -> bool:
        if condition is Condition.PIN:
            return self.pin
        if condition is Condition.PIN_OR_PHYSICIAN:
            return self.pin or Role.PHYSICIAN in self.partners
        return condition is Condition.ALWAYS


@dataclass(frozen=True)
class Rule:
    """The condition of an operation: during initialisation, then on cards of either role."""

    file: str
    operation: Operation
    initialisation: Condition
    professional: Condition
    patient: Condition

    def condition(self, role: CardRole, operational: bool) -> Condition:
        later = self.professional if role is CardRole.PROFESSIONAL else self.patient
        return later if operational or later is Condition.ABSENT else self.initialisation


_A, _N, _P, _PP, _X = Condition
_O = Operation
_PARTNERS = ("INSU", "PHAR", "DOC", "HOSP")
_Row = tuple[str, Operation, Condition, Condition, Condition]
_ROWS: tuple[_Row, ...] = (
    (MF, _O.ACTIVATE, _A, _N, _N),
    ("EF.DIR", _O.READ, _A, _A, _A),
    ("EF.DIR", _O.UPDATE, _N, _N, _N),
    ("EF.ATR", _O.READ, _A, _A, _A),
    ("EF.ATR", _O.UPDATE, _N, _N, _N),
    ("EF.GDO", _O.READ, _A, _A, _A),
    ("EF.GDO", _O.UPDATE, _A, _N, _N),
    ("EF.PIN", _O.READ, _N, _N, _N),
    ("EF.PIN", _O.UPDATE, _N, _N, _N),
    ("EF.PIN", _O.SET, _A, _N, _N),
    ("EF.PIN", _O.VERIFY, _A, _A, _A),
    ("EF.PIN", _O.CHANGE, _A, _A, _A),
    ("EF.PIN", _O.UNBLOCK, _A, _A, _A),
    ("EF.PUK", _O.READ, _N, _N, _N),
    ("EF.PUK", _O.UPDATE, _N, _N, _N),
    ("EF.PUK", _O.SET, _A, _N, _N),
    ("EF.PUK", _O.CHANGE, _N, _N, _N),
    *((f"EF.PRK.{slot}", operation, first, later, later)
      for slot, own in (("SIG", _O.SIGN), ("DEC", _O.DECIPHER), ("AUT", _O.AUTHENTICATE))
      for operation, first, later in (
          (_O.READ, _N, _N),
          (_O.UPDATE, _N, _N),
          (_O.GENERATE, _A, _N),
          (_O.SIGN, _P, _P if own is _O.SIGN else _N),
          *((use, *((_P, _P) if own is use else (_N, _N)))
            for use in (_O.DECIPHER, _O.AUTHENTICATE)),
      )),
    *((f"EF.PUB.{slot}", operation, condition, condition, condition)
      for slot in ("SIG", "DEC", "AUT")
      for operation, condition in ((_O.READ, _A), (_O.UPDATE, _N))),
    ("EF.HASH", _O.READ, _A, _A, _A),
    ("EF.HASH", _O.UPDATE, _A, _P, _P),
    ("EF.CERT.AUTHORISATION", _O.READ, _A, _A, _X),
    ("EF.CERT.AUTHORISATION", _O.UPDATE, _A, _P, _X),
    *((f"EF.CERT.{slot}", operation, _A, later, later)
      for slot in ("SIG", "DEC", "AUT")
      for operation, later in ((_O.READ, _A), (_O.UPDATE, _P))),
    ("EF.CERT.CA", _O.READ, _A, _A, _A),
    ("EF.CERT.CA", _O.UPDATE, _A, _N, _N),
    ("EF.CERT.CA", _O.VERIFY, _A, _A, _A),
    *((f"EF.PUBLIC.CERT.{partner}", operation, _A, later, later)
      for partner in _PARTNERS
      for operation, later in ((_O.READ, _A), (_O.UPDATE, _P))),
    ("EF.PATIENT", _O.READ, _P, _X, _P),
    ("EF.PATIENT", _O.UPDATE, _P, _X, _P),
    ("EF.NOTE", _O.READ, _A, _A, _A),
    ("EF.NOTE", _O.UPDATE, _A, _P, _PP),
)  # fmt: skip
#: What no row allows is never allowed.
TABLE = tuple(Rule(*row) for row in _ROWS)
_RULES = {(rule.file, rule.operation): rule for rule in TABLE}


def condition(file: str, operation: Operation, role: CardRole, operational: bool) -> Condition:
    """Return what must be shown before this operation on a file."""
    rule = _RULES.get((file, operation))
    return rule.condition(role, operational) if rule else Condition.NEVER


def is_absent(file: str, role: CardRole) -> bool:
    """Whether a card of this role does not have the file."""
    return condition(file, Operation.READ, role, True) is Condition.ABSENT


def markdown() -> str:
    """Return the table as the specification prints it."""
    lines = ["| file | operation | initialisation | professional | patient |",
             "|---|---|---|---|---|"]
    for rule in TABLE:
        cells = (rule.file, rule.operation, rule.initialisation, rule.professional, rule.patient)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
