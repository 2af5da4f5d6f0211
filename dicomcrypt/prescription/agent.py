"""The patient's program: it shows a prescription, asks the patient, and signs with the patient's
key. The PIN or passphrase of that key stays in its process, or at the reader."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509

from ..errors import DamagedError, PolicyError, UsageError
from ..pki.names import Role
from . import envelope, rendering, wire
from .holders import Holder
from .opening import Opened, Sources, check_document
from .protecting import PATIENT_PRIVATE, Authorise, authorisation, require_named
from .signed import MAX_MESSAGE

LIMIT = 4 * MAX_MESSAGE
#: Seconds that a patient has to read and to agree.
PATIENCE = 300.0


class Agent:
    """Answers a doctor's question (`wire.Handler`).

    agrees: shows a text and asks the patient. open_key: gives the patient's holder after that,
    asking for the PIN if the key needs one."""

    def __init__(
        self, certificate: x509.Certificate, open_key: Callable[[], Holder], sources: Sources,
        agrees: Callable[[str], bool],
    ) -> None:
        self._certificate, self._open_key = certificate, open_key
        self._sources, self._agrees = sources, agrees

    def answer(
        self, question: dict[str, Any], peer: x509.Certificate | None = None
    ) -> dict[str, Any]:
        """Raises as `authorise`."""
        if question.get("ask") != "authorise":
            raise UsageError("nothing that is known was asked")
        made = self.authorise(_bytes(question, "document"), _bytes(question, "envelope"))
        return {"authorisation": base64.b64encode(made).decode()}

    def authorise(self, document: bytes, sealed: bytes) -> bytes:
        """Return the patient's signature over an envelope and the document in it.

        Raises PolicyError if the patient does not agree, or it is another's prescription."""
        if not envelope.is_envelope(sealed):
            raise DamagedError("what is to be authorised is no envelope")
        opened = check_document(document, self._sources, live=True)
        if opened.way != PATIENT_PRIVATE:
            raise PolicyError("the doctor did not mean the patient's key to authorise this")
        require_named(self._certificate, Role.PATIENT, opened.prescription.patient.email)
        if not self._agrees(self._text(opened)):
            raise PolicyError("the patient did not agree")
        holder = self._open_key()
        if holder.certificate != self._certificate:
            raise PolicyError("the patient's key or card is another one than at the beginning")
        return authorisation(document, sealed, PATIENT_PRIVATE, holder, certificates=False)

    @staticmethod
    def _text(opened: Opened) -> str:
        sender = dict(opened.checks)["sender"]
        return f"{sender}\n{rendering.as_text(opened.prescription)}"


def _bytes(value: dict[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(str(value.get(key)), validate=True)
    except (binascii.Error, ValueError):
        raise DamagedError(f"{key} is not base64") from None


def asking(
    address: str, context: ssl.SSLContext | None = None, judge: wire.Judge | None = None
) -> Authorise:
    """Return what asks the patient's program at an address, for `protecting.protect`."""

    def authorise(document: bytes, sealed: bytes) -> bytes:
        question = {"ask": "authorise", "document": base64.b64encode(document).decode(),
                    "envelope": base64.b64encode(sealed).decode()}
        answer = wire.ask(address, question, what="the patient's program", limit=LIMIT,
                          context=context, judge=judge, timeout=PATIENCE)
        return _bytes(answer, "authorisation")

    return authorise
