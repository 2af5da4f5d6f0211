"""What EF.PATIENT holds before it is sealed: where the patient's record is, and their medication
(docs/spec/hpjc-v1.md section 2)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from . import tlv

#: What EF.PATIENT holds: one data object with the sealed references. What is behind it does not
#: count: it is of an older one.
TAG_SEALED = 0x53
#: Characters of a reference, and how many references there may be.
MOST_CHARACTERS, MOST_REFERENCES = 1024, 256
_MOST = 1 << 16


@dataclass(frozen=True)
class PatientReferences:
    """record: the address of the patient's record, "" if none is known. medication: references of
    prescriptions or plans, each once."""

    record: str = ""
    medication: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """JSON in UTF-8. Raises UsageError for more than can be, and for unprintable characters."""
        if not self._can_be():
            raise UsageError(f"a reference has 1 to {MOST_CHARACTERS} printable characters, and a "
                             f"card holds {MOST_REFERENCES} of them at most")
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    def _can_be(self) -> bool:
        texts = (self.record, *self.medication)
        return (
            all(isinstance(t, str) and len(t) <= MOST_CHARACTERS and t.isprintable() for t in texts)
            and all(self.medication) and len(set(self.medication)) == len(self.medication)
            and len(self.medication) <= MOST_REFERENCES
        )

    @classmethod
    def decode(cls, data: bytes) -> PatientReferences:
        """Raises DamagedError for anything but what `encode` gives."""
        try:
            found: Any = json.loads(data) if len(data) <= _MOST else None
            made = cls(found["record"], tuple(found["medication"]))
            if set(found) == {"record", "medication"} and made._can_be():
                return made
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise tlv.damaged("what is in EF.PATIENT")


def sealed_content(sealed: bytes) -> bytes:
    """Return the content of EF.PATIENT."""
    return tlv.encode(TAG_SEALED, sealed)


def parse_sealed(content: bytes) -> bytes:
    """Return what is sealed in EF.PATIENT; DamagedError if it has another form."""
    for tag, value in tlv.parse(content):
        if tag == TAG_SEALED:
            return value
        break
    raise tlv.damaged("what is in EF.PATIENT")
