"""Private keys and PKCS #12 of other programs, loaded by the library without what a hostile file
can do to it.

Such a file says itself how often its passphrase is hashed; that is read before, since the library
neither bounds nor interrupts it. Seen are PKCS #12 (its MAC and everything outside of encrypted
contents), PKCS #8, and PBES2 with PBKDF2 or scrypt, in DER and in BER as other programs write it.
What lies inside of an encrypted content of PKCS #12 is seen by nobody before it is decrypted.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import UsageError

#: The most rounds of hashing that a file may ask for, in all, and of bytes for scrypt (128 N r p).
MOST_ROUNDS, MOST_SCRYPT = 10_000_000, 1 << 30
_MOST_PARTS, _MOST_DEPTH = 200_000, 40
_INTEGER, _OCTETS, _OID, _SEQUENCE, _CONTEXT_0 = 0x02, 0x04, 0x06, 0x30, 0xA0
_DATA = bytes.fromhex("2a864886f70d010701")
_PBKDF2, _SCRYPT = bytes.fromhex("2a864886f70d01050c"), bytes.fromhex("2b06010401da47040b")
_HASHED = (
    _PBKDF2, *(bytes.fromhex("2a864886f70d0105") + bytes((n,)) for n in (1, 3, 4, 6, 10, 11)),
    *(bytes.fromhex("2a864886f70d010c01") + bytes((n,)) for n in range(1, 7)),
)  # fmt: skip


def call(load: Callable[..., Any], data: bytes, passphrase: bytes | None) -> Any:
    """Return what one of the library's loaders makes of a file; raises what it raises.

    Raises UsageError for a passphrase with a NUL, which the library does not survive, and for a
    file that asks for more work than anybody would wait for; ValueError if the library breaks
    down, without its words, which may hold the passphrase."""
    if passphrase is not None and b"\0" in passphrase:
        raise UsageError("a passphrase cannot hold a NUL character")
    bound(data)
    try:
        with warnings.catch_warnings():  # of BER, which other programs write
            warnings.simplefilter("ignore", UserWarning)
            return load(data, passphrase)
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
    raise ValueError("the library broke down")


def bound(data: bytes) -> None:
    """Raise UsageError if a DER or PEM file demands too much work of whoever opens it, or cannot
    be followed to where it would say so."""
    try:
        rounds = sum(sum(_rounds(der)) for der in _blocks(data))
    except (_OddError, binascii.Error):
        raise UsageError("a private key or PKCS #12 file that is malformed: was it copied "
                         "whole?") from None
    if rounds > MOST_ROUNDS:
        raise UsageError(f"its passphrase would be hashed over {MOST_ROUNDS} times: that takes too "
                         "long; export it anew with fewer iterations")


def _blocks(data: bytes) -> Iterator[bytes]:
    """DER as it is; of PEM the blocks of PKCS #8 (the older forms hash once)."""
    begin, end = b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END "
    if b"-----BEGIN " not in data:
        yield data
        return
    for part in data.split(begin)[1:]:
        yield base64.b64decode(part.partition(end)[0])


# ---- BER (X.690) -------------------------------------------------------------


class _OddError(Exception):
    """Not BER, or not in bounds."""


class _Part(NamedTuple):
    tag: int
    content: bytes
    parts: list[_Part]


class _Reader:
    """Takes BER apart; counts what it finds, so that all of it is bounded."""

    def __init__(self) -> None:
        self._left = _MOST_PARTS

    def first(self, data: bytes) -> _Part:
        """The first element of data: the library does not look at what follows it."""
        return self._one(data, 0, len(data), 0)[0]

    def _one(self, data: bytes, at: int, end: int, depth: int) -> tuple[_Part, int]:
        self._left -= 1
        if self._left < 0 or depth > _MOST_DEPTH or at + 2 > end:
            raise _OddError
        tag = data[at]
        if tag & 0x1F == 0x1F:  # its number follows
            while at + 3 < end and data[at + 1] & 0x80:
                at += 1
            at += 1
        if at + 2 > end:
            raise _OddError
        length, at = data[at + 1], at + 2
        if length == 0x80:
            if not tag & 0x20:
                raise _OddError
            begin, parts = at, []
            while data[at : at + 2] != b"\0\0":
                part, at = self._one(data, at, end, depth + 1)
                parts.append(part)
            return _Part(tag, data[begin:at], parts), at + 2
        if length > 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count]), at + count
        stop, parts = at + length, []
        if stop > end:
            raise _OddError
        begin = at
        while tag & 0x20 and at < stop:
            part, at = self._one(data, at, stop, depth + 1)
            parts.append(part)
        return _Part(tag, data[begin:stop], parts), stop


def _octets(part: _Part) -> bytes:
    """The content of an OCTET STRING, of one in pieces too."""
    return b"".join(map(_octets, part.parts)) if part.tag & 0x20 else part.content


def _rounds(der: bytes) -> Iterator[int]:
    reader = _Reader()
    top = reader.first(der)
    yield from _inside(top, reader, 0)
    if len(top.parts) == 3 and _number(top.parts[0]) == 3:  # RFC 7292 section 4: MacData
        mac = top.parts[2].parts
        yield _number(mac[2]) if len(mac) == 3 else 0


def _inside(part: _Part, reader: _Reader, depth: int) -> Iterator[int]:
    """Yield what each AlgorithmIdentifier asks for, in contents of the type `data` too."""
    parts = part.parts
    if len(parts) == 2 and parts[0].tag == _OID:
        if parts[1].tag == _SEQUENCE:
            yield _of_derivation(parts[0].content, parts[1].parts)
        elif parts[0].content == _DATA and parts[1].tag == _CONTEXT_0 and depth < 4:
            for one in parts[1].parts:
                yield from _inside(reader.first(_octets(one)), reader, depth + 1)
    for one in parts:
        yield from _inside(one, reader, depth)


def _number(part: _Part) -> int:
    return max(int.from_bytes(part.content, signed=True), 0) if part.tag == _INTEGER else 0


def _of_derivation(oid: bytes, parameters: list[_Part]) -> int:
    """The rounds that an AlgorithmIdentifier asks for."""
    numbers = [_number(part) for part in parameters]
    if oid == _SCRYPT and len(numbers) > 3:
        if 128 * numbers[1] * numbers[2] * numbers[3] > MOST_SCRYPT:
            raise UsageError("its passphrase would be hashed by scrypt with more than 1 GiB: "
                             "export it anew with less")
    return numbers[1] if oid in _HASHED and len(numbers) > 1 else 0
