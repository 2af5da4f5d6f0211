"""What a worker is told of a job: places, recipients, options, and how it comes by keys.

Their text form shows nothing, since workers log what they cannot do."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from ..container.stanza import PASSPHRASE_TYPES, Identity, Recipient
from ..errors import UsageError
from ..keys.batch import Envelope
from ..objects.signing import SignaturePolicy
from ..trees.inplace import RewrapOptions, rewrap_tree, verify_tree
from ..trees.job import Shard, Watch
from ..trees.pool import Outcome
from ..trees.tree import EncryptOptions, encrypt_tree


def _check_signer(signer: Any) -> bool:
    """Whether there is a signer; raises UsageError for one whose key cannot travel."""
    if signer is None:
        return False
    from ..keys.signing import Signer

    if type(signer) is not Signer:
        raise UsageError("a signing key in a token stays on its machine: sign with a key file")
    return True


class _Secretive:
    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


Outcomes = Generator[Outcome, None, None]


class ShardJob(Protocol):
    """A job on a tree that is done in shards.

    name: what the scheduler is shown. root: the tree. out: the output folder, None for a job that
    has none."""

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def out(self) -> str | None: ...

    @property
    def secret(self) -> bool:
        """Whether it holds what only the workers may know."""

    def outcomes(self, shard: Shard, watch: Watch) -> Outcomes:
        """Do one shard, in a worker; close it if it is broken off."""


class WorkerKeys(_Secretive):
    """Identities: sent, or read by each worker from files of its own."""

    __slots__ = ("_files", "_sent")

    def __init__(self, sent: Sequence[Identity] = (), files: Sequence[str] = ()) -> None:
        """Raises UsageError for keys that cannot be sent."""
        from ..keys.held import HeldIdentity

        if any(isinstance(identity, HeldIdentity) for identity in sent):
            raise UsageError("a key in a card or token stays on its machine: give key files, or "
                             "--engine local")
        self._sent, self._files = tuple(sent), tuple(files)

    @property
    def travel(self) -> bool:
        return bool(self._sent)

    def load(self) -> list[Identity]:
        """The identities, in a worker. Raises UsageError naming a file that it cannot use."""
        from ..keys.keyfile import load_identities

        return [*self._sent, *(found for path in self._files for found in load_identities(path))]


@dataclass(frozen=True, slots=True, repr=False)
class EncryptShards(_Secretive):
    """`encrypt_tree`. scoped: as of Envelope, which each worker makes for itself: so the key of a
    batch, which opens all its objects, never travels."""

    name: ClassVar[str] = "encrypt"
    root: str
    out: str
    scoped: dict[int, list[Recipient]]
    allow_classical: bool
    allow_mixed: bool
    options: EncryptOptions

    @property
    def secret(self) -> bool:
        everybody = [r for found in self.scoped.values() for r in found]
        return _check_signer(self.options.signer) or any(
            r.stanza_type in PASSPHRASE_TYPES for r in everybody)

    def outcomes(self, shard: Shard, watch: Watch) -> Outcomes:
        envelope = Envelope(self.scoped, batch=True, allow_classical=self.allow_classical,
                            allow_mixed=self.allow_mixed)
        # Until all shards are done, each one's journal says that it is.
        yield from encrypt_tree(self.root, self.out, envelope, self.options, shard=shard,
                                keep_journal=True, watch=watch)


@dataclass(frozen=True, slots=True, repr=False)
class VerifyShards(_Secretive):
    """`verify_tree`."""

    name: ClassVar[str] = "verify"
    out: ClassVar[None] = None
    root: str
    keys: WorkerKeys
    policy: SignaturePolicy

    @property
    def secret(self) -> bool:
        return self.keys.travel

    def outcomes(self, shard: Shard, watch: Watch) -> Outcomes:
        yield from verify_tree(self.root, self.keys.load(), shard=shard, watch=watch,
                               policy=self.policy)


@dataclass(frozen=True, slots=True, repr=False)
class RewrapShards(_Secretive):
    """`rewrap_tree`. What was changed before is left out, since a shard may be begun again."""

    name: ClassVar[str] = "rewrap"
    out: ClassVar[None] = None
    root: str
    keys: WorkerKeys
    options: RewrapOptions

    @property
    def secret(self) -> bool:
        return _check_signer(self.options.signer) or self.keys.travel or any(
            r.stanza_type in PASSPHRASE_TYPES for r in self.options.add)

    def outcomes(self, shard: Shard, watch: Watch) -> Outcomes:
        options = replace(self.options, resume=True)
        yield from rewrap_tree(self.root, self.keys.load(), options, shard=shard, watch=watch)
