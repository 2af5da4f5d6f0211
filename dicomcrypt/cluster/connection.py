"""The connection to a Dask scheduler, and what may be sent over it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
from typing import Any, NamedTuple

from ..errors import DicomcryptError, MissingExtraError, PolicyError, UsageError, WorkerLostError
from . import work

#: Seconds in which a scheduler must answer.
PATIENCE = 15


class Place(NamedTuple):
    """Where a cluster is. address: tcp://HOST:PORT or tls://HOST:PORT; the files, PEM, are for tls;
    without them Dask's own configuration names them (`distributed.comm.tls`)."""

    address: str
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class Cluster:
    """A Dask cluster; a context manager. `client`: distributed.Client.

    Raises UsageError, MissingExtraError, DicomcryptError if no scheduler answers."""

    def __init__(self, place: Place) -> None:
        self.address = place.address
        scheme, _, host = place.address.partition("://")
        if scheme not in ("tcp", "tls") or not host:
            raise UsageError(f"--scheduler {place.address!r}: give tcp://HOST:PORT or "
                             "tls://HOST:PORT")
        try:
            from distributed import Client, Security
        except ImportError:
            raise MissingExtraError(
                "the engine dask needs distributed: pip install 'dicomcrypt[dask]'"
            ) from None
        files = {"tls_ca_file": place.ca, "tls_client_cert": place.certificate,
                 "tls_client_key": place.key}
        given = {name: path for name, path in files.items() if path is not None}
        if scheme == "tcp" and given:
            raise UsageError("certificates are for a scheduler at tls://HOST:PORT")
        for path in given.values():
            if not os.path.isfile(path):
                raise UsageError(f"{path!r} is no file")
        # What matters of it is said here, in this program's words.
        for name in list(logging.root.manager.loggerDict):
            if name.split(".")[0] == "distributed":
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            security = Security(require_encryption=True, **given) if scheme == "tls" else None
            self.client = Client(self.address, security=security, timeout=PATIENCE,
                                 set_as_default=False)
        except Exception as error:  # of sockets, of TLS, of Dask's protocol
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DicomcryptError(
                f"no Dask scheduler answers at {self.address!r} ({reason}): is it running, and are "
                "its certificates meant for it?"
            ) from None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)

    @property
    def slots(self) -> int:
        """How many tasks run at once: the threads of all workers. Raises WorkerLostError."""
        found: int = sum(self.client.nthreads().values())
        if not found:
            raise WorkerLostError(f"the cluster at {self.address!r} has no workers: start some "
                                  "with `dask worker`")
        return found

    def check_private(self, in_clear: bool) -> None:
        """Raise PolicyError unless what is sent can be read by the cluster's own processes only.

        in_clear: the caller knows that it can be, and wants that. Workers reach the scheduler by
        the addresses at which it listens: each of them is asked for."""
        if in_clear:
            return
        try:
            addresses = self.client.run_on_scheduler(work.listening)
        except Exception as error:  # whatever it is that the scheduler lacks
            raise DicomcryptError(
                f"the scheduler does not say where it listens ({type(error).__name__}): has it the "
                "same dicomcrypt as this machine?"
            ) from None
        for address in addresses:
            if not address.startswith("tls://") and not is_loopback(address):
                raise PolicyError(
                    f"keys would travel in clear: the scheduler listens at {address!r}; use "
                    "tls://, or let the workers read a key of their own (--worker-identity), or "
                    "give --secrets-in-clear if nobody else is on that network"
                )


def is_loopback(address: str) -> bool:
    """Whether an address of Dask's is one that only this machine reaches."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def result_of(future: Any) -> Any:
    """Return what a task that has ended gives; raises what it ended with, in our words."""
    status = future.status
    if status == "finished":
        return future.result()
    if status == "cancelled":
        raise WorkerLostError("the scheduler was lost: the same command goes on where it stopped")
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        raise WorkerLostError("workers died again and again over the same part (out of memory?): "
                              "the same command goes on where it stopped")
    if isinstance(error, DicomcryptError):
        raise error
    raise DicomcryptError(f"a worker cannot do its part ({type(error).__name__}): has it the same "
                          "dicomcrypt as this machine?")
