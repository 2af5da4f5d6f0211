"""The connection to a Dask scheduler, and what may be sent over it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DicomcryptError, MissingExtraError, PolicyError, UsageError, WorkerLostError
from ..objects.files import describe_failure
from . import work

if TYPE_CHECKING:
    from distributed import Client, Security

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
        name, _, port = host.rpartition(":")
        if scheme not in ("tcp", "tls") or not name or not (
            port.isascii() and port.isdecimal() and 0 < int(port) < 65536
        ):
            raise UsageError(f"--scheduler {place.address!r}: give tcp://HOST:PORT or "
                             "tls://HOST:PORT")
        if scheme == "tcp" and any(path is not None for path in place[1:]):
            raise UsageError("certificates are for a scheduler at tls://HOST:PORT")
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "the engine dask needs distributed: pip install 'dicomcrypt[dask]'"
            ) from None
        security = _security(place) if scheme == "tls" else None
        # What matters of it is said here, in this program's words.
        for name in list(logging.root.manager.loggerDict):
            if name.split(".")[0] == "distributed":
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            self.client = _connect(self.address, security)
        except Exception as error:
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


def _security(place: Place) -> Security:
    """Return what a connection to tls:// is secured by. Raises UsageError if it cannot be."""
    from distributed import Security

    files = {"tls_ca_file": place.ca, "tls_client_cert": place.certificate,
             "tls_client_key": place.key}
    given = {name: path for name, path in files.items() if path is not None}
    for path in given.values():
        if not os.path.isfile(path):
            raise UsageError(f"{path!r} is no file")
    found = Security(require_encryption=True, **given)
    where = "--dask-ca, --dask-cert and --dask-key, or Dask's configuration"
    try:
        if place.ca is not None:
            where = f"--dask-ca {place.ca!r}"
            ssl.create_default_context(cafile=place.ca)
            where = "--dask-cert and --dask-key, or Dask's configuration"
        context = found.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        reason = describe_failure(error)
        if isinstance(error, ssl.SSLError):  # whose own words tell of lines in C
            reason = (error.reason or "").replace("_", " ").lower() or "no PEM"
        raise UsageError(
            f"{where}: what is there cannot be used ({reason}): --dask-ca is the "
            "certificate of the cluster's authority, --dask-cert this machine's, --dask-key its "
            "private key, all of them PEM"
        ) from None
    if context is None:
        raise UsageError("a scheduler at tls:// needs --dask-ca, --dask-cert and --dask-key, "
                         "unless Dask's configuration names such files")
    return found


def _connect(address: str, security: Security | None) -> Client:
    """Return a connection; raises what sockets, TLS and Dask's protocol raise."""
    from distributed import Client

    class Connected(Client):
        """One that did not come about has nothing to close, but would try that for half a minute
        when it is thrown away. What is no scheduler may be silent for ever."""

        def start(self, **more: Any) -> None:
            try:
                super().start(callback_timeout=PATIENCE + 1, **more)  # type: ignore[no-untyped-call]
            except BaseException:
                self.status = "closed"
                raise

    made: Callable[..., Client] = Connected
    return made(address, security=security, timeout=PATIENCE, set_as_default=False)


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
