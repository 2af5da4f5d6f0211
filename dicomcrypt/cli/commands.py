"""The commands on keys, objects and trees. Work is imported when a command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..errors import DicomcryptError, UsageError
from . import options as opt


@click.command(epilog="""\b
Examples:
  dicomcrypt keygen -o doctor.key
  dicomcrypt keygen -o doctor.key -p              sealed with a passphrase
  dicomcrypt keygen --type x25519 -o old.key      classical, not post-quantum
""")
@click.option("-o", "--output", required=True, metavar="NAME.key",
              help="Where the identity goes; the recipient goes to NAME.pub.")
@click.option("--type", "kind", type=click.Choice(["mlkem768-x25519", "x25519"]),
              default="mlkem768-x25519", show_default=True, help="Kind of key.")
@opt.passphrase
@opt.force
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def keygen(output, kind, ask, passphrase_file, force, as_json):
    """Make a key pair: a secret identity and a public recipient.

    Keep a copy of the identity in a safe place: without it, what was encrypted to it is lost.
    """
    from .. import api
    from ..keys import keyfile
    from ..keys.passphrase import Passphrase
    from ..objects.files import AtomicFile, default_mode
    from .console import print_json

    public = Path(output).with_suffix(".pub")
    if public == Path(output):
        raise UsageError("the identity's name must not end in .pub")
    passphrase = opt.read_passphrase(ask, passphrase_file, confirm=True)
    identity = keyfile.ALGORITHMS[kind].generate()
    secret = keyfile.identity_text(identity).encode()
    if passphrase is not None:
        secret = api.encrypt(secret, [Passphrase(passphrase)])
    with AtomicFile(public, force=force) as file:
        keyfile.write_private(output, secret, force=force)
        file.raw.write(keyfile.recipient_text(identity.recipient).encode())
        file.commit(mode=default_mode())
    facts = {"identity": output, "recipient": str(public), "type": kind,
             "hint": identity.recipient.hint.hex(), "sealed": passphrase is not None}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"identity:  {output} (secret, keep a copy in a safe place)\n"
                   f"recipient: {public} (public, hint {facts['hint']})", err=True)


# ---- encrypt and decrypt --------------------------------------------------


def _targets(inputs, output, default_name, verb) -> list[tuple[str, str]]:
    """Pair each input with its output: beside it, under the given name, or in the folder."""
    if len(inputs) == 1:
        only = inputs[0]
        if output is None:
            if only == "-":
                return [("-", "-")]
            if os.path.isdir(only):
                raise UsageError(f"to {verb} a folder, give --output FOLDER")
            return [(only, default_name(only))]
        into = os.path.isdir(output) and only != "-" and not os.path.isdir(only)
        if into:
            return [(only, os.path.join(output, os.path.basename(default_name(only))))]
        return [(only, output)]
    if "-" in inputs:
        raise UsageError("standard input cannot be one of several inputs")
    if output is None:
        return [(path, default_name(path)) for path in inputs]
    names = [os.path.basename(default_name(os.path.normpath(path))) for path in inputs]
    names = [os.path.basename(os.path.normpath(path)) if os.path.isdir(path) else name
             for path, name in zip(inputs, names, strict=True)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"several inputs are named {min(twice)!r}: encrypt their folder instead")
    os.makedirs(output, exist_ok=True)
    return [(path, os.path.join(output, name)) for path, name in zip(inputs, names, strict=True)]


def _finish(report) -> None:
    sys.exit(report.exit_status())


def _single(path: str, work) -> Iterator:
    """One file's outcome, in the form in which a tree gives its own."""
    from ..objects.files import describe_failure
    from ..trees.jobs import Outcome

    try:
        yield work()
    except (DicomcryptError, OSError) as error:
        status = error.exit_status if isinstance(error, DicomcryptError) else 1
        yield Outcome(path, "failed", message=describe_failure(error), exit_status=status)


@click.command(epilog="""\b
Examples:
  dicomcrypt encrypt ct.dcm -r doctor.pub                      makes ct.dcm.dcmx
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/           a whole tree
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/ --names encrypted
  dicomcrypt encrypt ct.dcm -p                                 with a passphrase
  dicomcrypt encrypt us.dcm -r doctor.pub --tags-to index.pub --pixels-to study.pub
  cat ct.dcm | dicomcrypt encrypt - -r doctor.pub > ct.dcmx
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@click.option("-r", "--recipient", "recipients", multiple=True, metavar="FILE",
              help="Recipient (public key) file; repeatable.")
@click.option("--tags-to", multiple=True, metavar="FILE", help="Who may read the tags only.")
@click.option("--pixels-to", multiple=True, metavar="FILE",
              help="Who may read the pixel data only.")
@opt.passphrase
@click.option("-o", "--output", metavar="FILE|FOLDER|-",
              help="Where it goes; by default beside the input, with .dcmx added.")
@click.option("--method", type=click.Choice(opt.METHODS), default="randomized",
              show_default=True, help="Block layer below the authenticated encryption.")
@click.option("--names", type=click.Choice(["keep", "encrypted"]), default="keep",
              show_default=True,
              help="File and folder names of a tree. Names may tell patients.")
@click.option("--links", type=click.Choice(["keep", "follow", "skip"]), default="keep",
              show_default=True, help="Symbolic links in a tree.")
@click.option("--resume", is_flag=True, help="Leave out what was encrypted before.")
@click.option("--force-scopes", is_flag=True,
              help="Give --tags-to and --pixels-to also files of which they can read nothing.")
@opt.kdf
@opt.classical
@opt.jobs
@opt.force
@opt.output_style
def encrypt(inputs, recipients, tags_to, pixels_to, ask, passphrase_file, output, method, names,
            links, resume, force_scopes, kdf, allow_classical, allow_mixed, jobs, force,
            as_json, quiet, verbose):
    """Encrypt files, or whole folders.

    Any file is taken, DICOM or not. Originals stay as they are. Files that are DCMX objects
    already are skipped and named.
    """
    from ..ciphers.transform import method_number
    from ..keys.batch import Envelope, scoped_recipients
    from ..keys.passphrase import Passphrase
    from ..objects.files import SUFFIX, encrypt_path
    from ..trees.jobs import Outcome, default_jobs
    from ..trees.tree import EncryptOptions, _is_object, encrypt_tree
    from .console import Report

    everybody = opt.load_recipient_files(recipients)
    passphrase = opt.read_passphrase(ask, passphrase_file, confirm=True)
    if passphrase is not None:
        everybody.append(Passphrase(passphrase, kdf=kdf))
    targets = _targets(inputs, output, lambda path: path + SUFFIX, "encrypt")
    whole_tree = len(targets) > 1 or os.path.isdir(targets[0][0])
    envelope = Envelope(
        scoped_recipients(everybody, opt.load_recipient_files(tags_to),
                          opt.load_recipient_files(pixels_to)),
        batch=whole_tree, allow_classical=allow_classical, allow_mixed=allow_mixed,
    )  # fmt: skip
    number = method_number(method)
    if targets[0] == ("-", "-") or "-" in targets[0]:
        return _encrypt_stream(*targets[0], envelope, number, force)
    settings = EncryptOptions(number, names, links, force, resume, force_scopes)

    def one(source: str, target: str) -> Outcome:
        if _is_object(os.fsencode(source)):
            return Outcome(source, "skipped", message="a DCMX object already")
        if resume and os.path.lexists(target):
            return Outcome(source, "skipped", message="encrypted before")
        base = os.path.basename(source)
        name = None if os.path.basename(target) == base + SUFFIX else os.fsencode(base)
        read, size = encrypt_path(source, target, envelope, number, name=name, force=force,
                                  force_scopes=force_scopes)
        return Outcome(source, "done", target, read, size)

    with Report("encrypt", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for source, target in targets:
            if os.path.isdir(source):
                outcomes = encrypt_tree(source, target, envelope, settings,
                                        jobs or default_jobs())
            else:
                outcomes = _single(source, lambda s=source, t=target: one(s, t))
            for outcome in outcomes:
                report.add(outcome)
    _finish(report)


def _encrypt_stream(source, target, envelope, method, force):
    """A pipe on one side or both: one pass, bounded memory."""
    from ..objects.buffers import FileSink
    from ..objects.encoder import Encoder, encode_stream
    from ..objects.files import AtomicFile

    def pump(read_into, file) -> None:
        sink = FileSink(file)
        encode_stream(Encoder(sink, envelope.new(), method), read_into, bytearray())
        sink.flush()

    reading = sys.stdin.buffer.raw if source == "-" else open(source, "rb", buffering=0)
    with reading:
        if target == "-":
            _refuse_terminal()
            pump(reading.readinto, sys.stdout.buffer.raw)
        else:
            with AtomicFile(target, force=force) as out:
                pump(reading.readinto, out.raw)
                out.commit()


def _refuse_terminal() -> None:
    if sys.stdout.isatty():
        raise UsageError("this would put binary data on the terminal: give --output FILE")


@click.command(epilog="""\b
Examples:
  dicomcrypt decrypt ct.dcm.dcmx -i doctor.key -o ct.dcm
  dicomcrypt decrypt safe/ -i doctor.key -o back/       names, modes and times come back
  dicomcrypt decrypt ct.dcm.dcmx -i doctor.key -o - | dcmdump -
  dicomcrypt decrypt ct.dcm.dcmx -i index.key --part tags -o ct.tags
  dicomcrypt decrypt bad.dcmx -i doctor.key --salvage -o rescued.dcm
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@opt.identity
@click.option("-o", "--output", metavar="FILE|FOLDER|-",
              help="Where it goes; by default beside the input, without .dcmx.")
@click.option("--part", type=click.Choice(["all", "tags", "pixels"]), default="all",
              show_default=True, help="For identities that open only that.")
@click.option("--salvage", is_flag=True,
              help="Rescue what authenticates in a damaged object; zeros for the rest.")
@click.option("--unsafe-links", is_flag=True, help="Restore links that point out of the tree.")
@click.option("--resume", is_flag=True, help="Leave out what was decrypted before.")
@opt.jobs
@opt.force
@opt.output_style
def decrypt(inputs, identity_files, ask, passphrase_file, output, part, salvage, unsafe_links,
            resume, jobs, force, as_json, quiet, verbose):
    """Decrypt objects, or whole folders of them.

    A file appears under its name when its last byte was verified, or not at all.
    """
    from ..objects.files import SUFFIX
    from ..trees.jobs import Outcome, default_jobs
    from ..trees.tree import DecryptOptions, decrypt_tree
    from .console import Report

    identities = opt.load_identity_files(identity_files, ask, passphrase_file)

    def default_name(path: str) -> str:
        if not path.endswith(SUFFIX):
            raise UsageError(f"{path!r} does not end in {SUFFIX}: give --output")
        return path[: -len(SUFFIX)]

    targets = _targets(inputs, output, default_name, "decrypt")
    if salvage:
        if len(targets) > 1 or output is None or "-" in targets[0] or os.path.isdir(inputs[0]):
            raise UsageError("--salvage takes one object and --output FILE")
        return _salvage(*targets[0], identities, force, as_json, quiet)
    if "-" in targets[0]:
        return _decrypt_stream(*targets[0], identities, part, force)
    settings = DecryptOptions(part, force, resume, unsafe_links)

    def one(source: str, target: str) -> Outcome:
        from ..objects.files import decrypt_path

        if resume and os.path.lexists(target):
            return Outcome(source, "skipped", message="decrypted before")
        size = decrypt_path(source, target, identities, part=part, force=force)
        return Outcome(source, "done", target, os.path.getsize(source), size)

    with Report("decrypt", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for source, target in targets:
            if os.path.isdir(source):
                outcomes = decrypt_tree(source, target, identities, settings,
                                        jobs or default_jobs())
            else:
                outcomes = _single(source, lambda s=source, t=target: one(s, t))
            for outcome in outcomes:
                report.add(outcome)
    _finish(report)


def _spool(file):
    """Ciphertext from a pipe into a nameless file: its indexes are at its end."""
    import shutil
    import tempfile

    spooled = tempfile.TemporaryFile()
    shutil.copyfileobj(file, spooled, 1 << 20)
    return spooled


def _decrypt_stream(source, target, identities, part, force):
    from ..container.reader import Container
    from ..objects.buffers import FileSource, StreamSource
    from ..objects.decoder import PARTS, FileOutput, decode
    from ..objects.files import write_plain

    if target == "-":
        _refuse_terminal()
    where = StreamSource(_spool(sys.stdin.buffer)) if source == "-" else FileSource(source)
    opened = Container(where).unlock(identities)
    if target != "-":
        write_plain(opened, target, part=part, force=force)
        return
    streams = None if part == "all" else PARTS[part]
    if streams is None:
        opened.require(opened.streams, "the whole file")
    decode(opened, FileOutput(sys.stdout.buffer.raw), bytearray(), streams)


def _salvage(source, target, identities, force, as_json, quiet):
    from ..objects.salvage import salvage_path
    from .console import complain, print_json

    report = salvage_path(source, target, identities, force=force)
    if as_json:
        print_json(report)
    elif not quiet:
        for entry in report["streams"]:
            click.echo(f"{entry['stream']}: {entry['state']}", err=True)
        for entry in report["lost"]:
            click.echo(f"lost: {entry['stream']} bytes {entry['start']} to {entry['end']}",
                       err=True)
    whole = not report["lost"] and not {"header", "index"} & set(report)
    if not whole:
        complain(f"{source!r} is damaged: {report['lost_bytes']} of {report['bytes']} bytes in "
                 f"{target!r} are lost, and zero")
        sys.exit(4)


# ---- verify, inspect, frame, rewrap ----------------------------------------


@click.command(epilog="""\b
Examples:
  dicomcrypt verify safe/ -i doctor.key
  dicomcrypt verify ct.dcm.dcmx -i doctor.key --json
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.identity
@opt.jobs
@opt.output_style
def verify(inputs, identity_files, ask, passphrase_file, jobs, as_json, quiet, verbose):
    """Authenticate every byte of objects without writing anything."""
    from ..objects.files import verify_path
    from ..trees.jobs import Outcome, default_jobs
    from ..trees.tree import verify_tree
    from .console import Report

    identities = opt.load_identity_files(identity_files, ask, passphrase_file)

    def one(path: str) -> Outcome:
        size, whole = verify_path(path, identities)
        return Outcome(path, "done", bytes_in=os.path.getsize(path), bytes_out=size,
                       message="" if whole else "only the identity's scope was verified")

    with Report("verify", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for path in inputs:
            if os.path.isdir(path):
                outcomes = verify_tree(path, identities, jobs or default_jobs())
            else:
                outcomes = _single(path, lambda p=path: one(p))
            for outcome in outcomes:
                report.add(outcome)
    _finish(report)


@click.command(epilog="""\b
Examples:
  dicomcrypt inspect ct.dcm.dcmx                     what anybody can see
  dicomcrypt inspect ct.dcm.dcmx -i doctor.key       tags, frames, method map
  dicomcrypt inspect ct.dcm.dcmx -i doctor.key --tags
""")
@click.argument("path", metavar="FILE")
@opt.identity
@click.option("--tags", is_flag=True, help="All data elements instead of the identifying ones.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def inspect(path, identity_files, ask, passphrase_file, tags, as_json):
    """Say what can be said of an object, without a key and with one.

    Without a key nothing is authenticated yet: version, suite, sizes, recipients.
    """
    from .. import api
    from .look import show_inspection, tag_rows

    identities = []
    if identity_files or ask or passphrase_file is not None:
        identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    facts = api.inspect(path, identities)
    if tags:
        if not identities:
            raise UsageError("--tags needs an identity")
        with api.open(path, identities) as obj:
            facts["opened"]["elements"] = tag_rows(obj.dataset)
    show_inspection(path, facts, as_json)


@click.command(epilog="""\b
Examples:
  dicomcrypt frame us.dcm.dcmx -n 3 -i doctor.key -o frame.png
  dicomcrypt frame us.dcm.dcmx -n 3 -i doctor.key -o frame.npy
""")
@click.argument("path", metavar="FILE")
@click.option("-n", "--number", type=click.IntRange(0), default=0, show_default=True,
              help="Which frame, from 0 on.")
@opt.identity
@click.option("-o", "--output", required=True, metavar="X.png|.bmp|.raw|.npy",
              help="The picture; .raw is the frame as encoded, .npy the decoded array.")
@opt.force
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def frame(path, number, identity_files, ask, passphrase_file, output, force, as_json):
    """Take one frame out: only what holds it is read and decrypted."""
    from ..container.reader import Container
    from ..objects.buffers import FileSource
    from ..objects.files import AtomicFile, default_mode
    from ..objects.frames import FORMATS, write_frame
    from ..objects.opened import OpenedObject
    from .console import print_json

    if Path(output).suffix.lower() not in FORMATS:
        raise UsageError(f"the picture's name must end in one of {', '.join(FORMATS)}")
    identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    source = FileSource(path)
    with OpenedObject(Container(source).unlock(identities), source.close) as obj:
        with AtomicFile(output, force=force) as out:
            write_frame(obj, number, output, out.raw)
            out.commit(mode=default_mode())
        facts = {"frame": number, "frames": obj.frame_count, "output": output,
                 "bytes_read": source.bytes_read, "object_bytes": source.size()}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"frame {number} of {facts['frames']} -> {output} "
                   f"({facts['bytes_read']} of {facts['object_bytes']} bytes read)", err=True)


@click.command(epilog="""\b
Examples:
  dicomcrypt rewrap ct.dcm.dcmx -i doctor.key --add colleague.pub
  dicomcrypt rewrap ct.dcm.dcmx -i doctor.key --remove former.pub --add colleague.pub
  dicomcrypt rewrap safe/ -i doctor.key --remove 0123456789abcdef --keep-key

\b
Removing encrypts the object anew under a new key, because whoever is removed knew the old
one; so --add must name everybody else who stays. --keep-key only drops the entry in the
header: it takes nothing from somebody who kept the key, or an old copy of the file.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.identity
@click.option("--add", multiple=True, metavar="FILE", help="Recipient file to add; repeatable.")
@click.option("--remove", multiple=True, metavar="FILE|HINT",
              help="Recipient file or hint (16 hexadecimal digits) to remove; repeatable.")
@click.option("--keep-key", is_flag=True, help="Remove without encrypting anew (see below).")
@opt.classical
@opt.output_style
def rewrap(inputs, identity_files, ask, passphrase_file, add, remove, keep_key, allow_classical,
           allow_mixed, as_json, quiet, verbose):
    """Change who may open objects. Adding rewrites the header in place."""
    from .. import api
    from ..trees.jobs import Outcome
    from ..trees.tree import _entries, _is_object
    from .console import Report

    identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    adding = opt.load_recipient_files(add)
    removing = []
    for entry in remove:
        if len(entry) == 16 and not os.path.exists(entry):
            try:
                removing.append(bytes.fromhex(entry))
                continue
            except ValueError:
                pass
        removing += opt.load_recipient_files((entry,))

    def one(path: str) -> Outcome:
        done = api.rewrap(path, identities, add=adding, remove=removing, keep_key=keep_key,
                          allow_classical=allow_classical, allow_mixed=allow_mixed)
        size = os.path.getsize(path)
        return Outcome(path, "done", bytes_in=size, bytes_out=size,
                       message="encrypted anew" if removing and not keep_key else "header only",
                       details={"rewritten": done["rewritten"]})

    def paths() -> Iterator[str]:
        for given in inputs:
            if not os.path.isdir(given):
                yield given
                continue
            for entry in _entries(given, None):
                full = os.path.join(os.fsencode(given), entry.relative)
                if entry.kind == "file" and _is_object(full):
                    yield os.fsdecode(full)

    with Report("rewrap", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        for path in paths():
            for outcome in _single(path, lambda p=path: one(p)):
                report.add(outcome)
    _finish(report)
