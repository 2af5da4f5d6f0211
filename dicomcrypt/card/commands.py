"""Commands on files and on the PIN (ISO/IEC 7816-4:2013, clauses 11.2, 11.3, 11.6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import DamagedError
from . import filesystem, profile, tlv
from .access import Operation
from .apdu import MOST_ANSWER, SHORT_ANSWER, CommandApdu, ResponseApdu
from .profile import FILES, MF, PIN, PUK, REFERENCE_LENGTH, File, Slot
from .state import Reference
from .status import StatusWord, with_tries
from .volatile import Refused

if TYPE_CHECKING:
    from .software import SoftwareCard

_REFERENCE_FILES = {PIN: "EF.PIN", PUK: "EF.PUK"}
_FCI, _FCP, _NONE = 0x00, 0x04, 0x0C
#: What SELECT's answer is wrapped in.
_TEMPLATES = {_FCI: 0x6F, _FCP: 0x62}


# ---- files -------------------------------------------------------------------


def select(card: SoftwareCard, command: CommandApdu) -> bytes:
    """SELECT by identifier (P1 00, 01, 02), parent (03), AID (04), path (08, 09)."""
    if command.p2 not in (_FCI, _FCP, _NONE):
        raise Refused(StatusWord.WRONG_P1P2)
    file = _find(card, command.p1, command.data)
    if file is None:
        raise Refused(StatusWord.FILE_NOT_FOUND)
    now = card.volatile
    if file.is_folder:
        now.enter(file)
    else:
        now.enter(FILES[file.parent])
        now.file = file
    if command.p2 == _NONE:
        return b""
    told = filesystem.control_parameters(file, len(card.content(file)), card.data.operational)
    return tlv.encode(_TEMPLATES[command.p2], told)


def _find(card: SoftwareCard, how: int, data: bytes) -> File | None:
    tree, folder = card.tree, card.volatile.folder
    if how == 0x03:
        if data:
            raise Refused(StatusWord.LENGTH_INCONSISTENT)
        return FILES.get(folder.parent)
    if how == 0x04:
        if not 1 <= len(data) <= 16:
            raise Refused(StatusWord.LENGTH_INCONSISTENT)
        return tree.named(data)
    if how in (0x08, 0x09):
        if not data or len(data) % 2:
            raise Refused(StatusWord.LENGTH_INCONSISTENT)
        return tree.at_path(FILES[MF] if how == 0x08 else folder, data)
    if how == 0x00 and not data:
        return FILES[MF]
    if how not in (0x00, 0x01, 0x02):
        raise Refused(StatusWord.WRONG_P1P2)
    if len(data) != 2:
        raise Refused(StatusWord.LENGTH_INCONSISTENT)
    fid = int.from_bytes(data, "big")
    return tree.near(fid, folder) if how == 0 else tree.below(folder, fid, folders=how == 1)


def _place(card: SoftwareCard, command: CommandApdu) -> tuple[File, int]:
    """The file that P1 and P2 mean, which becomes the current one, and the offset in it."""
    if not command.p1 & 0x80:
        file, offset = card.volatile.file, command.p1p2
        if file is None:
            raise Refused(StatusWord.NO_CURRENT_FILE)
        return file, offset
    sfi = command.p1 & 0x1F
    if command.p1 & 0x60 or not 1 <= sfi <= 30:
        raise Refused(StatusWord.WRONG_P1P2)
    file = card.tree.short(card.volatile.folder, sfi)
    if file is None:
        raise Refused(StatusWord.FILE_NOT_FOUND)
    card.volatile.file = file
    return file, command.p2


def read_binary(card: SoftwareCard, command: CommandApdu) -> ResponseApdu:
    """READ BINARY: 6282 at the end of the file, 6Cxx if a short Le goes beyond it."""
    file, offset = _place(card, command)
    card.need(file.name, Operation.READ)
    if command.data or not command.answer:
        raise Refused(StatusWord.WRONG_LENGTH)
    left = len(card.content(file)) - offset
    if left < 0:
        raise Refused(StatusWord.OUT_OF_RANGE)
    data = card.content(file)[offset : offset + command.answer]
    if not left:
        return ResponseApdu(b"", StatusWord.END_OF_FILE)
    if command.answer > left and command.answer not in (SHORT_ANSWER, MOST_ANSWER):
        if not command.extended:
            raise Refused(StatusWord.WRONG_LE | left)
        return ResponseApdu(data, StatusWord.END_OF_FILE)
    return ResponseApdu(data, StatusWord.OK)


def update_binary(card: SoftwareCard, command: CommandApdu) -> bytes:
    """UPDATE BINARY: writes over what is there, and on from its end; never beyond a gap."""
    file, offset = _place(card, command)
    card.need(file.name, Operation.UPDATE)
    if not command.data:
        raise Refused(StatusWord.WRONG_LENGTH)
    content = card.content(file)
    if offset > len(content):
        raise Refused(StatusWord.OUT_OF_RANGE)
    end = offset + len(command.data)
    if end > file.most:
        raise Refused(StatusWord.NOT_ENOUGH_MEMORY)
    _write(card, file, content[:offset] + command.data + content[end:])
    return b""


def erase_binary(card: SoftwareCard, command: CommandApdu) -> bytes:
    """ERASE BINARY: cuts the file off at the offset."""
    file, offset = _place(card, command)
    card.need(file.name, Operation.UPDATE)
    if command.data:
        raise Refused(StatusWord.WRONG_LENGTH)
    content = card.content(file)
    if offset > len(content):
        raise Refused(StatusWord.OUT_OF_RANGE)
    _write(card, file, content[:offset])
    return b""


def _write(card: SoftwareCard, file: File, content: bytes) -> None:
    card.commit(files={**card.data.files, file.name: content})


# ---- PIN and PUK -------------------------------------------------------------


def _reference(card: SoftwareCard, number: int) -> Reference:
    found = card.data.references.get(number)
    if found is None:
        raise Refused(StatusWord.REFERENCE_UNUSABLE)
    return found


def _keep(card: SoftwareCard, **changed: Reference) -> None:
    """Store changed references, named `PIN` and `PUK`."""
    numbers = {"PIN": PIN, "PUK": PUK}
    new = {numbers[name]: reference for name, reference in changed.items()}
    card.commit(references={**card.data.references, **new})


def _spend(card: SoftwareCard, number: int, block: bytes) -> None:
    """Compare a PIN or PUK. The try is gone, on the medium too, before anything is compared."""
    reference = _reference(card, number)
    if not reference.left:
        raise Refused(StatusWord.BLOCKED)
    lowered = replace(reference, left=reference.left - 1)
    references = {**card.data.references, number: lowered}
    try:
        card.commit(references=references)
    except Refused:  # it may be on the medium all the same
        card.data = replace(card.data, references=references)
        raise
    if not lowered.is_of(block):
        raise Refused(with_tries(lowered.left))


def _blocks(command: CommandApdu, *numbers: int) -> list[bytes]:
    """The reference data in a command. What cannot be a PIN or PUK costs no try."""
    if len(command.data) != REFERENCE_LENGTH * len(numbers):
        raise Refused(StatusWord.WRONG_LENGTH)
    found = [
        command.data[at : at + REFERENCE_LENGTH]
        for at in range(0, len(command.data), REFERENCE_LENGTH)
    ]
    for number, block in zip(numbers, found, strict=True):
        if not profile.is_reference_block(block, number):
            raise Refused(StatusWord.WRONG_PARAMETERS)
    return found


def verify(card: SoftwareCard, command: CommandApdu) -> bytes:
    """VERIFY the PIN (P2 01). Without data it tells the tries left, of the PUK (P2 02) the uses;
    with P1 FF the PIN counts as not shown."""
    status = card.volatile.status
    if command.p1 not in (0x00, 0xFF):
        raise Refused(StatusWord.WRONG_P1P2)
    if command.p2 not in _REFERENCE_FILES:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    if command.p1 == 0xFF:
        if command.data or command.p2 != PIN:
            raise Refused(StatusWord.LENGTH_INCONSISTENT)
        status.pin = False
        return b""
    if not command.data:
        left = _reference(card, command.p2).left
        if command.p2 == PIN and status.pin:
            return b""
        raise Refused(with_tries(left) if left else StatusWord.BLOCKED)
    if command.p2 != PIN:
        raise Refused(StatusWord.COMMAND_INCOMPATIBLE)
    card.need("EF.PIN", Operation.VERIFY)
    (block,) = _blocks(command, PIN)
    status.pin = False
    _spend(card, PIN, block)
    _keep(card, PIN=replace(card.data.references[PIN], left=profile.PIN_TRIES))
    status.pin = True
    return b""


def change_reference_data(card: SoftwareCard, command: CommandApdu) -> bytes:
    """CHANGE REFERENCE DATA: old and new PIN (P1 00); PIN or PUK alone to set it (P1 01)."""
    if command.p1 not in (0x00, 0x01):
        raise Refused(StatusWord.WRONG_P1P2)
    number = command.p2
    if number not in _REFERENCE_FILES:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    fresh = command.p1 == 0x01
    card.need(_REFERENCE_FILES[number], Operation.SET if fresh else Operation.CHANGE)
    status = card.volatile.status
    if fresh:
        (new,) = _blocks(command, number)
        status.pin = False
        if number == PIN:
            _keep(card, PIN=Reference.of(new, profile.PIN_TRIES))
        else:
            _keep(card, PUK=Reference.of(new, profile.PUK_USES))
        return b""
    old, new = _blocks(command, number, number)
    status.pin = False
    _spend(card, number, old)
    _keep(card, PIN=Reference.of(new, profile.PIN_TRIES))
    status.pin = True
    return b""


def reset_retry_counter(card: SoftwareCard, command: CommandApdu) -> bytes:
    """RESET RETRY COUNTER: PUK and new PIN (P1 00), or the PUK alone (P1 01). Every use of the PUK
    counts, the right one too."""
    if command.p1 not in (0x00, 0x01):
        raise Refused(StatusWord.WRONG_P1P2)
    if command.p2 != PIN:
        raise Refused(StatusWord.REFERENCE_NOT_FOUND)
    card.need("EF.PIN", Operation.UNBLOCK)
    found = _blocks(command, PUK) if command.p1 else _blocks(command, PUK, PIN)
    pin = _reference(card, PIN)
    card.volatile.status.pin = False
    _spend(card, PUK, found[0])
    if command.p1:
        _keep(card, PIN=replace(pin, left=profile.PIN_TRIES))
    else:
        _keep(card, PIN=Reference.of(found[1], profile.PIN_TRIES))
    return b""


# ---- life cycle --------------------------------------------------------------


def activate(card: SoftwareCard, command: CommandApdu) -> bytes:
    """ACTIVATE FILE on the MF: ends the initialisation, for good (ISO/IEC 7816-9:2017, 7.1)."""
    if command.p1p2:
        raise Refused(StatusWord.WRONG_P1P2)
    if command.data:
        raise Refused(StatusWord.WRONG_LENGTH)
    card.need(MF, Operation.ACTIVATE)
    data = card.data
    try:
        profile.parse_gdo(data.files.get("EF.GDO", b""))
    except DamagedError:
        raise Refused(StatusWord.CONDITIONS) from None
    if set(data.references) != {PIN, PUK} or set(data.keys) != set(Slot):
        raise Refused(StatusWord.CONDITIONS)
    card.commit(operational=True)
    card.volatile.status.pin = False
    return b""
