"""With --force no command overwrites what it reads: inputs, keys, passphrases, certificates."""

import os
import shutil
import threading

import click
import pytest

from dicomcrypt import cli as command_line
from dicomcrypt.cli import outputs

ORIGINAL = "is input and output: originals are never overwritten"
KEY = "is output and the key file of --{}, which this command uses"


@pytest.fixture
def room(tmp_path, monkeypatch, keys, dicom, call):
    """A folder to work in: an original under several names, its object, keys and a passphrase."""
    monkeypatch.chdir(tmp_path)
    for name in ("ct.dcm", "ct.png", "ct.npy"):
        shutil.copy(dicom, name)
    for name in ("doctor.key", "doctor.pub", "passphrase"):
        shutil.copy(keys / name, name)
    for name in ("k", "k.png", "k.npy"):
        shutil.copy(keys / "doctor.key", name)
    assert call("encrypt", "ct.dcm", "-r", "doctor.pub", "-q").status == 0
    for name in ("obj.png", "obj.npy"):
        shutil.copy("ct.dcm.dcmx", name)
    (tmp_path / "ca").mkdir()
    shutil.copy("k", "ca/root.key")
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("words", "said"), [
    ("analyze ct.png --plot ct.png", ORIGINAL),
    ("inspect obj.png -i doctor.key --plot obj.png", ORIGINAL),
    ("inspect ct.dcm.dcmx -i k.png --plot k.png", KEY.format("identity")),
    ("inspect ct.dcm.dcmx -i k --signature-out k", KEY.format("identity")),
    ("inspect ct.dcm.dcmx -i k --manifest-out ct.dcm.dcmx", ORIGINAL),
    ("decrypt ct.dcm.dcmx -i k -o k", KEY.format("identity")),
    ("decrypt ct.dcm.dcmx -i k -o ./k --salvage", KEY.format("identity")),
    ("decrypt ct.dcm.dcmx -i doctor.key -o ct.dcm.dcmx", ORIGINAL),
    ("decrypt ct.dcm.dcmx -i doctor.key --signer doctor.pub -o doctor.pub",
     "is output and the file of --signer"),
    ("frame ct.dcm.dcmx -n 0 -i k.npy -o k.npy", KEY.format("identity")),
    ("frame obj.npy -n 0 -i k -o obj.npy", ORIGINAL),
    ("encrypt ct.dcm -r doctor.pub -o ct.dcm", ORIGINAL),
    ("encrypt ct.dcm -r doctor.pub -o ct.dcm --dry-run", ORIGINAL),
    ("encrypt ct.dcm -r doctor.pub -o doctor.pub --no-recovery", KEY.format("recipient")),
    ("encrypt ct.dcm --passphrase-file passphrase -o passphrase",
     "is output and the file of --passphrase-file"),
    ("standard wrap ct.dcm -r doctor.pub -o ct.dcm", ORIGINAL),
    ("standard sign ct.dcm --sign-with k -o k", KEY.format("sign-with")),
    ("standard protect ct.dcm -r doctor.pub -o doctor.pub", KEY.format("recipient")),
    ("keygen -o passphrase --passphrase-file passphrase",
     "is output and the file of --passphrase-file"),
    ("key combine k -o k", ORIGINAL),
    ("policy sign ct.dcm --key k -o k", KEY.format("key")),
    ("pki export ct.dcm --key k -o k", KEY.format("key")),
    ("card sign ct.dcm --card-file k -o k", KEY.format("card-file")),
    ("card decrypt ct.dcm -o ct.dcm", ORIGINAL),
    ("prescription new --template ct.dcm -o ct.dcm", "is output and the file of --template"),
    ("vault backup-keys v k -i k", KEY.format("identity")),
    ("pki crl --ca ca -o ca/root.key", "is output and a file of the folder 'ca'"),
    ("pki issue ct.dcm --ca ca -o ct.dcm --role physician --for both", ORIGINAL),
])
def test_force_overwrites_nothing_that_is_read(room, call, words, said):
    before = contents(room)
    done = call(*words.split(), "--force")
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert contents(room) == before


def test_names_that_a_command_chooses_are_looked_at_too(room, call):
    before = contents(room)
    done = call("decrypt", "ct.dcm.dcmx", "-i", "k", "--force")
    assert done.status == 0  # ct.dcm is there again, and is nothing that this command reads
    os.replace("k", "ct.dcm")
    del before[(room / "k").relative_to(room)]
    before[(room / "ct.dcm").relative_to(room)] = (room / "doctor.key").read_bytes()
    done = call("decrypt", "ct.dcm.dcmx", "-i", "ct.dcm", "--force")
    assert done.status == 2
    assert KEY.format("identity") in done.err
    shutil.copy("passphrase", "new.pub")
    before = contents(room)
    done = call("keygen", "-o", "new.key", "--passphrase-file", "new.pub", "--force")
    assert done.status == 2
    assert "'new.pub' is output" in done.err
    assert contents(room) == before


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_a_link_to_what_is_read_is_seen(room, call, make):
    make("k", "alias")
    before = contents(room)
    done = call("decrypt", "ct.dcm.dcmx", "-i", "k", "-o", "alias", "-f")
    assert done.status == 2
    assert KEY.format("identity") in done.err
    assert contents(room) == before


@pytest.mark.parametrize(("output", "said"), [
    ("doctor.pub", "a recipient file"), ("config.toml", "the configuration"),
    ("k", "key of [audit] in the configuration"),
])
def test_what_the_configuration_names_is_spared(room, call, monkeypatch, output, said):
    (room / "config.toml").write_text('[recipients]\ndefault = ["doctor.pub"]\n' + (
        '[audit]\nlog = "log"\nkey = "k"\n' if output == "k" else ""))
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(room / "config.toml"))
    before = contents(room)
    done = call("encrypt", "ct.dcm", "-o", output, "-f")
    assert done.status == 2
    assert f"is output and {said}, which" in done.err
    assert contents(room) == before


def test_recipient_files_that_another_names_are_spared(room, call):
    (room / "team.txt").write_text("group ct\nfile doctor.pub\n")
    before = contents(room)
    for output in ("team.txt", "doctor.pub"):
        done = call("encrypt", "ct.dcm", "-r", "team.txt#ct", "-o", output, "-f")
        assert done.status == 2
        assert f"'{output}' is output and " in done.err
    assert contents(room) == before


@pytest.mark.parametrize(("jobs", "threads"), [("1", 1), ("2", 1), ("2", 2)],
                         ids=["alone", "forked", "spawned"])
def test_a_tree_leaves_the_key_in_its_output_folder_alone(room, call, monkeypatch, jobs, threads):
    """Spawned workers do not know what is kept: who gives the names does."""
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    (room / "in").mkdir()
    for name in ("one", "doctor.key"):
        shutil.copy("ct.dcm", room / "in" / name)
    assert call("encrypt", "in", "-r", "doctor.pub", "-o", "safe", "-q").status == 0
    (room / "back").mkdir()
    shutil.copy("k", "back/doctor.key")
    done = call("decrypt", "safe", "-i", "back/doctor.key", "-o", "back", "-f", "-j", jobs)
    assert done.status == 2
    assert "1 done, 0 skipped, 1 failed" in done.err
    assert KEY.format("identity") in done.err
    assert (room / "back/doctor.key").read_bytes() == (room / "k").read_bytes()
    assert (room / "back/one").read_bytes() == (room / "ct.dcm").read_bytes()


def test_force_overwrites_everything_else(room, call):
    done = call("decrypt", "ct.dcm.dcmx", "-i", "doctor.key", "-o", "k", "-f")
    assert done.status == 0
    assert (room / "k").read_bytes() == (room / "ct.dcm").read_bytes()


def commands(group, *words):
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, *words, name)
        else:
            yield " ".join((*words, name)), found


def test_every_command_that_overwrites_spares_what_it_reads():
    bare = set()
    for name, found in commands(command_line.cli):
        force = next((p for p in found.params if "--force" in p.opts), None)
        if force is not None and not (outputs.WRITTEN & {p.name for p in found.params}
                                      and hasattr(found.callback, "__wrapped__")):
            bare.add(name)
    # Those replace an access in a key table, a card's field, or put a copy in place of another.
    assert bare == {"key table grant", "vault recipients add", "vault restore-keys",
                    "card patient set"}
