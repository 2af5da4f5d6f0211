"""An identity in shares of words (SLIP-39), of which any so many give it back.

What is split is 34 bytes: a version (1), the identity's stanza type (docs/spec/dcmx-v1.md
section 4.2), its 32 private bytes. So the words alone are enough: 35 a share, from a list of
1,024. There is no SLIP-39 passphrase: it would be one more thing to lose, and any wrong one
would give a wrong key without a complaint.

A share file is text: lines with # say what it is, the others hold the words. `shamir-mnemonic`
is the reference implementation of SLIP-39; it is not hardened against somebody who measures the
machine while it runs (docs/operations.md).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DamagedError, MissingExtraError, UsageError
from .hpke import HpkeIdentity
from .hybrid import HybridIdentity
from .x25519 import X25519Identity

MOST_SHARES = 16  # SLIP-39
WORDS = 35
_VERSION = 1
_KINDS = {kind.recipient_type.stanza_type: kind for kind in (HybridIdentity, X25519Identity)}
_LIMIT = 1 << 16
_MOST_ITERATIONS = 5  # an exponent: what others wrote must not cost minutes
_COUNT = re.compile(r"^# .*\bshare (\d{1,2}) of (\d{1,2})\b", re.MULTILINE)
_IDENTITY = re.compile(r"^# identity ([0-9a-f]{16})\b", re.MULTILINE)


@dataclass(frozen=True)
class Share:
    """One share. name: what messages call it; count and hint: None if only words are known."""

    name: str
    words: tuple[str, ...]
    number: int
    threshold: int
    set_id: int
    count: int | None = None
    hint: bytes | None = None

    def __repr__(self) -> str:
        return f"Share({self.number}, set={self.set_id:04x})"


def _library() -> Any:
    try:
        import shamir_mnemonic
    except ImportError:
        raise MissingExtraError(
            "recovery shares need shamir-mnemonic: pip install 'dicomcrypt[recovery]'"
        ) from None
    return shamir_mnemonic


def split_identity(identity: HpkeIdentity, threshold: int, count: int) -> list[Share]:
    """Split an identity into `count` shares, any `threshold` of which give it back.

    Raises UsageError for 2 <= threshold <= count <= 16 not kept, and for an identity whose key
    is not 32 bytes in hand (certificates' keys, cards).
    """
    library = _library()
    if type(identity) not in _KINDS.values():
        raise UsageError(
            "only identities made by keygen can be split: keep a certificate's key as its "
            "PKCS#12 file, a card's as a second card"
        )
    if not 2 <= threshold <= count <= MOST_SHARES:
        raise UsageError(
            f"a threshold of {threshold} of {count} shares cannot be: it is 2 at least, and "
            f"there are {MOST_SHARES} shares at most"
        )
    head = bytes((_VERSION, identity.recipient.stanza_type))
    texts = library.generate_mnemonics(
        1, [(threshold, count)], head + identity.private_bytes(), iteration_exponent=0
    )[0]
    shares = [
        replace(_parse_words(text.split(), f"share {n}"), count=count,
                hint=identity.recipient.hint)
        for n, text in enumerate(texts, 1)
    ]
    again = combine_shares(shares[-threshold:])
    if again.private_bytes() != identity.private_bytes():
        raise DamagedError("the shares made do not give the identity back: nothing was written")
    return shares


def share_text(share: Share, identity: HpkeIdentity, date: str | None = None) -> str:
    """Return the text of a share file. It is secret. date: ISO 8601, today by default."""
    words = "\n".join(" ".join(share.words[at : at + 5]) for at in range(0, len(share.words), 5))
    return (
        f"# dicomcrypt recovery share {share.number} of {share.count}, SECRET\n"
        f"# any {share.threshold} of these shares give the identity back, fewer tell nothing:\n"
        f"# dicomcrypt key combine SHARE... -o restored.key\n"
        f"# identity {identity.recipient.hint.hex()} {identity.algorithm}\n"
        f"# set {share.set_id:04x}, split {date or time.strftime('%Y-%m-%d')}\n"
        f"{words}\n"
    )


def _parse_words(words: Sequence[str], name: str) -> Share:
    library = _library()
    from shamir_mnemonic.wordlist import WORD_INDEX_MAP

    if not words:
        raise UsageError(f"{name}: no words in it")
    words = tuple(word.lower() for word in words)
    unknown = [str(at) for at, word in enumerate(words, 1) if word not in WORD_INDEX_MAP]
    if len(unknown) > 5:
        raise UsageError(f"{name}: not a share: most of it is not in the list of words")
    if unknown:
        one = len(unknown) == 1
        raise UsageError(
            f"{name}: {'word' if one else 'words'} {', '.join(unknown)} "
            f"{'is' if one else 'are'} not in the list of words: compare with what is "
            "written on the share"
        )
    if len(words) != WORDS:
        raise UsageError(f"{name}: {len(words)} words, a share has {WORDS}")
    try:
        share = library.Share.from_mnemonic(" ".join(words))
    except library.MnemonicError:
        raise UsageError(
            f"{name}: the checksum is wrong: a word is another one than on the share, or two "
            "are in each other's place"
        ) from None
    if (share.group_count, share.group_threshold) != (1, 1) or share.member_threshold < 2 or (
        share.iteration_exponent > _MOST_ITERATIONS
    ):
        raise UsageError(f"{name}: a SLIP-39 share, but none of dicomcrypt")
    return Share(name, words, share.index + 1, share.member_threshold, share.identifier)


def parse_share(text: str, name: str) -> Share:
    """Parse a share file's text, or words alone, in any number of lines.

    name: what messages call it. Raises UsageError saying which word is not one, or that the
    checksum is wrong; never showing a word.
    """
    lines = [line.strip() for line in text.splitlines()]
    words = [word for line in lines if not line.startswith("#") for word in line.split()]
    if words and words[0].startswith("<"):
        raise UsageError(f"{name}: the page for people: the .txt file beside it is meant")
    share = _parse_words(words, name)
    counted, known = _COUNT.search(text), _IDENTITY.search(text)
    return replace(
        share, count=int(counted[2]) if counted else None,
        hint=bytes.fromhex(known[1]) if known else None,
    )  # fmt: skip


def load_share(path: str | os.PathLike[str]) -> Share:
    """Read a share file; raises UsageError naming it."""
    name = f"share file {os.fspath(path)!r}"
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {(error.strerror or '').lower()}") from None
    if len(data) > _LIMIT:
        raise UsageError(f"{name}: too large for a share")
    return parse_share(data.decode("utf-8-sig", "replace"), name)


def missing_shares(shares: Sequence[Share]) -> int:
    """How many more shares are needed; at least one must be there."""
    return max(shares[0].threshold - len(shares), 0)


def combine_shares(shares: Sequence[Share]) -> HpkeIdentity:
    """Return the identity that the shares were made of.

    More shares than needed are checked too. Raises UsageError for too few shares, shares of
    different sets, the same share twice; DamagedError for shares that do not fit together, and
    for a key that is not the one whose hint stands in the share files.
    """
    library = _library()
    if not shares:
        raise UsageError("no shares: give the share files, or - to type the words")
    first = shares[0]
    seen: dict[int, Share] = {}
    for share in shares:
        if (share.set_id, share.threshold) != (first.set_id, first.threshold):
            raise UsageError(
                f"{first.name} and {share.name} are of different sets ({first.set_id:04x} and "
                f"{share.set_id:04x}): take shares that were made together"
            )
        twin = seen.setdefault(share.number, share)
        if twin is not share:
            raise UsageError(f"{twin.name} and {share.name} are both share {share.number}")
    if missing := missing_shares(shares):
        raise UsageError(
            f"{len(shares)} of the {first.threshold} shares needed: {missing} more "
            f"{'is' if missing == 1 else 'are'} missing"
        )
    common, found = list(shares[: first.threshold - 1]), set()
    for last in shares[first.threshold - 1 :]:
        try:
            groups = library.decode_mnemonics(" ".join(s.words) for s in [*common, last])
            found.add(library.recover_ems(groups))
        except library.MnemonicError:
            raise DamagedError(
                "the shares do not fit together: one was changed, or is of another set"
            ) from None
    if len(found) != 1:
        raise DamagedError("the shares give different keys: one was changed")
    secret = found.pop().decrypt(b"")
    if len(secret) != 34 or secret[0] != _VERSION or secret[1] not in _KINDS:
        raise DamagedError("the shares hold no identity that this version knows")
    identity = _KINDS[secret[1]](secret[2:])
    for share in shares:
        if share.hint is not None and share.hint != identity.recipient.hint:
            raise DamagedError(
                f"{share.name} is said to be of identity {share.hint.hex()}, but the shares give "
                f"{identity.recipient.hint.hex()}: the key is not the one that was split"
            )
    return identity
