"""`dicomcrypt verify`, `inspect`, `frame` and `rewrap`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import auditing, cluster, outputs
from . import options as opt
from .figures import figure_place
from .outcome import single

if TYPE_CHECKING:
    from ..container.stanza import Identity, Recipient
    from ..trees.pool import Outcome
    from .console import Report


@click.command(epilog="""\b
Examples:
  dicomcrypt verify safe/ -i doctor.key
  dicomcrypt verify ct.dcm.dcmx -i doctor.key --json
  dicomcrypt verify safe/ -i doctor.key --signer hospital.pem
  dicomcrypt verify safe/ --worker-identity /keys/doctor.key --engine dask \\
      --scheduler tcp://head:8786
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.identity
@opt.signatures
@opt.jobs
@opt.shard
@opt.engine
@opt.shards
@opt.worker_identity
@opt.output_style
def verify(
    inputs: tuple[str, ...], identity_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, require_signature: bool, signers: tuple[str, ...],
    jobs: int | None, shard: tuple[int, int] | None, as_json: bool, quiet: bool, verbose: bool,
) -> None:
    """Authenticate every byte of objects without writing anything.

    --json says who signed each of them.
    """
    from ..cluster.jobs import VerifyShards
    from ..objects.files import verify_path
    from ..objects.signing import verified_note
    from ..trees.inplace import verify_tree
    from ..trees.pool import Outcome, default_jobs
    from .console import Report

    remote = cluster.wanted(inputs, jobs=jobs, shard=shard)
    if remote:
        keys = cluster.load_keys(identity_files, ask, passphrase_file)
    else:
        identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    policy = opt.load_signature_policy(require_signature, signers)

    def one(path: str) -> Outcome:
        size, whole, signature = verify_path(path, identities, progress=report.follow(path),
                                             policy=policy)
        return Outcome(path, "done", bytes_in=os.path.getsize(path), bytes_out=size,
                       message=verified_note(whole, signature),
                       details={"signature": signature} if signature else None)

    with Report("verify", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        if remote:
            cluster.run_trees(report, [VerifyShards(os.path.abspath(path), keys, policy)
                                       for path in inputs])
        else:
            _each(report, inputs, one, functools.partial(
                verify_tree, identities=identities, jobs=jobs or default_jobs(), shard=shard,
                watch=report.watch, policy=policy))
    sys.exit(report.exit_status(expect_some=True))


@click.command(epilog="""\b
Examples:
  dicomcrypt inspect ct.dcm.dcmx                     what anybody can see
  dicomcrypt inspect ct.dcm.dcmx -i doctor.key       tags, frames, method map
  dicomcrypt inspect ct.dcm.dcmx -i doctor.key --tags
  dicomcrypt inspect us.dcm.dcmx -i doctor.key --plot map.png -n 3
  dicomcrypt inspect ct.dcm.dcmx -i doctor.key --signature-out s.p7s --manifest-out m.bin
  openssl cms -verify -binary -inform DER -in s.p7s -content m.bin -CAfile ca.pem -purpose any
""")
@click.argument("path", metavar="FILE")
@opt.identity
@click.option("--tags", is_flag=True, help="All data elements instead of the identifying ones.")
@click.option("--plot", metavar="X.png",
              help="Draw a frame with the method of each of its blocks. It shows the image.")
@click.option("-n", "--number", type=click.IntRange(0), help="Which frame --plot draws, from 0 on.")
@click.option("--signature-out", metavar="FILE", help="Write the signature (CMS, DER) here.")
@click.option("--manifest-out", metavar="FILE", help="Write what it signs here.")
@opt.force
@opt.as_json
def inspect(
    path: str, identity_files: tuple[str, ...], ask: bool, passphrase_file: str | None, tags: bool,
    plot: str | None, number: int | None, signature_out: str | None, manifest_out: str | None,
    force: bool, as_json: bool,
) -> None:
    """Say what can be said of an object, without a key and with one.

    Without a key nothing is authenticated yet: version, suite, sizes, recipients.
    """
    from .. import api
    from ..objects.inspection import listed_dataset
    from .look import show_inspection, tag_rows

    if plot is not None:
        figure_place(plot)
    elif number is not None:
        raise UsageError("--number is of use with --plot only")
    identities: list[Identity] = []
    if opt.by_identity(identity_files) or ask or passphrase_file is not None:
        identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    for wanted, name in ((tags, "--tags"), (plot, "--plot")):
        if wanted and not identities:
            raise UsageError(f"{name} needs an identity")
    facts = api.inspect(path, identities)
    if tags:
        with api.open(path, identities) as obj:
            facts["opened"]["elements"] = tag_rows(listed_dataset(obj))
    if signature_out is not None or manifest_out is not None:
        _write_signature(path, identities, signature_out, manifest_out, force)
    if plot is not None:
        facts["opened"]["plot"] = {"file": plot, **_plot_methods(path, identities, number or 0,
                                                                 plot, force)}
    show_inspection(path, facts, as_json)


def _plot_methods(
    path: str, identities: Sequence[Identity], number: int, plot: str, force: bool
) -> dict[str, Any]:
    """Draw the method map of a frame; return it."""
    from .. import api
    from ..analysis.figures import draw_method_map
    from ..objects.atomic import AtomicFile, default_mode

    with auditing.job("frame", path), api.open(path, identities) as obj, AtomicFile(
        plot, force=force
    ) as out:
        found = draw_method_map(obj, number, out.raw)
        out.commit(mode=default_mode())
    return found


def _write_signature(
    path: str, identities: Sequence[Identity], signature_out: str | None,
    manifest_out: str | None, force: bool,
) -> None:
    """Write an object's signature and what it signs, for other programs to verify."""
    from .. import api

    if not identities:
        raise UsageError("the signature is sealed: --signature-out needs an identity")
    with api.open(path, identities) as obj:
        sealed = obj.container.sealed
    if sealed is None:
        raise UsageError(f"{path!r} is not signed")
    for name, data in ((signature_out, sealed.cms), (manifest_out, sealed.manifest.data)):
        if name is not None:
            outputs.write_public(name, data, force=force)


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
@opt.signatures
@opt.force
@opt.as_json
@opt.hushed
def frame(
    path: str, number: int, identity_files: tuple[str, ...], ask: bool, passphrase_file: str | None,
    output: str, require_signature: bool, signers: tuple[str, ...], force: bool, as_json: bool,
) -> None:
    """Take one frame out: only what holds it is read and decrypted.

    Of a signed object that is each piece of 1 MiB that holds some of it.
    """
    from ..container.reader import Container
    from ..objects.atomic import AtomicFile, default_mode
    from ..objects.buffers import FileSource
    from ..objects.frames import FORMATS, write_frame
    from ..objects.opened import OpenedObject
    from ..objects.signing import unlock
    from .console import print_json, say

    if Path(output).suffix.lower() not in FORMATS:
        raise UsageError(f"the picture's name must end in one of {', '.join(FORMATS)}")
    identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    policy = opt.load_signature_policy(require_signature, signers)
    source = FileSource(path)
    with auditing.job("frame", path), OpenedObject(
        unlock(Container(source), identities, policy=policy), source.close
    ) as obj:
        with AtomicFile(output, force=force) as out:
            write_frame(obj, number, output, out.raw)
            out.commit(mode=default_mode())
        facts: dict[str, Any] = {
            "frame": number, "frames": obj.frame_count, "output": output,
            "bytes_read": source.bytes_read, "object_bytes": source.size(),
        }  # fmt: skip
        if (signature := policy.facts(obj.container)) is not None:
            facts["signature"] = signature
    if as_json:
        print_json(facts)
    else:
        read = min(facts["bytes_read"], facts["object_bytes"])
        say(f"frame {number} of {facts['frames']} -> {output} "
            f"({read} of {facts['object_bytes']} bytes read)")


@click.command(epilog="""\b
Examples:
  dicomcrypt rewrap ct.dcm.dcmx -i doctor.key --add colleague.pub
  dicomcrypt rewrap ct.dcm.dcmx -i doctor.key --remove former.pub --add colleague.pub
  dicomcrypt rewrap safe/ -i doctor.key --remove 0123456789abcdef --keep-key
  dicomcrypt rewrap safe/ -i doctor.key --add new.pub --engine dask --scheduler tls://head:8786 \\
    --dask-ca ca.pem --dask-cert me.pem --dask-key me-key.pem

\b
Removing encrypts the object anew under a new key, because whoever is removed knew the old
one; so --add must name everybody else who stays. --keep-key only drops the entry in the
header: it takes nothing from somebody who kept the key, or an old copy of the file.
""")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@opt.identity
@click.option("--add", multiple=True, metavar=opt.RECIPIENT,
              help="Recipient to add; repeatable.")
@click.option("--remove", multiple=True, metavar=f"{opt.RECIPIENT}|HINT",
              help="Recipient or hint (16 hexadecimal digits) to remove; repeatable.")
@click.option("--keep-key", is_flag=True, help="Remove without encrypting anew (see below).")
@opt.sign_with
@opt.sign_card
@click.option("--drop-signature", is_flag=True,
              help="An object that is encrypted anew may lose its signature.")
@click.option("--resume", is_flag=True,
              help="Leave out objects that have these recipients already.")
@opt.classical
@opt.jobs
@opt.shard
@opt.engine
@opt.shards
@opt.worker_identity
@opt.output_style
def rewrap(
    inputs: tuple[str, ...], identity_files: tuple[str, ...], ask: bool,
    passphrase_file: str | None, add: tuple[str, ...], remove: tuple[str, ...], keep_key: bool,
    sign_with: str | None, sign_passphrase_file: str | None, drop_signature: bool, resume: bool,
    allow_classical: bool, allow_mixed: bool, jobs: int | None, shard: tuple[int, int] | None,
    as_json: bool, quiet: bool, verbose: bool,
) -> None:
    """Change who may open objects. Adding rewrites the header in place, and keeps a signature."""
    from ..cluster.jobs import RewrapShards
    from ..trees.inplace import RewrapOptions, rewrap_one, rewrap_tree
    from ..trees.pool import default_jobs
    from .console import Report

    remote = cluster.wanted(inputs, jobs=jobs, shard=shard)
    if remote:
        keys = cluster.load_keys(identity_files, ask, passphrase_file)
    else:
        identities = opt.load_identity_files(identity_files, ask, passphrase_file)
    adding = opt.load_recipient_files(add)
    removing: list[Recipient | bytes] = []
    for entry in remove:
        if len(entry) == 16 and not os.path.exists(entry):
            try:
                removing.append(bytes.fromhex(entry))
                continue
            except ValueError:
                pass
        removing += opt.load_recipient_files((entry,), valid=False)

    options = RewrapOptions(tuple(adding), tuple(removing), keep_key, allow_classical,
                            allow_mixed, resume, opt.load_signer(sign_with, sign_passphrase_file),
                            drop_signature)
    with Report("rewrap", as_json=as_json, quiet=quiet, verbose=verbose) as report:
        if remote:
            cluster.run_trees(report, [RewrapShards(os.path.abspath(path), keys, options)
                                       for path in inputs])
        else:
            _each(report, inputs, lambda path: rewrap_one(path, identities, options),
                  functools.partial(
                      rewrap_tree, identities=identities, options=options,
                      jobs=jobs or default_jobs(), shard=shard, watch=report.watch))
    sys.exit(report.exit_status(expect_some=True))


def _each(
    report: Report, inputs: Sequence[str], one: Callable[[str], Outcome],
    tree: Callable[[str], Iterator[Outcome]],
) -> None:
    """Do files one by one, folders as trees."""
    from .console import run

    for path in inputs:
        run(report, tree(path) if os.path.isdir(path)
            else single(path, functools.partial(one, path)))
