"""What is copied into every vault: how to get everything out without this program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

README = """\
This folder is a dicomcrypt vault: encrypted files under names that tell nothing.

    dicomcrypt vault ls FOLDER -i KEYFILE
    dicomcrypt vault get FOLDER --all -i KEYFILE -o OUT

opens it, with this folder's key table, which lies elsewhere (by default beside this folder, with
`.keys` behind its name). Without the key table nothing in here can be read by anybody.

How everything in it is laid out stands in spec/vault-v1.md and the files beside it. With nothing
but Python and its package `cryptography`,

    python dcmx_rescue.py vault FOLDER --keys KEYTABLE -i KEYFILE -o OUT

takes everything out.
"""
_SPECS = ("vault-v1.md", "dcmx-v1.md", "block-layer-v1.md")


def shipped() -> Iterator[tuple[str, bytes]]:
    """Yield names in the store and contents.

    The files are package data (setup.py copies them), or lie in the source tree."""
    yield "README", README.encode()
    package, source = Path(__file__).parent / "shipped", Path(__file__).parents[2]
    places = [("dcmx_rescue.py", "tools"), *((f"spec/{name}", "docs") for name in _SPECS),
              ("spec/keytable.md", "docs")]
    for name, folder in places:
        path = package / name
        if not path.exists():
            path = source / folder / (name.removeprefix("spec/") if "keytable" in name else name)
        yield name, path.read_bytes()
