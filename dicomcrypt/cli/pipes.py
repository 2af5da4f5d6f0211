"""Objects through standard input and output."""

from __future__ import annotations

import sys
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO

from ..errors import UsageError
from ..regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..container.stanza import Identity
    from ..keys.batch import Envelope
    from ..keys.signing import Signer
    from ..objects.signing import SignaturePolicy


def standard_input() -> FileIO:
    """Standard input as unbuffered bytes, whatever Python made of it."""
    if sys.stdin is None:
        raise UsageError("standard input is closed: give a file")
    return open(0, "rb", buffering=0, closefd=False)


def standard_output() -> FileIO:
    """Standard output as unbuffered bytes; refuses a terminal."""
    if sys.stdout is None:
        raise UsageError("standard output is closed: give --output FILE")
    if sys.stdout.isatty():
        raise UsageError("this would put binary data on the terminal: give --output FILE")
    return open(1, "wb", buffering=0, closefd=False)


def encrypt_pipe(
    source: str, target: str, envelope: Envelope, method: int | None, *, force: bool,
    force_scopes: bool, signer: Signer | None = None,
) -> None:
    """A pipe on one side or both: one pass, bounded memory."""
    from ..objects.atomic import AtomicFile
    from ..objects.buffers import FileSink
    from ..objects.drivers import encode_stream
    from ..objects.encoder import Encoder
    from ..objects.files import scope_check

    refuse = scope_check(envelope, force_scopes, repr(source))

    def pump(file: BinaryIO) -> None:
        sink = FileSink(file)
        encoder = Encoder(sink, envelope.material(), method, opaque_allowed=refuse,
                          sign=None if signer is None else signer.sign)
        encode_stream(encoder, reading.readinto, bytearray())
        sink.flush()

    with standard_input() if source == "-" else open(
        open_regular(source), "rb", buffering=0
    ) as reading:
        if target == "-":
            pump(standard_output())
        else:
            with AtomicFile(target, force=force) as out:
                pump(out.raw)
                out.commit()


def _spool(file: BinaryIO) -> BinaryIO:
    """Ciphertext from a pipe in a nameless file: its indexes are at its end."""
    import shutil
    import tempfile

    spooled = tempfile.TemporaryFile()
    shutil.copyfileobj(file, spooled, 1 << 20)
    return spooled


def decrypt_pipe(
    source: str, target: str, identities: Sequence[Identity], part: str, policy: SignaturePolicy,
    *, force: bool,
) -> None:
    """To standard output chunks go as they are authenticated; a later failure is told by
    the exit status. A signature is verified before the first one goes, and each piece of what was
    signed before a byte of it goes: what comes from a pipe is in a file of its own by then."""
    from ..container.reader import Container
    from ..objects.buffers import FileSource, StreamSource
    from ..objects.decoder import PARTS, FileOutput, decode
    from ..objects.files import write_plain
    from ..objects.signing import unlock

    out = standard_output() if target == "-" else None
    where = StreamSource(_spool(standard_input())) if source == "-" else FileSource(source)
    opened = unlock(Container(where), identities, policy=policy)
    if out is None:
        write_plain(opened, target, part=part, force=force)
        return
    streams = None if part == "all" else PARTS[part]
    if streams is None:
        opened.require(opened.streams, "the whole file")
    decode(opened, FileOutput(out), bytearray(), streams)
