"""What a worker asks the job's process about keys that stay there (`keys.held`).

Nothing else is imported here: every worker imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: {number: identity}: in the job's process, those that workers were told of.
HOME: dict[int, Any] = {}
#: In a worker: asks the job's process.
ask: Callable[[Any], Any] | None = None


class Question:
    """To open a stanza."""

    __slots__ = ("binding", "number", "stanza")

    def __init__(self, number: int, stanza: Any, binding: bytes) -> None:
        self.number, self.stanza, self.binding = number, stanza, binding

    def __reduce__(self):
        return Question, (self.number, self.stanza, self.binding)

    def answer(self) -> bytes | None:
        """In the job's process; raises TokenError."""
        return HOME[self.number].unwrap(self.stanza, self.binding)
