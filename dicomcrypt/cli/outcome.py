"""One file's outcome in the form in which a tree gives its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import DicomcryptError

if TYPE_CHECKING:
    from ..trees.jobs import Outcome


def single(path: str, work: Callable[[], Outcome]) -> Iterator[Outcome]:
    """Yield what became of one file."""
    from ..objects.files import describe_failure
    from ..trees.jobs import Outcome

    try:
        yield work()
    except (DicomcryptError, OSError) as error:
        status = error.exit_status if isinstance(error, DicomcryptError) else 1
        yield Outcome(path, "failed", message=describe_failure(error), exit_status=status)
