"""Cards that are put into readers or taken out, and readers that come and go (PC/SC)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from .transport import library, pcsc_context, reader_names, reader_states

#: How long one call waits, so that an interrupt is noticed, and how often new readers are looked
#: for, in seconds.
_WAIT = 0.25


class Event(NamedTuple):
    """what: "inserted" or "removed" of a card, "attached" or "detached" of a reader. atr: of a card
    that is inserted."""

    what: str
    reader: str
    atr: bytes = b""


def watch(timeout: float | None = None) -> Iterator[Event]:
    """Yield what happens from now on, what is there already first; ends after `timeout` seconds.

    Raises TokenError, MissingExtraError."""
    s = library()
    end = None if timeout is None else time.monotonic() + timeout
    known: dict[str, int] = {}
    full: set[str] = set()
    with pcsc_context() as context:
        while end is None or time.monotonic() < end:
            names = reader_names(context)
            for name in [n for n in known if n not in names]:
                known.pop(name)
                if name in full:
                    full.discard(name)
                    yield Event("removed", name)
                yield Event("detached", name)
            for name in [n for n in names if n not in known]:
                known[name] = s.SCARD_STATE_UNAWARE
                yield Event("attached", name)
            if not known:
                time.sleep(_WAIT)
                continue
            for name, (state, atr) in reader_states(context, known, int(_WAIT * 1000)).items():
                if not state & s.SCARD_STATE_CHANGED:
                    continue
                known[name] = state & ~s.SCARD_STATE_CHANGED
                there = bool(state & s.SCARD_STATE_PRESENT)
                if there and name not in full:
                    full.add(name)
                    yield Event("inserted", name, bytes(atr))
                elif not there and name in full:
                    full.discard(name)
                    yield Event("removed", name)
