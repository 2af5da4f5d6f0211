"""`standard sign`, `verify`, `wrap` and `unwrap` on trees: workers, journals, failures."""

import json
import os
import shlex
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from certificates import DAY, Maker, fresh_key
from confidential import INSTANCE, file_of, small
from tree_jobs import in_child, killing, states

from dicomcrypt.errors import OutputExistsError, UsageError
from dicomcrypt.keys.signing import Signer
from dicomcrypt.objects.atomic import AtomicFile, is_part
from dicomcrypt.objects.signing import SignaturePolicy, signature_policy
from dicomcrypt.pki.checking import Trust
from dicomcrypt.pki.signers import SignerCheck
from dicomcrypt.standard.changes import Signing, Unwrapping, Wrapping
from dicomcrypt.standard.cms_envelope import CertificateRecipient, opening_of
from dicomcrypt.standard.files import TreeOptions, change_file, change_tree
from dicomcrypt.standard.verifying import verify_tree
from dicomcrypt.trees import checkpoint

COUNT = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Keys by name, a tree of a study with a text and a link in it, the same signed and wrapped."""
    folder = tmp_path_factory.mktemp("trees")
    root = Maker.root("Root", begin=-60 * DAY)
    made = {"reader": root.leaf("Reader", uses=["encryption"], kind="rsa-2048"),
            "other": Maker.root("Else").leaf("Else", uses=["both"], key=fresh_key()),
            "signer": root.leaf("Scanner", uses=["signing"])}
    for name, one in made.items():
        (folder / f"{name}.pem").write_bytes(one.key_pem() + one.pem())
        (folder / f"{name}.pem").chmod(0o600)
        (folder / f"{name}.crt").write_bytes(one.pem())
    (folder / "root.pem").write_bytes(root.pem())
    tree = folder / "tree" / "series"
    tree.mkdir(parents=True)
    for number in range(COUNT):
        dataset = small(SOPInstanceUID=f"{INSTANCE}.{number}")
        dataset.PixelData, dataset["PixelData"].VR = bytes([number]) * 20_000, "OW"
        (tree / f"{number:02}.dcm").write_bytes(file_of(dataset))
    (folder / "tree" / "notes.txt").write_text("nothing to sign")
    (folder / "tree" / "link").symlink_to("series/00.dcm")
    found = SimpleNamespace(
        folder=folder, tree=folder / "tree", file=lambda name: folder / name, root=root,
        signer=Signer(made["signer"].key, made["signer"].certificate),
        recipients=[CertificateRecipient(made["reader"].certificate)],
        opening=opening_of([made["reader"].key], [made["reader"].certificate], [b"s3cret"]),
    )  # fmt: skip
    found.signing, found.wrapping = Signing(found.signer), Wrapping(found.recipients)
    found.signed, found.wrapped = folder / "signed", folder / "wrapped"
    assert states(run(found, found.signing, found.signed)) == {"done": COUNT, "skipped": 2}
    assert states(run(found, found.wrapping, found.wrapped)) == {"done": COUNT + 1, "skipped": 1}
    return found


def run(world, change, out, source=None, **more):
    return list(change_tree(str(source or world.tree), str(out), change, [], TreeOptions(), **more))


def copied(world, tmp_path, name="signed"):
    """A copy of a tree, to be spoilt."""
    subprocess.run(["cp", "-r", world.file(name), tmp_path / name], check=True)
    return tmp_path / name


def parts(folder):
    return [p for p in folder.rglob(".dcmx-*") if is_part(os.fsencode(p.name))]


def in_place(folder):
    return {os.fspath(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*")
            if p.is_file()}  # fmt: skip


# ---- there and back -----------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_tree_is_signed_and_verified(world, call, tmp_path, jobs):
    out = tmp_path / "signed"
    done = call("standard", "sign", world.tree, "--sign-with", world.file("signer.pem"), "-o", out,
                "-j", jobs, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["summary"]["done"] == COUNT
    assert {row["message"] for row in found["files"] if row["state"] == "skipped"} == {
        "symbolic link", "not a DICOM file: it has no preamble and prefix (PS3.10)"}
    assert all(row["elements"] > 3 for row in found["files"] if row["state"] == "done")
    assert len(in_place(out)) == COUNT
    done = call("standard", "verify", out, "--trust-root", world.file("root.pem"),
                "--require-signature", "-j", jobs, "--json")
    assert done.status == 0, done.err
    rows = json.loads(done.out)["files"]
    assert len(rows) == COUNT
    assert {row["signatures"][0]["trust"] for row in rows} == {"checked"}
    assert len(in_place(out)) == COUNT  # nothing was written


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_tree_is_wrapped_and_comes_back(world, call, tmp_path, jobs):
    safe, back = tmp_path / "safe", tmp_path / "back"
    done = call("standard", "wrap", world.tree, "-r", world.file("reader.crt"), "--sign-with",
                world.file("signer.pem"), "-o", safe, "-j", jobs)
    assert done.status == 0, done.err
    assert all(name.endswith(".p7m") for name in in_place(safe))
    (safe / "beside.txt").write_text("something else")
    done = call("standard", "unwrap", safe, "-i", world.file("reader.pem"), "--signer",
                world.file("signer.crt"), "-o", back, "-j", jobs, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["summary"]["skipped"] == 1
    assert {tuple(row["signers"]) for row in found["files"] if row["state"] == "done"} == {
        ("CN=Scanner",)}
    wanted = {name: data for name, data in in_place(world.tree).items() if name != "link"}
    assert in_place(back) == wanted


def test_keys_and_demands_go_through_pipes_to_workers(world, tmp_path):
    """Nothing is inherited by processes that are spawned."""
    more = {"jobs": 2, "start_method": "spawn"}
    assert states(run(world, world.signing, tmp_path / "signed", **more))["done"] == COUNT
    check = SignerCheck(Trust((world.root.certificate,)))
    demanded = SignaturePolicy(True, check=check)
    found = states(verify_tree(str(tmp_path / "signed"), demanded, **more))
    assert found == {"done": COUNT}
    assert states(run(world, world.wrapping, tmp_path / "safe", **more))["done"] == COUNT + 1
    found = run(world, Unwrapping(world.opening, SignaturePolicy()), tmp_path / "back",
                tmp_path / "safe", **more)
    assert states(found) == {"done": COUNT + 1}


def test_no_repr_tells_a_password(world):
    assert "s3cret" not in repr(world.opening)


# ---- failures -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["sign", "wrap", "unwrap"])
def test_one_that_fails_leaves_the_others_and_is_done_later(world, call, tmp_path, verb):
    source = copied(world, tmp_path, {"unwrap": "wrapped"}.get(verb, "tree"))
    out = tmp_path / "out"
    path = next(p for p in source.rglob("03*"))
    whole = path.read_bytes()
    key = {"sign": ["--sign-with", world.file("signer.pem")], "wrap": ["-r", "reader.crt"],
           "unwrap": ["-i", world.file("reader.pem")]}[verb]
    key = [world.file(word) if word == "reader.crt" else word for word in key]
    words = ["standard", verb, source, *key, "-o", out, "-j", "1"]
    if verb == "wrap":
        path.unlink()
        os.mkfifo(path)
        done = call(*words)
        assert (done.status, "neither file, folder nor link" in done.err) == (0, True)
        return
    path.write_bytes(whole[:-20])
    done = call(*words)
    assert done.status == 4, done.err
    assert f"failed: {path}: " in done.err
    assert len(in_place(out)) == COUNT - (verb == "sign")
    assert parts(out) == []
    path.write_bytes(whole)
    done = call(*words)
    assert done.status == 0, done.err
    assert f"1 done, {COUNT + (verb == 'sign')} skipped" in done.err
    assert not out.with_name("out.dcmx-journal").exists()


def test_what_does_not_open_fails_by_its_cause(world, call, tmp_path):
    for more, status in ((["-i", world.file("other.pem")], 3),
                         (["-i", world.file("reader.pem"), "--require-signature"], 4)):
        done = call("standard", "unwrap", world.wrapped, *more, "-o", tmp_path / "out", "-j", "2")
        assert done.status == status, done.err
        assert in_place(tmp_path / "out") == {}


def test_verify_names_what_fails_and_counts_the_rest(world, call, tmp_path):
    tree = copied(world, tmp_path)
    _, first, second, third = sorted(tree.rglob("*.dcm"))[:4]
    first.write_bytes(first.read_bytes().replace(b"\x01" * 64, b"\x02" * 64, 1))
    second.write_bytes((world.tree / "series" / second.name).read_bytes())
    third.write_bytes(third.read_bytes() + bytes.fromhex("fcff fcff 4f42 0000 02000000 0000"))
    done = call("standard", "verify", tree, "-j", "1")
    assert done.status == 4
    assert done.err.count("failed: ") == 1
    assert f"failed: {first}: signature 1: it does not fit" in done.err
    assert "1 files are not signed" in done.err
    assert "1 signed files have elements that no signature covers" in done.err
    done = call("standard", "verify", tree, "-j", "1", "-v")
    assert f"{third}: not covered: (FFFC,FFFC) DataSetTrailingPadding" in done.err
    done = call("standard", "verify", tree, "--require-signature", "-j", "1")
    assert (done.status, done.err.count("failed: ")) == (4, 2)
    done = call("standard", "verify", tree, "--signer", world.file("other.crt"), "-j", "1")
    assert (done.status, done.err.count("failed: ")) == (1, COUNT)  # of several causes


def test_where_a_signature_is_required_nothing_is_left_out(world, call, tmp_path):
    """What was made no DICOM file, a link, or seems to be an output in progress does not pass."""
    tree = copied(world, tmp_path)
    (tree / "text.dcm").write_bytes(bytes(200))
    (tree / "link").symlink_to(world.tree / "series" / "00.dcm")
    (tree / ".dcmx-0123456789ab.part").write_bytes((tree / "series" / "01.dcm").read_bytes())
    assert call("standard", "verify", tree, "-j", "1").status == 0
    for more in (["--require-signature"], ["--signer", world.file("signer.crt")]):
        done = call("standard", "verify", tree, *more, "-j", "1")
        assert (done.status, done.err.count("failed: ")) == (4, 3), done.err
    assert call("standard", "verify", tree / "text.dcm").status == 2
    assert call("standard", "verify", tree / "text.dcm", "--require-signature").status == 4


def test_a_tree_without_dicom_files_is_not_verified(call, tmp_path):
    (tmp_path / "a").write_text("text")
    done = call("standard", "verify", tmp_path, "-j", "1")
    assert (done.status, "no object to verify" in done.err) == (1, True)


def test_a_damaged_message_is_not_taken_for_something_else(world, tmp_path):
    tree = copied(world, tmp_path, "wrapped")
    path = next(tree.rglob("03*"))
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    found = run(world, Unwrapping(world.opening, SignaturePolicy()), tmp_path / "out", tree)
    assert states(found) == {"done": COUNT, "failed": 1}
    assert {o.exit_status for o in found} == {0, 4}


def test_two_messages_never_share_a_name(world, tmp_path):
    tree = copied(world, tmp_path, "wrapped")
    one = next(tree.rglob("03*"))
    (one.parent / one.name.removesuffix(".p7m")).write_bytes(one.read_bytes())
    found = run(world, Unwrapping(world.opening, SignaturePolicy()), tmp_path / "out", tree)
    assert states(found) == {"done": COUNT + 1, "failed": 1}


def test_what_is_wrapped_is_not_wrapped_again(world, tmp_path):
    found = run(world, world.wrapping, tmp_path / "out", world.wrapped)
    assert states(found) == {"skipped": COUNT + 1}
    assert {o.message for o in found} == {"is a Secure DICOM File already"}


def test_nothing_is_done_in_place(world, tmp_path):
    tree = copied(world, tmp_path, "tree")
    (tmp_path / "alias").symlink_to(tree)
    before = in_place(tree)
    for out in (tree, tmp_path / "alias"):
        with pytest.raises(UsageError, match="is the input"):
            run(world, world.signing, out, tree)
    assert in_place(tree) == before
    path = tree / "series" / "00.dcm"
    with pytest.raises(OutputExistsError):
        change_file(str(path), str(path), world.signing)
    change_file(str(path), str(path), world.signing, force=True)  # whole or not at all
    assert path.read_bytes() != before["series/00.dcm"]


def test_links_do_not_lead_out_of_the_output(world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "series").symlink_to(tmp_path / "elsewhere")
    found = run(world, world.signing, tmp_path / "out")
    assert states(found) == {"failed": COUNT + 1, "skipped": 2}  # and the folder
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_outputs_are_closed_to_whom_their_inputs_are(world, tmp_path):
    path = tmp_path / "secret.dcm"
    path.write_bytes((world.tree / "series" / "00.dcm").read_bytes())
    mask = os.umask(0o027)
    try:
        for mode, wanted in ((0o600, 0o600), (0o644, 0o640)):
            path.chmod(mode)
            change_file(str(path), str(tmp_path / f"{mode}"), world.signing)
            assert (tmp_path / f"{mode}").stat().st_mode & 0o777 == wanted
    finally:
        os.umask(mask)


def test_a_file_that_changes_meanwhile_is_refused(world, tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    path.write_bytes((world.tree / "series" / "00.dcm").read_bytes())
    real = AtomicFile.__init__

    def changing(self, *arguments, **named):
        real(self, *arguments, **named)
        with open(path, "r+b") as file:
            file.seek(-1, 2)
            file.write(b"x")
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(AtomicFile, "__init__", changing)
    with pytest.raises(Exception, match="changed while it was read"):
        change_file(str(path), str(tmp_path / "b.dcm"), world.signing)
    assert not (tmp_path / "b.dcm").exists()


# ---- broken off ---------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("verb", ["sign", "wrap", "unwrap"])
def test_a_killed_job_goes_on(world, tmp_path, monkeypatch, verb, jobs):
    change = {"sign": world.signing, "wrap": world.wrapping,
              "unwrap": Unwrapping(world.opening, SignaturePolicy())}[verb]
    source = world.wrapped if verb == "unwrap" else world.tree
    out = tmp_path / "out"
    files = COUNT + (verb != "sign")
    with monkeypatch.context() as patch:
        # In the job's process, when the first names were given.
        patch.setattr(checkpoint, "FILES", 4)
        patch.setattr(checkpoint, "rename_part",
                      killing(checkpoint.rename_part, at=3, after=True))
        assert in_child(lambda: run(world, change, out, source, jobs=jobs)) == -signal.SIGKILL
    time.sleep(0.3)  # workers see that their job is gone
    assert len(in_place(out)) >= 3
    found = states(run(world, change, out, source, jobs=jobs))
    assert found["done"] + 3 <= files + 1
    assert len(in_place(out)) == files
    assert parts(tmp_path) == []
    if verb == "sign":
        facts = [o.details["signatures"] for o in verify_tree(str(out), signature_policy(True))]
        assert [len(one) for one in facts] == [1] * COUNT  # nothing was signed twice


def test_an_interrupt_leaves_nothing_half_done(world, command, tmp_path):
    big = tmp_path / "tree"
    big.mkdir()
    for number in range(400):
        with open(big / f"{number}", "wb") as file:
            file.truncate(1 << 20)
    words = [*command.words, "standard", "wrap", str(big), "-r", str(world.file("reader.crt")),
             "-o", str(tmp_path / "out"), "-j", "2", "--no-sync"]
    process = subprocess.Popen(
        words, env=command.environment(), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while not parts(tmp_path) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert parts(tmp_path) == []


def test_two_jobs_on_one_output_refuse_each_other(world, call, tmp_path):
    jobs = change_tree(str(world.tree), str(tmp_path / "out"), world.signing, [], TreeOptions())
    next(jobs)
    done = call("standard", "sign", world.tree, "--sign-with", world.file("signer.pem"), "-o",
                tmp_path / "out", "-j", "1")
    assert (done.status, "another job writes" in done.err) == (1, True)
    list(jobs)
    assert len(in_place(tmp_path / "out")) == COUNT


# ---- a medium that is full ---------------------------------------------------------


@pytest.mark.parametrize("verb", ["sign", "wrap", "unwrap"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_medium_is_said_and_the_job_goes_on(world, command, namespace, tmp_path, verb, jobs):
    """On a small file system in memory: what fits has its name, the rest is done later."""
    place = tmp_path / "mount"
    place.mkdir()
    key = {"sign": ["--sign-with", "signer.pem"], "wrap": ["-r", "reader.crt"],
           "unwrap": ["-i", "reader.pem"]}[verb]
    source = world.wrapped if verb == "unwrap" else world.tree
    words = shlex.join(map(str, [
        *command.words, "standard", verb, source, key[0], world.file(key[1]), "-o", place / "out",
        "-j", jobs, "--journal", tmp_path / "journal"]))  # fmt: skip
    look = f'find {place} -name "*.part"; find {place} -type f -name "[0-9]*" | wc -l'
    done = namespace(
        f"mount -t tmpfs -o size=400k tmpfs {place} && head -c 250k /dev/zero > {place}/ballast\n"
        f"{words} 2>&1; echo status $?; {look}; rm {place}/ballast; echo room\n"
        f"{words} 2>&1; echo status $?; {look}; cp -r {place}/out {tmp_path}/copy",
        env=command.environment(),
    )
    print("\n" + done.stdout)
    first, _, second = done.stdout.partition("room\n")
    assert "status 1\n" in first, done.stdout + done.stderr
    assert "make room, then give the same command again" in first
    assert 0 <= int(first.split()[-1]) < COUNT
    assert "status 0\n" in second, done.stdout
    assert second.split()[-1] == str(COUNT)
    assert ".part" not in done.stdout
    if verb == "unwrap":
        assert len(in_place(tmp_path / "copy")) == COUNT + 1
        assert (tmp_path / "copy" / "series" / "07.dcm").read_bytes() == (
            world.tree / "series" / "07.dcm").read_bytes()


@pytest.mark.parametrize("verb", ["sign", "wrap", "unwrap"])
def test_one_file_on_a_full_medium(world, command, namespace, tmp_path, verb):
    """Whatever room there is, the file is whole or is not there: the system may take a part of
    what it is given to write."""
    place = tmp_path / "mount"
    place.mkdir()
    name = "series/00.dcm"
    key = {"sign": ["--sign-with", "signer.pem"], "wrap": ["-r", "reader.crt"],
           "unwrap": ["-i", "reader.pem"]}[verb]
    source = world.wrapped / f"{name}.p7m" if verb == "unwrap" else world.tree / name
    words = shlex.join(map(str, [*command.words, "standard", verb, source, key[0],
                                 world.file(key[1]), "-o", place / "out"]))
    done = namespace(
        f"mount -t tmpfs -o size=12k tmpfs {place}; {words}; echo $?; ls -A {place}",
        env=command.environment(),
    )
    assert done.stdout == "1\n", done.stdout + done.stderr
    assert "no space left on device" in done.stderr
