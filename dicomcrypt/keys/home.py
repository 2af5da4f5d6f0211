"""What a worker asks the job's process about keys that stay there (`keys.held`).

Nothing else is imported here: every worker imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Holder(Protocol):
    """An identity or signer whose key stays; answers with the arguments of a `Question`."""

    @property
    def answer(self) -> Callable[..., bytes | None]: ...


#: {number: holder}: in the job's process, those that workers were told of.
HOME: dict[int, Holder] = {}
#: In a worker: asks the job's process.
ask: Callable[[Question], bytes | None] | None = None


class Question:
    """To use a key that stays: what `answer` of its holder takes."""

    __slots__ = ("arguments", "number")

    def __init__(self, number: int, *arguments: Any) -> None:
        self.number, self.arguments = number, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return Question, (self.number, *self.arguments)

    def answer(self) -> bytes | None:
        """In the job's process; raises TokenError."""
        return HOME[self.number].answer(*self.arguments)
