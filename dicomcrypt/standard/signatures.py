"""Digital signatures in DICOM files: verifying (PS3.15 annex C, PS3.3 section C.12.1.1.3)."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from .. import policy
from ..errors import DamagedError, PolicyError
from ..keys.cms import Signature, certificate_key
from ..policy import names as names_of
from . import mac
from .layout import (
    BIG_ENDIAN,
    IMPLICIT,
    DataSet,
    Element,
    Item,
    keyword,
    read_file,
    tag_text,
    with_items,
)

MAC_ID, MAC_SYNTAX, MAC_ALGORITHM, SIGNED_TAGS = 0x04000005, 0x04000010, 0x04000015, 0x04000020
UID, MOMENT, CERTIFICATE_TYPE, PURPOSE = 0x04000100, 0x04000105, 0x04000110, 0x04000401
X509 = "X509_1993_SIG"
#: MAC algorithms as PS3.3 calls them. MD5 and RIPEMD160 are not taken: see docs.
HASHES = {"SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512()}
_OLD = ("RIPEMD160", "MD5", "SHA1")
#: Each may be of the whole file, which a small one could make work without end of.
MAX_SIGNATURES = 256
_MOMENT = re.compile(r"(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})?")


class DicomSignature(NamedTuple):
    """A signature in a data set, which is right.

    place: "" for the whole data set, else the item it stands in. number: its MAC ID. made: by
    whom, and when; no further certificates come with it. signed: the tags of its data set that it
    is of. stamped: whether it has a time stamp, which nobody checked."""

    place: str
    number: int
    uid: str
    made: Signature
    signed: tuple[int, ...]
    stamped: bool

    def facts(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {
            "place": self.place.rstrip("."), "uid": self.uid, **self.made.facts(),
            "elements": len(self.signed), "timestamp": "not checked" if self.stamped else None,
        }  # fmt: skip


class Signed(NamedTuple):
    """What a file holds of signatures, all of them right.

    unused: whether it has MAC parameters of no signature, which nothing protects."""

    data: DataSet
    signatures: list[DicomSignature]
    unused: bool = False

    def unsigned(self, accepted: list[DicomSignature]) -> list[int | str]:
        """Return what none of these signatures is of: tags of the data set, and ways to what
        stands in signed sequences. Lengths aside, and the signatures themselves."""
        covered = {tag for one in accepted if not one.place for tag in one.signed}
        found: list[int | str] = [f"{keyword(mac.MAC_PARAMETERS)} of no signature"] * self.unused
        for element in self.data.elements:
            if element.tag in (mac.MAC_PARAMETERS, mac.SIGNATURES) and element.vr != b"SQ":
                found.append(element.tag)  # what is none of them, and nobody looked at
                continue
            if element.tag == mac.MAC_PARAMETERS:
                known = {MAC_ID, MAC_SYNTAX, MAC_ALGORITHM, SIGNED_TAGS}
            elif element.tag == mac.SIGNATURES:
                known = {MAC_ID, UID, MOMENT, CERTIFICATE_TYPE, PURPOSE, mac.CERTIFICATE,
                         mac.SIGNATURE, mac.STAMP_TYPE, mac.STAMP}
            elif element.tag in covered:
                inside = sorted({keyword(tag) for tag in mac.left_out(element)})
                found += [f"{keyword(element.tag)}...{name}" for name in inside]
                continue
            else:
                if element.tag & 0xFFFF and element.tag != 0x00080001:
                    found.append(element.tag)
                continue
            for item in element.items or ():
                found += [f"{keyword(element.tag)}...{keyword(e.tag)}" for e in item.elements
                          if e.tag not in known]
        return found


def verify(file: BinaryIO) -> Signed:
    """Verify every signature in a file, those of items too; an empty list if there is none.

    Raises NotMeantError for what is no DICOM file, DamagedError for the first signature that does
    not fit, or is not as the standard has it, PolicyError for algorithms and keys that are not
    permitted."""
    data = read_file(file)
    found: list[DicomSignature] = []
    for place, elements in with_items(data.elements):
        for number, item in enumerate(_sequence(elements, mac.SIGNATURES), 1):
            if len(found) >= MAX_SIGNATURES:
                raise DamagedError(f"it has over {MAX_SIGNATURES} signatures")
            try:
                found.append(_verify(data, place, elements, item))
            except (DamagedError, PolicyError) as error:
                where = f" in {place.rstrip('.')}" if place else ""
                raise type(error)(f"signature {number}{where}: {error}") from None
    used = {one.number for one in found if not one.place}
    unused = any(_Values(data, item).number(MAC_ID) not in used
                 for item in _sequence(data.elements, mac.MAC_PARAMETERS))
    return Signed(data, found, unused)


def _sequence(elements: list[Element], tag: int) -> list[Item]:
    for element in elements:
        if element.tag == tag:
            return element.items or []
    return []


class _Values:
    """Values of one item, as text, bytes and numbers."""

    def __init__(self, data: DataSet, item: Item) -> None:
        self._data, self._by_tag = data, {e.tag: e for e in item.elements}

    def __contains__(self, tag: int) -> bool:
        return tag in self._by_tag

    def value(self, tag: int) -> bytes:
        element = self._by_tag.get(tag)
        if element is None:
            raise DamagedError(f"it has no {keyword(tag)}")
        return self._data.read(element)

    def text(self, tag: int) -> str:
        return self.value(tag).rstrip(b"\0 ").decode("ascii", "replace")

    def number(self, tag: int) -> int:
        return int.from_bytes(self.value(tag), self._data.encoding.order)

    def tags(self, tag: int) -> list[int]:
        value, order = self.value(tag), self._data.encoding.order
        numbers = [int.from_bytes(value[i : i + 2], order) for i in range(0, len(value) & ~3, 2)]
        return [a << 16 | b for a, b in zip(numbers[::2], numbers[1::2], strict=True)]


def _der(value: bytes) -> bytes:
    """A DER value without the zero that made its length even."""
    if len(value) < 2 or value[0] != 0x30:
        return value
    size, head = value[1], 2
    if size & 0x80:
        head += size & 0x7F
        size = int.from_bytes(value[2:head], "big")
    return _unpadded(value, head + size)


def _unpadded(value: bytes, size: int) -> bytes:
    """A value of this size without the zero that made its length even; others as they are."""
    return value[:size] if value[size:] == b"\0" else value


def _verify(data: DataSet, place: str, elements: list[Element], item: Item) -> DicomSignature:
    own = _Values(data, item)
    number = own.number(MAC_ID)
    fitting = [one for one in (_Values(data, i) for i in _sequence(elements, mac.MAC_PARAMETERS))
               if one.number(MAC_ID) == number]
    if len(fitting) != 1:
        raise DamagedError("its MAC parameters are missing, or stand there twice")
    parameters = fitting[0]
    if (kind := own.text(CERTIFICATE_TYPE)) != X509:
        raise DamagedError(f"its certificate is of the type {kind!r}, which the standard has not")
    name, syntax = parameters.text(MAC_ALGORITHM), parameters.text(MAC_SYNTAX)
    if syntax in (IMPLICIT, BIG_ENDIAN) or not syntax or syntax.strip("0123456789."):
        raise DamagedError("it was made in a transfer syntax that cannot be signed in")
    if name not in HASHES:
        if name in _OLD:
            raise PolicyError(f"its MAC algorithm {name} is not taken: collisions can be made, or "
                              "nearly; have the file signed again with SHA-256")
        raise DamagedError(f"its MAC algorithm {name!r} is none of the standard's")
    signed = tuple(parameters.tags(SIGNED_TAGS))
    digest = hashlib.new(name.lower())
    for element in _signed_elements(elements, signed):
        mac.feed(data, element, digest.update)
    mac.feed_signature_item(data, item.elements, digest.update)
    try:
        certificate = x509.load_der_x509_certificate(_der(own.value(mac.CERTIFICATE)))
        key = certificate_key(certificate)
    except (ValueError, TypeError, x509.InvalidVersion):
        raise DamagedError("its certificate is malformed") from None
    algorithm = check_fit(key, HASHES[name], own.value(mac.SIGNATURE), digest.digest())
    made = Signature(algorithm, certificate, (), _moment(own.text(MOMENT)))
    return DicomSignature(place, number, own.text(UID), made, signed, mac.STAMP in own)


def _signed_elements(elements: list[Element], signed: tuple[int, ...]) -> Iterator[Element]:
    """Yield the elements that a signature says it is of, every one of them."""
    by_tag = {element.tag: element for element in elements}
    if not signed or any(a >= b for a, b in itertools.pairwise(signed)):
        raise DamagedError("its list of signed elements is empty, or not in order")
    for tag in signed:
        element = by_tag.get(tag)
        if element is None:
            raise DamagedError(f"{keyword(tag)} was signed and is not there: it was taken away")
        if not mac.can_be_signed(element):
            raise DamagedError(f"{keyword(tag)} cannot be signed ({element.vr.decode()}), or its "
                               "value representation is not known here")
        yield element


def check_fit(key: Any, kind: hashes.HashAlgorithm, signature: bytes, digest: bytes) -> str:
    """Verify a signature of a digest and return its algorithm's name in the registry.

    Raises DamagedError if it does not fit, PolicyError for keys that are not permitted."""
    if isinstance(key, rsa.RSAPublicKey):
        named = f"rsa-pkcs1v15-{kind.name}"
        arguments: tuple[Any, ...] = (padding.PKCS1v15(), Prehashed(kind))
        bits, signature = key.key_size, _unpadded(signature, (key.key_size + 7) // 8)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        named, bits = f"ecdsa-{kind.name}", None
        policy.current().require(names_of.of_key(key, signs=True).algorithm, "verify")
        arguments, signature = (ec.ECDSA(Prehashed(kind)),), _der(signature)
    else:
        raise PolicyError("its key is neither RSA nor of an elliptic curve")
    policy.current().require(named, "verify", bits)
    try:
        key.verify(signature, digest, *arguments)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise DamagedError("it does not fit: what it is of was changed, or it was forged") \
            from None
    return named


def _moment(text: str) -> datetime.datetime:
    """A DT with at least seconds, in UTC; without a zone it is taken for UTC (PS3.5 6.2)."""
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        zone = match[3] or "+0000"
        return datetime.datetime.strptime(match[1] + zone, "%Y%m%d%H%M%S%z").astimezone(
            datetime.UTC
        )
    except (ValueError, OverflowError):
        raise DamagedError("its date is malformed") from None


def unsigned_names(found: list[int | str]) -> list[str]:
    """Return names for what `Signed.unsigned` found: no values."""
    return [f"{tag_text(one)} {keyword(one)}" if isinstance(one, int) else one for one in found]
