"""One directory is asked, and its answer judged; `directory` asks several side by side."""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import directory_queries as queries
from . import ldap_client as ldap

if TYPE_CHECKING:
    import ssl

    from cryptography import x509

    from .directory import Directory

#: Raises DicomcryptError for a certificate that is not wanted.
Check = Callable[["x509.Certificate"], Any]


@dataclasses.dataclass
class Answer:
    """What became of asking one directory.

    state: found, nothing, rejected (nothing of its answer was good), or that of an LdapFailure:
    down, slow, tls, refused (by the server), garbage, "too much"; sentence: the same for people;
    seconds: how long it took; found: parsed values; age: seconds since a kept answer came, None
    for a fresh one.
    """

    directory: Directory
    state: str
    sentence: str
    seconds: float = 0.0
    found: list[Any] = dataclasses.field(default_factory=list)
    age: float | None = None

    @property
    def answered(self) -> bool:
        """Whether it said something about what was asked, if only that there is nothing."""
        return self.state in ("found", "nothing", "rejected")


def run(
    results: queue.SimpleQueue[tuple[Directory, Any]], directory: Directory, query: queries.Query,
    context: ssl.SSLContext | None, check: Check | None, allow_stale: bool, deadline: float,
) -> None:
    """Ask one directory in a thread of its own; what is nobody's fault but the program's is
    raised where the answers are collected."""
    started = time.monotonic()
    result: Any
    try:
        result = ask(directory, query, context, deadline, check, allow_stale)
        result[0].seconds = time.monotonic() - started
    except ldap.LdapFailure as error:
        answer = Answer(directory, error.state, str(error), time.monotonic() - started)
        result = answer, []
    except Exception as error:
        result = error
    results.put((directory, result))


def ask(
    directory: Directory, query: queries.Query, context: ssl.SSLContext | None, deadline: float,
    check: Check | None = None, allow_stale: bool = False,
) -> tuple[Answer, list[bytes]]:
    """Ask one directory; returns its answer and the values in DER. Raises LdapFailure."""
    answer, fitting = Answer(directory, "nothing", "has none"), list[bytes]()
    limit = queries.ANSWER_BYTES[query.kind]
    for number, wanted_filter in enumerate(query.filters, 1):
        with directory.connect(deadline, limit, context) as connection:
            values: list[bytes] = []
            try:
                for _, attributes in connection.search(
                    directory.base, wanted_filter, query.attributes, most=queries.MOST_ENTRIES
                ):
                    for name in query.attributes:
                        values += attributes.get(name.lower(), [])
                    if len(values) > queries.MOST_VALUES:
                        raise ldap.LdapFailure("too much", "answers with more than "
                                               f"{queries.MOST_VALUES} values")
            except ldap.LdapFailure as error:
                if number < len(query.filters) and error.state == "refused":
                    continue  # it does not know this way to ask
                raise
        whole = number < len(query.filters) or wanted_filter[0] != "present"
        answer, fitting = judge(directory, query, values, check, allow_stale, strict=whole)
        if fitting:
            break
    return answer, fitting


def judge(
    directory: Directory, query: queries.Query, values: Sequence[bytes], check: Check | None,
    allow_stale: bool, *, age: float | None = None, strict: bool = True,
) -> tuple[Answer, list[bytes]]:
    """Judge the values of an answer; returns it and the values that fit. strict: all of them
    should have, since the server was asked for nothing else."""
    found, refused, fitting = queries.sift(query, values, check, allow_stale)
    if not strict:
        refused.pop(query.other, None)
    parts = []
    if found:
        parts.append(f"has {len(found)}")
    if refused:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(refused.items()))
        parts.append(f"refused: {reasons}")
    if age is not None:
        parts.append(f"kept for {_age(age)}")
    state = "found" if found else "rejected" if refused else "nothing"
    if state == "nothing":
        parts.insert(0, "has none")
    return Answer(directory, state, ", ".join(parts), 0.0, found, age), fitting


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
