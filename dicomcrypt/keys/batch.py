"""From recipients to an object's stanzas: directly, or through a batch key.

A job that makes many objects for the same recipients does the public-key work once
(docs/spec/dcmx-v1.md section 5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..container.header import batch_stanza, default_capacity, pack_header
from ..container.layout import FLAG_MIXED_PASSPHRASE, new_core
from ..container.schedule import KeySchedule
from ..container.stanza import (
    BATCH_SCOPE,
    FULL,
    PASSPHRASE_TYPES,
    Recipient,
    Stanza,
    check_strengths,
)
from ..errors import UsageError
from .permission import check_encryption


def scoped_recipients(
    recipients: Sequence[Recipient],
    tags_to: Sequence[Recipient] = (),
    pixels_to: Sequence[Recipient] = (),
) -> dict[int, list[Recipient]]:
    """Return {scope: recipients} without empty scopes."""
    scoped = {1: list(recipients), 2: list(tags_to), 3: list(pixels_to)}
    return {scope: found for scope, found in scoped.items() if found}


def check_recipients(
    scoped: Mapping[int, Sequence[Recipient]], *, allow_classical: bool = False,
    allow_mixed: bool = False,
) -> int:
    """Check who may stand beside whom; return CORE's flags.

    Raises UsageError for no recipient at all, for a classical beside a hybrid
    recipient without allow_classical (the weakest decides), for a passphrase beside
    another recipient without allow_mixed, for two passphrases; PolicyError for what the policy
    does not permit.
    """
    everybody = [r for recipients in scoped.values() for r in recipients]
    if not everybody:
        raise UsageError("no recipient: give --recipient FILE or --passphrase")
    check_encryption(everybody)
    if not allow_classical:
        check_strengths(r.stanza_type for r in everybody)
    passphrases = sum(r.stanza_type in PASSPHRASE_TYPES for r in everybody)
    if passphrases > 1:
        raise UsageError("one passphrase at most")
    if passphrases and len(everybody) > 1:
        if not allow_mixed:
            raise UsageError("a passphrase beside other recipients: a guess would open the "
                             "object for all of them; give --allow-mixed if that is meant")
        return FLAG_MIXED_PASSPHRASE
    return 0


class Material(NamedTuple):
    """What an object begins with: its keys, and its header, which tells them to its recipients."""

    keys: KeySchedule
    header: bytes

    def __repr__(self) -> str:
        return f"Material({len(self.header)} bytes of header)"


class Envelope:
    """Makes the header material of objects: a fresh key, a CORE and the stanzas.

    scoped: {scope: recipients}. With batch=True the public-key operations are done
    once, here, and each object costs two AES key wraps.
    """

    def __init__(
        self,
        scoped: Mapping[int, Sequence[Recipient]],
        *,
        batch: bool = False,
        allow_classical: bool = False,
        allow_mixed: bool = False,
    ) -> None:
        self._flags = check_recipients(
            scoped, allow_classical=allow_classical, allow_mixed=allow_mixed
        )
        self._scoped = dict(scoped)
        self._batch: dict[int, tuple[bytes, bytes]] = {}
        self._shared: list[Stanza] = []
        self._capacity: int | None = None
        if batch:
            for scope, recipients in self._scoped.items():
                batch_key, batch_id = os.urandom(32), os.urandom(16)
                self._batch[scope] = (batch_key, batch_id)
                self._shared += [r.wrap(batch_key, BATCH_SCOPE, batch_id) for r in recipients]

    def __repr__(self) -> str:
        return f"Envelope(scopes={sorted(self._scoped)}, batch={bool(self._batch)})"

    @property
    def partial_only(self) -> bool:
        """Whether nobody may read the whole object."""
        return FULL not in self._scoped

    @property
    def recipients(self) -> set[tuple[int, bytes]]:
        """Type and hint of everybody, as the header shows them."""
        return {(r.stanza_type, r.hint) for found in self._scoped.values() for r in found}

    @property
    def rights(self) -> list[bytes]:
        """Who may read what, in a form that is the same for the same recipients."""
        return sorted(
            b"%d %d " % (scope, r.stanza_type) + r.hint
            for scope, found in self._scoped.items() for r in found
        )  # fmt: skip

    @property
    def has_partial(self) -> bool:
        """Whether somebody may read only the tags or only the pixels."""
        return set(self._scoped) != {FULL}

    def new(self) -> tuple[KeySchedule, list[Stanza], int]:
        """Return the key schedule, the stanzas and the slot capacity of a new object."""
        core = new_core(self._flags)
        object_key = os.urandom(32)
        schedule = KeySchedule.from_object_key(object_key, core)
        stanzas = list(self._shared)
        for scope, recipients in self._scoped.items():
            key = object_key if scope == FULL else schedule.scopes[scope]
            if self._batch:
                stanzas.append(batch_stanza(key, scope, *self._batch[scope], core))
            else:
                stanzas += [r.wrap(key, scope, core) for r in recipients]
        if self._capacity is None:  # the same for all objects of a batch
            capacity = default_capacity(stanzas)
            if self._batch:
                self._capacity = capacity
            return schedule, stanzas, capacity
        return schedule, stanzas, self._capacity

    def material(self) -> Material:
        """Return the keys and the header of a new object."""
        keys, stanzas, capacity = self.new()
        return Material(keys, pack_header(keys.core, capacity, stanzas, keys))

    def supply(self, most: int = 32) -> Iterator[Material]:
        """Yield material for object after object, made up to so many at a time.

        Between two objects their data drive all this out of the processor's caches: made one by
        one, each would cost twice as much."""
        count = 1
        while True:
            stock = [self.material() for _ in range(count)]
            while stock:
                yield stock.pop()
            count = min(2 * count, most)
