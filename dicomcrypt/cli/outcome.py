"""One file's outcome in the form in which a tree gives its own, and the status of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import DicomcryptError

if TYPE_CHECKING:
    from ..trees.pool import Outcome


def single(path: str, work: Callable[[], Outcome]) -> Iterator[Outcome]:
    """Yield what became of one file."""
    from ..trees.job import failed

    try:
        yield work()
    except (DicomcryptError, OSError) as error:
        yield failed(path, error)


def exit_status(causes: Sequence[int]) -> int:
    """The exit status of a job with these failures: 0, their common one, or 1."""
    found = set(causes)
    if not found:
        return 0
    return found.pop() if len(found) == 1 else 1
