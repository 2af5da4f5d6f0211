"""What a card of the profile HPJC can do, as calls (docs/spec/hpjc-v1.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ..errors import (
    CertificateRefusedError,
    DamagedError,
    TokenError,
    UsageError,
    WrongPinError,
)
from ..pki.names import Role
from . import profile, tlv
from .access import is_absent
from .apdu import CHAINED, CommandApdu, ResponseApdu
from .connection import Connection
from .profile import FILES, PIN, PUK, Algorithm, CardRole, Ins, KeyKind, Slot
from .status import StatusWord, tries_left
from .transport import Transport, pin_verify_structure

_BY_FID, _BY_AID, _NO_ANSWER, _FCP = 0x00, 0x04, 0x0C, 0x04
_OPERATIONAL = b"\x05"
#: Bytes for one READ or UPDATE BINARY, so that any reader takes them.
_PART = 4096
_NAMES = {PIN: "the PIN", PUK: "the PUK"}
#: A partner's answer to a challenge.
Prove = Callable[[bytes], bytes]


class CardSession:
    """A card of this profile in a reader. Raises TokenError for another card, and for what goes
    wrong with reader or card; CardStatusError for what the card refuses.

    iccsn: its serial number, holder: the name on it, "" before it is personalised.
    """

    def __init__(self, transport: Transport, *, extended: bool = True) -> None:
        self.connection = Connection(transport, extended=extended)
        self._folder = ""
        try:
            roles = {profile.atr(role): role for role in CardRole}
            if transport.atr not in roles:
                raise TokenError(f"reader {self.reader!r}: the card in it is no HPJC card (ATR "
                                 f"{transport.atr.hex()})")
            self.role = roles[transport.atr]
            self._describe()
        except BaseException:
            self.connection.close()
            raise

    def _describe(self) -> None:
        self.iccsn, self.holder = "", ""
        content = self.read("EF.GDO")
        if content:
            try:
                self.iccsn, self.holder = profile.parse_gdo(content)
            except DamagedError as error:
                raise TokenError(f"reader {self.reader!r}: {error}") from None

    def __repr__(self) -> str:
        return f"CardSession({self.reader!r}, {self.role})"

    def __enter__(self) -> CardSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the card: it forgets that its PIN was given."""
        self.connection.close()

    @property
    def reader(self) -> str:
        return self.connection.transport.name

    @property
    def name(self) -> str:
        """The card, for messages: reader and number."""
        return f"{self.reader} ({self.iccsn or 'not personalised'})"

    def _send(self, ins: int, p1p2: int, data: bytes = b"", answer: int = 0, *, to: str) -> bytes:
        command = CommandApdu(0, ins, p1p2 >> 8, p1p2 & 0xFF, data, answer)
        return self.connection.expect(command, to)

    # ---- files ---------------------------------------------------------------

    def select(self, name: str) -> None:
        """Make a file of the profile, or its folder, the current one."""
        file = FILES[name]
        folder = file.name if file.is_folder else file.parent
        if folder != self._folder:
            self._folder = ""  # until it is known
            aid = FILES[folder].aid
            how, data = (_BY_AID, aid) if aid else (_BY_FID, FILES[folder].fid.to_bytes(2, "big"))
            self._send(Ins.SELECT, how << 8 | _NO_ANSWER, data, to=f"select {folder}")
            self._folder = folder
        if not file.is_folder:
            self._send(Ins.SELECT, _BY_FID << 8 | _NO_ANSWER, file.fid.to_bytes(2, "big"),
                       to=f"select {name}")

    def read(self, name: str) -> bytes:
        """Return a file's content, at most what the profile says it holds."""
        self.select(name)
        content, to = bytearray(), f"read {name}"
        most = min(_PART, self.connection.most_answer)
        while len(content) < FILES[name].most:
            got = self.connection.send(CommandApdu(0, Ins.READ_BINARY, len(content) >> 8,
                                                   len(content) & 0xFF, answer=most))
            if got.status in (StatusWord.END_OF_FILE, StatusWord.OUT_OF_RANGE):
                content += got.data
                break
            part = self.connection.accept(got, to)
            content += part
            if len(part) < most:
                break
        return bytes(content[: FILES[name].most])

    def update(self, name: str, content: bytes) -> None:
        """Replace a file's content. Raises UsageError if it is too long for the file.

        It is written over as one change, and then cut off: if the card is pulled meanwhile, it is
        there whole or not at all, perhaps with the end of an older, longer one behind it."""
        if len(content) > FILES[name].most:
            raise UsageError(f"{name} on the card holds {FILES[name].most} bytes, not "
                             f"{len(content)}")
        self.select(name)
        to = f"write {name}"
        parts = [content[at : at + _PART] for at in range(0, len(content), _PART)]
        for number, part in enumerate(parts, 1):  # a chain counts when its last part came
            cla = CHAINED if number < len(parts) else 0
            self.connection.expect(CommandApdu(cla, Ins.UPDATE_BINARY, 0, 0, part), to)
        self._send(Ins.ERASE_BINARY, len(content), to=to)

    def certificate_files(self) -> list[str]:
        """The names of the files for certificates that a card of this role has."""
        return [name for name in FILES if ".CERT." in name and not is_absent(name, self.role)]

    def certificate(self, name: str) -> x509.Certificate | None:
        """Return the certificate in a file, None if there is none. Raises DamagedError."""
        content = self.read(name)
        if not content:
            return None
        from ..pki import files

        try:
            return files.parse_certificates(content, name)[0]
        except (CertificateRefusedError, UsageError):
            raise DamagedError(f"card {self.name}: what is in {name} is no certificate") from None

    def is_operational(self) -> bool:
        """Whether the initialisation has ended: the life cycle status of the MF (FCP tag 8A)."""
        self._folder = ""
        fid = FILES[profile.MF].fid.to_bytes(2, "big")
        answer = self._send(Ins.SELECT, _BY_FID << 8 | _FCP, fid, 256, to="select the MF")
        self._folder = profile.MF
        inner = tlv.fields(tlv.fields(answer).get(0x62, b""))
        return inner.get(0x8A) == _OPERATIONAL

    # ---- PIN and PUK ---------------------------------------------------------

    def tries(self, reference: int = PIN) -> int | None:
        """Return the tries of the PIN (uses of the PUK) that are left, None if the PIN was given.

        It spends none."""
        got = self.connection.send(CommandApdu(0, Ins.VERIFY, 0, reference))
        left = tries_left(got.status)
        if left is None:
            self.connection.accept(got, f"ask for {_NAMES[reference]}")
        return left

    def verify(self, pin: str) -> None:
        """Give the PIN. Raises UsageError for one that cannot be (which costs no try), and
        WrongPinError, which tells the tries that are left."""
        command = CommandApdu(0, Ins.VERIFY, 0, PIN, profile.reference_block(pin))
        self._accept_pin(self.connection.send(command))

    def _accept_pin(self, got: ResponseApdu, what: str = "take the PIN") -> None:
        left = tries_left(got.status)
        if left is None:
            self.connection.accept(got, what)
            return
        said = "it is blocked: unblock it with dicomcrypt card pin unblock" if not left else \
            f"{left} {'try is' if left == 1 else 'tries are'} left"
        raise WrongPinError(f"card {self.name}: wrong PIN; {said}", got.status, left)

    def verify_on_pad(self) -> None:
        """Let the reader ask for the PIN, on its own keys; raises as `verify`."""
        empty = b"\xff" * profile.REFERENCE_LENGTH
        command = CommandApdu(0, Ins.VERIFY, 0, PIN, empty).encode()
        request = pin_verify_structure(command, 6, profile.REFERENCE_LENGTH)
        got = ResponseApdu.parse(self.connection.transport.verify_on_pad(request))
        cancelled = {0x6400: "no PIN was entered in time", 0x6401: "the PIN's entry was cancelled",
                     0x6403: "the PIN entered is too short or too long"}
        if got.status in cancelled:
            raise TokenError(f"reader {self.reader!r}: {cancelled[got.status]}")
        self._accept_pin(got)

    def change_pin(self, old: str, new: str) -> None:
        data = profile.reference_block(old) + profile.reference_block(new)
        command = CommandApdu(0, Ins.CHANGE_REFERENCE_DATA, 0, PIN, data)
        self._accept_pin(self.connection.send(command), "change the PIN")

    def unblock_pin(self, puk: str, new: str) -> None:
        """Set a new PIN by the PUK; each use of the PUK counts."""
        data = profile.reference_block(puk, PUK) + profile.reference_block(new)
        try:
            self._send(Ins.RESET_RETRY_COUNTER, PIN, data, to="unblock the PIN")
        except WrongPinError as error:
            said = f"{error.tries} uses of it are left" if error.tries else \
                "it is used up: this card cannot be unblocked any more"
            raise WrongPinError(f"card {self.name}: the PUK is wrong; {said}", error.status,
                                error.tries) from None

    # ---- keys ----------------------------------------------------------------

    def public_key(self, slot: Slot) -> Any:
        """Return a slot's public key. Raises TokenError if there is none."""
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        content = self.read(slot.public_file)
        if not content:
            raise TokenError(f"card {self.name}: it has no key {slot}: make it with dicomcrypt "
                             "card init")
        try:
            return load_der_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            raise TokenError(f"card {self.name}: {slot.public_file} is damaged") from None

    def _choose(self, slot: Slot, template: int, algorithm: Algorithm) -> None:
        self.select(profile.DF_HPJC)
        data = tlv.encode(profile.TAG_ALGORITHM, bytes((algorithm,)))
        data += tlv.encode(profile.TAG_KEY, bytes((slot.reference,)))
        self._send(Ins.MSE, profile.MSE_OWN << 8 | template, data, to=f"choose the key {slot}")

    def sign_digest(self, slot: Slot, algorithm: Algorithm, digest: bytes) -> bytes:
        """Return a signature over a SHA-256 digest, in the card's form (`profile.Algorithm`)."""
        self._choose(slot, profile.CRT_SIGNATURE, algorithm)
        return self._send(Ins.PSO, profile.PSO_SIGN, digest, self.connection.most_answer,
                          to="sign")

    def _decipher(self, slot: Slot, algorithm: Algorithm, data: bytes) -> bytes:
        self._choose(slot, profile.CRT_CONFIDENTIALITY, algorithm)
        return self._send(Ins.PSO, profile.PSO_DECIPHER, data, self.connection.most_answer,
                          to="decipher")

    def decipher(self, slot: Slot, cryptogram: bytes) -> bytes:
        """Open RSA-OAEP (SHA-256, no label)."""
        return self._decipher(slot, Algorithm.RSA_OAEP, b"\0" + cryptogram)

    def exchange(self, slot: Slot, point: bytes) -> bytes:
        """Return the x coordinate of the shared point of ECDH; point: uncompressed."""
        data = tlv.encode(0xA6, tlv.encode(0x7F49, tlv.encode(0x86, point)))
        return self._decipher(slot, Algorithm.ECDH, data)

    # ---- authentication ------------------------------------------------------

    def prove(self, algorithm: Algorithm, challenge: bytes) -> bytes:
        """Answer a challenge of 8 to 64 bytes with the authentication key (INTERNAL AUTHENTICATE);
        return the signature over `proof.proof` of it."""
        self._choose(Slot.AUT, profile.CRT_AUTHENTICATION, algorithm)
        return self._send(Ins.INTERNAL_AUTHENTICATE, 0, challenge, self.connection.most_answer,
                          to="authenticate")

    def meet(self, role: Role, certificate: bytes, algorithm: Algorithm, prove: Prove) -> None:
        """Let the card check a partner: by EF.CERT.CA the certificate (DER), which states the role,
        and the answer to a challenge of its own (EXTERNAL AUTHENTICATE). Raises CardStatusError."""
        number = next(n for n, r in profile.PARTNERS.items() if r == role)
        partner = tlv.encode(profile.TAG_PARTNER, bytes((number,)))
        self.select(profile.DF_HPJC)
        place, to = profile.MSE_PARTNER << 8, f"check the certificate of the {role}"
        self._send(Ins.MSE, place | profile.CRT_SIGNATURE, partner, to=to)
        self._send(Ins.PSO, profile.PSO_VERIFY_CERTIFICATE, certificate, to=to)
        partner += tlv.encode(profile.TAG_ALGORITHM, bytes((algorithm,)))
        to = f"authenticate the {role}"
        self._send(Ins.MSE, place | profile.CRT_AUTHENTICATION, partner, to=to)
        challenge = self._send(Ins.GET_CHALLENGE, 0, answer=32, to=to)
        self._send(Ins.EXTERNAL_AUTHENTICATE, 0, prove(challenge), to=to)

    # ---- initialisation ------------------------------------------------------

    def set_reference(self, reference: int, digits: str) -> None:
        """Set PIN or PUK of a card that is not operational yet."""
        self._send(Ins.CHANGE_REFERENCE_DATA, 0x01 << 8 | reference,
                   profile.reference_block(digits, reference), to=f"set {_NAMES[reference]}")

    def describe(self, iccsn: str, holder: str) -> None:
        """Write EF.GDO."""
        self.update("EF.GDO", profile.gdo(iccsn, holder))
        self.iccsn, self.holder = iccsn, holder

    def generate(self, slot: Slot, kind: KeyKind) -> Any:
        """Let the card make a key pair; return the public key."""
        self.select(profile.DF_HPJC)
        data = tlv.encode(profile.TAG_KEY, bytes((slot.reference,)))
        data += tlv.encode(profile.TAG_ALGORITHM, bytes((kind,)))
        self._send(Ins.GENERATE, profile.GENERATE_NEW << 8, tlv.encode(slot.template, data),
                   self.connection.most_answer, to=f"make the key {slot}")
        return self.public_key(slot)

    def activate(self) -> None:
        """End the initialisation, for good."""
        self.select(profile.MF)
        self._send(Ins.ACTIVATE, 0, to="put the card into operation")
