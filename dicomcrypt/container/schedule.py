"""From the object key to the key of every stream (docs/spec/dcmx-v1.md section 3)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .layout import OPAQUE, PIXELS, TAGS, TAIL
from .stanza import FULL, PIXELS_SCOPE, TAGS_SCOPE

#: Which streams a scope opens, ascending id.
SCOPE_STREAMS = {FULL: (OPAQUE,), TAGS_SCOPE: (TAGS, TAIL), PIXELS_SCOPE: (PIXELS,)}
#: The scope of each signature stream.
SIGNATURE_SCOPES = {8: TAGS_SCOPE, 9: PIXELS_SCOPE, 10: FULL}
STREAM_SCOPE = {
    sid: scope for scope, streams in SCOPE_STREAMS.items() for sid in streams
} | SIGNATURE_SCOPES

_SHA512 = SHA512()


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-512 (RFC 5869 section 2.3)."""
    return HKDFExpand(_SHA512, length, info).derive(key)


def label(name: bytes, number: int) -> bytes:
    """What L(name, number) of the specification puts before CORE."""
    return b"dcmx/1 " + name + b"\0" + bytes((number,))


_SCOPES_LABEL = label(b"scopes", 0)
_SCOPE_LABELS = {scope: label(b"scope", scope) for scope in SCOPE_STREAMS}
_STREAM_LABELS = {sid: label(b"stream", sid) for sid in STREAM_SCOPE}
#: Bytes that a scope's key is expanded to, and where in them the keys of each stream lie.
_SIZES = {scope: 32 + 96 * len(streams) for scope, streams in SCOPE_STREAMS.items()}
_PLACES = {
    sid: (scope, 32 + 96 * n)
    for scope, streams in SCOPE_STREAMS.items()
    for n, sid in enumerate(streams)
}


class KeySchedule:
    """The keys that an object key, or one scope's key, gives for an object.

    scopes: {scope: key}; build it with `from_object_key` or `from_scope_key`.
    """

    __slots__ = ("_expanded", "core", "scopes")

    def __init__(self, scopes: dict[int, bytes], core: bytes) -> None:
        self.scopes = scopes
        self.core = core
        self._expanded = {
            scope: expand(key, _SCOPE_LABELS[scope] + core, _SIZES[scope])
            for scope, key in scopes.items()
        }

    @classmethod
    def from_object_key(cls, key: bytes, core: bytes) -> KeySchedule:
        keys = expand(key, _SCOPES_LABEL + core, 96)
        return cls({1: keys[:32], 2: keys[32:64], 3: keys[64:]}, core)

    @classmethod
    def from_scope_key(cls, key: bytes, scope: int, core: bytes) -> KeySchedule:
        return cls({scope: key}, core)

    def __repr__(self) -> str:
        return f"KeySchedule(scopes={sorted(self.scopes)})"

    def merge(self, other: KeySchedule) -> None:
        """Take over the scopes that another schedule of the same object opens."""
        self.scopes |= other.scopes
        self._expanded |= other._expanded

    def mac_key(self, scope: int) -> bytes:
        return self._expanded[scope][:32]

    def opens(self, sid: int) -> bool:
        return STREAM_SCOPE[sid] in self._expanded

    def input_key(self, sid: int) -> bytes:
        """The stream's chunked-encryption input key, 32 bytes."""
        if sid in SIGNATURE_SCOPES:
            scope = SIGNATURE_SCOPES[sid]
            return expand(self.scopes[scope], label(b"signature", scope) + self.core, 32)
        scope, at = _PLACES[sid]
        return self._expanded[scope][at : at + 32]

    def block_key(self, sid: int) -> bytes:
        """The stream's block-layer key, 64 bytes."""
        scope, at = _PLACES[sid]
        return self._expanded[scope][at + 32 : at + 96]

    def context(self, sid: int) -> bytes:
        return _STREAM_LABELS[sid] + self.core
