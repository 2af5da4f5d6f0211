"""What a policy says: a state for each algorithm, with least sizes.

The names are the registry's (`registry.json`), which are those that keys and signatures bear in
their `algorithm`. Nothing is read before a policy is asked for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import PolicyError, UsageError

PREFERRED, ALLOWED, DECRYPT_ONLY, REFUSED = "preferred", "allowed", "decrypt-only", "refused"
STATES = (PREFERRED, ALLOWED, DECRYPT_ONLY, REFUSED)
PRESETS = ("default", "fips", "bsi")
#: What an algorithm is used for; the first two make something, the others read it.
MAKING, READING = ("encrypt", "sign"), ("decrypt", "verify")

#: Whatever a policy says, these are read at most, and RSA below 2048 bits; below 1024 not even
#: that.
_AT_MOST_READ = frozenset({"sha1", "3des", "rsa-oaep-sha1", "rsa-pkcs1v15"})
_NEVER = frozenset({"md5"})
_RSA_FLOOR, _RSA_NEVER = 2048, 1024
#: What messages propose, the first that is permitted.
_USUAL = {
    "key transport": ("mlkem768-x25519", "mlkem1024", "hpke-p256"),
    "CMS": ("rsa-oaep-sha256", "cms-ecdh-p256"),  # key transport in its messages
    "passphrase": ("argon2id", "mlkem768-x25519", "mlkem1024", "hpke-p256"),
    "signature": ("ml-dsa-65", "ecdsa-p256-sha256"),
    "cipher": ("aes-256-gcm",),
    "hash": ("sha256",),
}


class Rule(NamedTuple):
    """An algorithm's state; below its least size (bits) another one."""

    state: str
    min_bits: int | None = None
    below: str = REFUSED
    why: str = ""


def weaker(one: str, other: str) -> str:
    """Return the state that permits less."""
    return max(one, other, key=STATES.index)


def ceiling(algorithm: str, bits: int | None = None) -> str:
    """Return the most that any policy may say of an algorithm."""
    if algorithm in _NEVER:
        return REFUSED
    if algorithm.startswith("rsa-") and bits is not None and bits < _RSA_FLOOR:
        return DECRYPT_ONLY if bits >= _RSA_NEVER else REFUSED
    return DECRYPT_ONLY if algorithm in _AT_MOST_READ else PREFERRED


@functools.cache
def registry() -> dict[str, Any]:
    """Return the shipped registry: {"kinds": {algorithm: kind}, "presets": {...}}."""
    import json

    with open(os.path.join(os.path.dirname(__file__), "registry.json"), "rb") as file:
        found: dict[str, Any] = json.load(file)
    return found


def kind_of(algorithm: str) -> str:
    """Return what an algorithm is for, as text; "" if the registry does not have it."""
    kind: str = registry()["kinds"].get(algorithm, "")
    return kind


class Policy:
    """Which algorithms may be used, and for what.

    name: such as "bsi"; origin: where it comes from, for messages; other: the state of a
    recipient type that the policy does not name (a plug-in's). Signatures that it does not
    name are refused.
    """

    def __init__(
        self, name: str, origin: str, rules: Mapping[str, Rule], other: str, *,
        note: str = "", sources: Iterable[str] = (),
    ) -> None:
        self.name, self.origin, self.other = name, origin, other
        self.note, self.sources = note, tuple(sources)
        self._rules = dict(rules)

    def __repr__(self) -> str:
        return f"Policy({self.name!r}, {self.origin!r})"

    def __iter__(self) -> Iterator[tuple[str, Rule]]:
        return iter(self._rules.items())

    def rule(self, algorithm: str) -> Rule | None:
        """Return what the policy says of an algorithm; None if it does not name it."""
        return self._rules.get(algorithm)

    def state(self, algorithm: str, bits: int | None = None) -> str:
        """Return an algorithm's state for a key of so many bits (None: not told)."""
        rule = self._rules.get(algorithm)
        if rule is None:
            found = REFUSED if _signs(algorithm) else self.other
        elif bits is not None and rule.min_bits is not None and bits < rule.min_bits:
            found = rule.below
        else:
            found = rule.state
        return weaker(found, ceiling(algorithm, bits))

    def permits(self, algorithm: str, use: str, bits: int | None = None) -> bool:
        """Whether an algorithm may be used: "encrypt", "decrypt", "sign" or "verify"."""
        if use not in MAKING + READING:
            raise UsageError(f"{use!r} is no use of an algorithm")
        rule = self._rules.get(algorithm)
        if rule is None and use in ("sign", "verify"):
            return False
        if use in MAKING and bits is None and rule is not None and rule.min_bits is not None:
            return False  # what is not told is not enough
        state = self.state(algorithm, bits)
        return state in (PREFERRED, ALLOWED) or (state == DECRYPT_ONLY and use in READING)

    def require(
        self, algorithm: str, use: str, bits: int | None = None, *, kind: str | None = None
    ) -> None:
        """Raise PolicyError unless `permits`: algorithm, state, the policy and what to do.

        kind: of what can take its place, "CMS" for a message's recipients; by default its own."""
        if self.permits(algorithm, use, bits):
            return
        size = f" of {bits} bits" if bits is not None else ""
        rule = self._rules.get(algorithm)
        state = self.state(algorithm, bits)
        if rule is None:
            said = "does not name it"
        elif state in (PREFERRED, ALLOWED):
            said = f"wants {rule.min_bits} bits, and the key's size is not told"
        elif bits is not None and rule.min_bits is not None and bits < rule.min_bits:
            said = f"says {state}, and wants {rule.min_bits} bits"
        else:
            said = f"says {state}"
        reason = f" ({rule.why})" if rule is not None and rule.why else ""
        raise PolicyError(
            f"{algorithm}{size} is not permitted to {use}: the policy {self.name!r} "
            f"({self.origin}) {said}{reason}; {self._remedy(algorithm, use, kind)}"
        )

    def _remedy(self, algorithm: str, use: str, kind: str | None) -> str:
        if use in READING:
            return "whoever signs the policy may permit it: see `dicomcrypt policy show`"
        kind = kind or kind_of(algorithm) or ("signature" if use == "sign" else "key transport")
        for usual in _USUAL.get(kind, ()):
            if usual == algorithm or not self.rule(usual):
                continue
            if self.state(usual) in (PREFERRED, ALLOWED):
                return f"use {usual}, or see `dicomcrypt policy show`"
        return "see `dicomcrypt policy show` for what is"

    def remark(self, algorithm: str, bits: int | None = None) -> str | None:
        """Return a sentence for a person if an algorithm is there only to read what is old."""
        if self.state(algorithm, bits) != DECRYPT_ONLY:
            return None
        size = f" of {bits} bits" if bits is not None else ""
        return (f"{algorithm}{size} is only read under the policy {self.name!r} ({self.origin}): "
                "move what is kept with it to something newer")


def _signs(algorithm: str) -> bool:
    return kind_of(algorithm) == "signature"


@functools.cache
def preset(name: str) -> Policy:
    """Return a shipped policy. It restricts algorithms, and validates nothing.

    Raises UsageError for a name that is not one of PRESETS."""
    if name not in PRESETS:
        raise UsageError(f"no policy {str(name)!r}: the presets are {', '.join(PRESETS)}")
    data = registry()["presets"][name]
    rules = {
        algorithm: Rule(state, min_bits, below or REFUSED, why)
        for algorithm, (state, min_bits, below, why) in data["algorithms"].items()
    }
    return Policy(name, "shipped", rules, data["other"], note=data["note"],
                  sources=data["sources"])
