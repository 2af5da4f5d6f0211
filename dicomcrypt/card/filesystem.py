"""The file tree of a card: how files are found, and what SELECT says of them
(ISO/IEC 7816-4:2013, clauses 7.2, 7.4 and 11.2)."""

from __future__ import annotations

from . import access, tlv
from .profile import DF_HPJC, DF_NOTE, FILES, MF, CardRole, File

_NOTES = b"HPJC notes"


def fixed_content(name: str, role: CardRole) -> bytes | None:
    """Return the content of EF.DIR and EF.ATR, which the profile gives; None for other files."""
    if name == "EF.DIR":
        labels = {DF_HPJC: f"HPJC {role}".encode(), DF_NOTE: _NOTES}
        return b"".join(
            tlv.encode(0x61, tlv.encode(0x4F, FILES[df].aid) + tlv.encode(0x50, label))
            for df, label in labels.items()
        )
    if name == "EF.ATR":
        # Selection by whole AID, path, identifier and SFI; chaining and extended lengths of
        # 65,535 bytes for commands and 65,535 for responses (clause 12.1.1).
        lengths = tlv.encode(0x02, b"\xff\xff") * 2
        return (tlv.encode(0x43, b"\xb8") + tlv.encode(0x47, bytes.fromhex("b401e0"))
                + tlv.encode(0x7F66, lengths))  # fmt: skip
    return None


class Tree:
    """The files that a card of a role has."""

    def __init__(self, role: CardRole) -> None:
        self.files = [f for f in FILES.values() if not access.is_absent(f.name, role)]

    def _child(self, folder: str, fid: int, *, folders: bool | None = None) -> File | None:
        for file in self.files:
            if file.fid == fid and file.parent == folder and folders in (None, file.is_folder):
                return file
        return None

    def near(self, fid: int, folder: File) -> File | None:
        """By identifier: the MF, the current folder, what lies in it, beside it and above it."""
        if fid == FILES[MF].fid:
            return FILES[MF]
        if fid == folder.fid:
            return folder
        found = self._child(folder.name, fid)
        if found is None and folder.parent:
            found = self._child(folder.parent, fid, folders=True)
        return found

    def below(self, folder: File, fid: int, *, folders: bool) -> File | None:
        """A folder, or a file that is none, right below a folder."""
        return self._child(folder.name, fid, folders=folders)

    def at_path(self, start: File, path: bytes) -> File | None:
        """By a path of identifiers of two bytes each, without that of the start."""
        found: File | None = start
        for at in range(0, len(path), 2):
            if found is None:
                return None
            found = self._child(found.name, int.from_bytes(path[at : at + 2], "big"))
        return found

    def named(self, aid: bytes) -> File | None:
        """An application, by its whole name."""
        return next((file for file in self.files if file.aid and file.aid == aid), None)

    def short(self, folder: File, sfi: int) -> File | None:
        """By short identifier in a folder."""
        return next((f for f in self.files if f.parent == folder.name and f.sfi == sfi), None)


def control_parameters(file: File, size: int, operational: bool) -> bytes:
    """Return the content of a file's control parameters (FCP, clause 7.4.3).

    size: bytes that it holds now."""
    descriptor = b"\x38" if file.is_folder else b"\x09" if file.secret else b"\x01"
    found = [] if file.is_folder or file.secret else [(0x80, size.to_bytes(2, "big"))]
    found += [(0x82, descriptor), (0x83, file.fid.to_bytes(2, "big"))]
    if file.aid:
        found.append((0x84, file.aid))
    if file.sfi:
        found.append((0x88, bytes((file.sfi << 3,))))
    found.append((0x8A, b"\x05" if operational else b"\x03"))
    return b"".join(tlv.encode(tag, value) for tag, value in found)
