"""The copy of tools/dcmx_rescue.py that lies in a vault takes everything out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from dicomcrypt.keys import Passphrase, keyfile
from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.recipients import add
from dicomcrypt.vault.vault import Vault


@pytest.fixture
def made(tmp_path, identity, corpus):
    root = tmp_path / "ward"
    (root / "sub").mkdir(parents=True)
    for path in corpus:
        if path.name in ("CT_small.dcm", "MR_small_RLE.dcm", "README.txt"):
            shutil.copy(path, root / "sub" / path.name)
    with Vault.create(tmp_path / "v", {"me": identity.recipient,
                                       "anna": Passphrase("a pass phrase")}) as vault:
        list(add_tree(vault, os.fspath(root), AddOptions(sync=False)))
        (tmp_path / "top").write_bytes(b"top")
        list(add_tree(vault, os.fspath(tmp_path / "top"), AddOptions(sync=False)))
    (tmp_path / "me.key").write_text(keyfile.identity_text(identity))
    (tmp_path / "phrase").write_text("a pass phrase\n")
    return tmp_path


def rescued(folder, out, *who):
    tool = folder / "v" / "dcmx_rescue.py"
    done = subprocess.run([sys.executable, "-I", tool, folder / "v" / "objects", "--keys",
                           folder / "v.keys", *who, "-o", out], capture_output=True, check=False)
    found = {os.fspath(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return done, found


@pytest.mark.parametrize("who", [("-i", "me.key"), ("--passphrase-file", "phrase")])
def test_everything_comes_out(made, who):
    done, found = rescued(made, made / "out", who[0], made / who[1])
    assert done.returncode == 0, done.stderr
    wanted = {f"ward/sub/{p.name}": p.read_bytes() for p in (made / "ward/sub").iterdir()}
    assert found == {**wanted, "top": b"top"}


def test_after_a_rotation_and_with_a_record_gone(made, identity):
    import dicomcrypt as dc

    with Vault.open(made / "v", identities=[identity]) as vault:
        add(vault.keys, "other", dc.Identity.generate().recipient)
        vault.remove_recipients(["other", "anna"])
        vault.keys.delete_records(vault.catalogue.record_of(None, "1CT1"))
    done, found = rescued(made, made / "out", "-i", made / "me.key")
    assert done.returncode == 1
    assert b"erased" in done.stderr
    assert "ward/sub/CT_small.dcm" not in found
    assert len(found) == 3


def test_a_stranger_gets_nothing(made):
    import dicomcrypt as dc

    (made / "other.key").write_text(keyfile.identity_text(dc.Identity.generate()))
    done, found = rescued(made, made / "out", "-i", made / "other.key")
    assert (done.returncode, found) == (3, {})
