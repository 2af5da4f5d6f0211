"""What the policy in force says of recipients and identities: asked once a job or a key, not once
a file."""

from __future__ import annotations

from collections.abc import Iterable

from .. import policy
from ..container import header
from ..container.stanza import Identity, Recipient, Stanza

#: Stanza types by the registry's names.
ALGORITHMS = {
    1: "x25519",
    2: "hpke-p256",
    3: "rsa-oaep-sha256",
    4: "mlkem768-x25519",
    5: "scrypt",
    6: "argon2id",
    7: "aes-kw",
    10: "mlkem768",
    11: "mlkem1024",
    12: "hpke-p384",
    13: "hpke-p521",
}

_granted: dict[tuple[str, int | None], policy.Policy] = {}


def algorithm_of(who: Recipient | Identity, kind: int | None = None) -> tuple[str, int | None]:
    """Return the registry's name for a recipient or identity, and its bits if it tells them.

    kind: the type of the stanza that it opens. Types of third parties have the name that they
    give themselves."""
    if kind is None:
        kind = getattr(who, "stanza_type", None)
    known = None if kind is None else ALGORITHMS.get(kind)
    name: str = known or getattr(who, "algorithm", None) or f"type-{kind}"
    bits = getattr(who, "key_bits", None)
    if bits is None:
        bits = getattr(getattr(who, "recipient", None), "key_bits", None)
    return name, bits


def check_encryption(recipients: Iterable[Recipient]) -> None:
    """Raise PolicyError for the first recipient that the policy does not let encrypt to."""
    rules = policy.current()
    for recipient in recipients:
        name, bits = algorithm_of(recipient)
        rules.require(name, "encrypt", bits)


def check_decryption(identity: Identity, stanza: Stanza) -> None:
    """Raise PolicyError if what an identity opened is of a kind that is refused; what is only
    read still is remarked once."""
    asked = algorithm_of(identity, stanza.type)
    rules = policy.current()
    if _granted.get(asked) is not rules:
        rules.require(asked[0], "decrypt", asked[1])
        policy.tell(rules.remark(*asked))
        _granted[asked] = rules


def remark_identities(identities: Iterable[Identity]) -> None:
    """Remark those whose kind is only read still: before a job, since workers do not speak."""
    rules = policy.current()
    for identity in identities:
        policy.tell(rules.remark(*algorithm_of(identity)))


header.permit = check_decryption
