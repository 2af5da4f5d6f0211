"""A vault filled from a tree of real files, and emptied into one."""

from __future__ import annotations

import os
import pathlib

from dicomcrypt.trees.tree import DecryptOptions
from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.getting import get
from dicomcrypt.vault.reading import select

FEW = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "image_dfl.dcm", "README.txt",
       "ExplVR_BigEnd.dcm", "SC_rgb_16bit.dcm")


def add(vault, root, jobs=1, **options):
    more = {name: options.pop(name) for name in ("prefix", "start_method") if name in options}
    outcomes = list(add_tree(vault, os.fspath(root), AddOptions(sync=False, **options), jobs,
                             **more))
    assert not [o.message for o in outcomes if o.state == "failed"]
    return outcomes


def contents(root) -> dict[str, bytes]:
    root = pathlib.Path(root)
    return {os.fspath(p.relative_to(root)): p.read_bytes() for p in root.rglob("*")
            if p.is_file()}


def restore(vault, out, jobs=1, query=None, objects=()):
    outcomes = list(get(vault, select(vault, query, objects=objects), os.fspath(out),
                        DecryptOptions(sync=False), jobs))
    assert not [o.message for o in outcomes if o.state == "failed"]
    return contents(out)
