"""Signed objects: what is demanded of a signature, and opening objects under such a demand.

Every way to read an object goes through `unlock` or `admit`: without it nothing can be read of
a signed object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..container.header import BatchKeyCache
from ..container.layout import STREAM_NAMES
from ..container.reader import Container, OpenContainer
from ..container.schedule import KeySchedule
from ..container.stanza import Identity
from ..container.streams import Source
from ..errors import DamagedError, PolicyError, UnsignedError

if TYPE_CHECKING:
    from cryptography import x509

    from ..keys.cms import Signature

    #: Whose signatures are wanted: a certificate, or a public key (SubjectPublicKeyInfo, DER).
    SignerKey = bytes | x509.Certificate


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """What is demanded of an object's signature, besides that a signature that is there is right.

    require: an object without one is refused. signers: public keys (SubjectPublicKeyInfo, DER),
    one of which must have signed; they imply `require`. check: is told of each signature and
    raises PolicyError if its certificate is not to be trusted; goes to worker processes.
    """

    require: bool = False
    signers: tuple[bytes, ...] = ()
    check: Callable[[Signature], None] | None = None

    @property
    def demands(self) -> list[bytes]:
        """What is demanded, for telling jobs apart; empty if nothing is."""
        checked = [b"checked"] if self.check is not None else []
        return [b"signed", *checked, *sorted(self.signers)] if self != NO_DEMANDS else []

    def accept_unsigned(self) -> None:
        """Raise UnsignedError if an object must be signed."""
        if self.require or self.signers:
            raise UnsignedError(
                "the object is not signed, and a signature is required: it may have been taken away"
            )

    def accept(self, signature: Signature) -> None:
        """Raise PolicyError unless a signature that is right is also wanted."""
        if self.signers and signature.public_key not in self.signers:
            raise PolicyError(
                f"the object is signed by {signature.subject}, who is none of the given signers"
            )
        if self.check is not None:
            self.check(signature)

    def facts(self, opened: OpenContainer) -> dict[str, Any] | None:
        """What is told of an opened object's signature, None if it has none."""
        if opened.signature is None:
            return None
        trust = "checked" if self.check else "given signer" if self.signers else "not checked"
        return {**opened.signature.facts(), "trust": trust}


NO_DEMANDS = SignaturePolicy()


def verified_note(whole: bool, facts: dict[str, Any] | None) -> str:
    """What is said of an object that was verified: how far that went, and who signed it."""
    notes = [] if whole else ["only the identity's scope was verified"]
    if facts is not None:
        unchecked = ", not checked against a trust centre"
        notes.append(f"signed by {facts['signer']}"
                     + (unchecked if facts["trust"] == "not checked" else ""))
    return "; ".join(notes)


def signature_policy(
    require: bool = False, signers: Sequence[SignerKey] = (),
    check: Callable[[Signature], None] | None = None,
) -> SignaturePolicy:  # fmt: skip
    """Return the policy of a call's options; signers: certificates, or SubjectPublicKeyInfo."""
    if not require and not signers and check is None:
        return NO_DEMANDS
    keys = []
    for signer in signers:
        if isinstance(signer, bytes):
            keys.append(signer)
        else:
            from ..keys.cms import certificate_key
            from ..keys.spki import public_der

            keys.append(public_der(certificate_key(signer)))
    return SignaturePolicy(require, tuple(keys), check)


def unlock(
    container: Container, identities: Iterable[Identity], cache: BatchKeyCache | None = None,
    policy: SignaturePolicy = NO_DEMANDS,
) -> OpenContainer:
    """Open an object's header and verify its signature, if it has one.

    Raises NoIdentityError, DamagedError, UnsignedError, PolicyError."""
    if container.signatures is None:
        policy.accept_unsigned()
        return container.unlock(identities, cache)
    return admit(container.unlock(identities, cache), policy)


def admit(opened: OpenContainer, policy: SignaturePolicy = NO_DEMANDS) -> OpenContainer:
    """Verify the signature of an object whose header is open, if it has one; return it."""
    if opened.container.signatures is None:
        policy.accept_unsigned()
    else:
        from ..keys.cms import verify_cms

        policy.accept(opened.verify_signature(verify_cms))
    return opened


def check_signature(
    source: Source, streams: dict[int, tuple[int, int]], signatures: tuple[int, int],
    keys: KeySchedule,
) -> dict[str, Any]:  # fmt: skip
    """Return what is left of a damaged object's signature: {"state": "valid" or "broken",
    "reason", and, if the signature itself is right, who signed and "changed", the pieces of
    streams [{"stream", "start", "end"}] (bytes of ciphertext) that are not what was signed}."""
    from ..container.signature import changed_pieces, open_signature
    from ..keys.cms import verify_cms

    try:
        sealed = open_signature(source, streams, signatures, keys)
        signature = verify_cms(sealed.manifest.data, sealed.cms)
    except (DamagedError, OSError) as error:
        return {"state": "broken", "reason": str(error)}
    changed = [
        {"stream": STREAM_NAMES[sid], "start": start, "end": end}
        for sid, start, end in changed_pieces(source, streams, sealed.manifest)
    ]
    if not changed:
        return {"state": "valid", **signature.facts()}
    reason = "a part of the object is not what was signed"
    return {"state": "broken", "reason": reason, "changed": changed, **signature.facts()}
