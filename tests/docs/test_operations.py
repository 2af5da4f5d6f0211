"""docs/operations.md: each procedure does what it says, on a world of its own."""

import contextlib
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time

import cli_lines
import pytest
from doc_commands import Rule, Scene, Shown, page

from tests.conftest import need, require_module

PAGE = "docs/operations.md"
PROCEDURES = page(PAGE).headings(deep=3)
WORDS = "correct horse"
CARD = "--card-file new.hpjc --card-passphrase-file card-words --pin-file pin"
REPLIES = {"new passphrase": "another horse", "passphrase": WORDS}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What an operator has, made once: keys, objects, a vault, backups of both."""
    require_module("blake3", "vault")
    require_module("shamir_mnemonic", "recovery")
    scene = Scene(tmp_path_factory.mktemp("world"))
    tree = scene.archive("ward3")
    shutil.copyfile(tree / "a/ct.dcm", tree / "b/again.dcm")  # a vault stores it once
    scene.write("words", f"{WORDS}\n", 0o600)
    (scene.folder / "keys").mkdir()
    scene.prepare(
        "keygen -o doctor.key", "keygen -o colleague.key", "keygen -o recovery.key",
        "encrypt ward3/ -r doctor.pub --recovery recovery.pub -o safe/",
        "vault create archive/ -r doctor.pub --recovery recovery.pub",
        "vault add archive/ ward3/ -i doctor.key",
        "vault backup-keys archive/ keys/2026-11.keys -i doctor.key",
        "key split recovery.key --threshold 3 --shares 5 -o shares/")
    return scene.folder


@pytest.fixture
def here(world, scene):
    """A copy of it."""
    shutil.copytree(world, scene.folder, dirs_exist_ok=True)
    (scene.folder / "restored.key").write_bytes((world / "recovery.key").read_bytes())
    (scene.folder / "restored.key").chmod(0o600)
    assert scene.shell("mkdir media && cp -a safe archive media/") == 0
    return scene


def words_of(share):
    def read(scene):
        lines = (scene.folder / f"shares/share-{share}-of-5.txt").read_text().split("\n")
        return Shown(" ".join(line for line in lines if not line.startswith("#")).strip())
    return read


def says(*words):
    def check(scene):
        text = scene.out + scene.err
        assert all(re.search(w, text) for w in words), text
    return check


def damage(scene):
    """A byte of an object and of one in the vault is changed."""
    objects = (scene.folder / "archive/objects").rglob("*.dcmx")
    largest = max(objects, key=lambda path: path.stat().st_size)
    for path in (scene.folder / "safe/b/us.dcm.dcmx", largest):
        data = bytearray(path.read_bytes())
        data[100_000] ^= 1
        path.write_bytes(data)
    return largest.stem


def copies(scene):
    """The id of the copy of the key table that was registered first."""
    scene.shell("dicomcrypt vault backup-keys archive/ -i recovery.key --json")
    return json.loads(scene.out)[0]["id"]


def authority(scene):
    scene.prepare(
        "pki init ca/ --organisation Klinikum --passphrase-file words",
        "pki request -o anna --name Arzt --first-name Anna --no-passphrase",
        "pki issue anna.csr --ca ca/ --role physician --for both --passphrase-file words")


def serial(scene):
    scene.shell("dicomcrypt pki list Anna --ca ca/ --status valid --json")
    return json.loads(scene.out)[-1]["serial"]


def has_card(scene):
    scene.write("card-words", "of the card\n", 0o600)
    scene.write("pin", "493817\n", 0o600)
    scene.write("puk", "48151623\n", 0o600)
    scene.prepare(
        "pki init ca/ --organisation Klinikum --passphrase-file words",
        "card init --card-file old.hpjc --card-passphrase-file card-words --pin-file pin"
        " --puk-file puk --ca ca/ --role physician --name Arzt --first-name Anna"
        " --passphrase-file words",
        "card cert export dec --card-file old.hpjc --card-passphrase-file card-words -o anna.crt",
        "encrypt ward3/ -r anna.crt --recovery recovery.pub --allow-classical -o by-card/")


def may_mount(scene):
    need("unshare", "util-linux")
    done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False,
                          capture_output=True)
    if done.returncode:
        pytest.skip("no namespace in which a file system can be mounted")


def older_folder(scene):
    """Something is added after the folder was copied to the backup."""
    scene.write("late/note.txt", "came later\n")
    scene.prepare("vault add archive/ late/ -i doctor.key")


def audited(scene):
    scene.shell("openssl genpkey -algorithm ed25519 -out audit.key && chmod 600 audit.key &&"
                " openssl pkey -in audit.key -pubout -out audit.pem")
    scene.configure(f'[audit]\nlog = "{scene.folder}/audit.log"\nkey = "{scene.folder}/audit.key"\n'
                    f'heads = "{scene.folder}/media/heads"')


def lost_table(scene):
    (scene.folder / "archive.keys").unlink()
    assert scene.shell("dicomcrypt vault ls archive/ -i doctor.key") == 2
    assert "is not there" in scene.err


def damaged_table(scene):
    require_module("pysequoia", "openpgp")
    scene.prepare("key table create keys.db -r recovery.pub",
                  *["key table new keys.db -i recovery.key --kind archive"] * 3)
    with contextlib.closing(sqlite3.connect(scene.folder / "keys.db")) as database:
        key, value = database.execute("SELECT key, value FROM entries").fetchone()
        changed = value[:-1] + bytes([value[-1] ^ 1])
        database.execute("UPDATE entries SET value = ? WHERE key = ?", (changed, key))
        database.commit()


def without_dicomcrypt(scene):
    """Whoever imports the package here fails."""
    scene.write("nothing/dicomcrypt.py", "raise ImportError\n")
    scene.environment["PYTHONPATH"] = str(scene.folder / "nothing")


def ended(scene):
    """Wait for the workers of a job that was killed: they notice, and hold its locks until then."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        running = 0
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                running += (b"dicomcrypt" in (process / "cmdline").read_bytes()
                            and (process / "cwd").readlink() == scene.folder)
        if not running:
            return
        time.sleep(0.05)


def tidy(scene):
    left = [p.name for p in scene.folder.rglob("*") if re.search(r"\.part$|journal", p.name)]
    assert not left


#: What the world has beside, and the rules, by procedure; the others need none.
BEFORE = {
    "A vault's key table is lost": lost_table,
    "A vault comes back from a backup": older_folder,
    "A key table is damaged": damaged_table,
    "A card is lost": has_card,
    "A certificate is refused": authority,
    "Renew certificates and lists": authority,
    "The disk is full": may_mount,
    "Everything is lost but the copies": without_dicomcrypt,
    "Erase a patient": audited,
    "Look every day, every week, every month": lambda s: (
        audited(s), s.shell("dicomcrypt verify safe/ -i doctor.key")),
    "Change passphrases": lambda s: (
        s.prepare("key table create keys.db --login anna --passphrase-file words",
                  "vault recipients add archive/ service -i doctor.key"
                  " --new-passphrase-file words")),
    "Move away from an algorithm": lambda s: (
        s.prepare("keygen --type x25519 -o colleague.key --force",
                  "rewrap safe/ -i doctor.key --add colleague.pub --allow-classical")),
}
RULES = {
    "Make a recovery key": lambda: [
        _offline(),
        Rule("keygen", before=lambda s: s.shell("rm -r recovery.* shares")),
        Rule("shred", after=lambda s: _gone(s, "recovery.key"))],
    "Back up": lambda: [Rule("mkdir", before=lambda s: s.shell("rm -r media keys/*"))],
    "Encrypt to it always": lambda: [
        Rule("recovery", do=lambda s, text: (
            s.configure(text), shutil.copy(s.folder / "recovery.pub", s.config.parent))),
        Rule("inspect", after=says("(?s)ML-KEM.*ML-KEM")),
        Rule("vault create", after=says("for doctor, recovery"))],
    "Combine the recovery key": lambda: [
        Rule("key combine", before=lambda s: s.shell("rm restored.key"),
             replies={"share 1": words_of(2), "share 2": words_of(5), "share 3": words_of(1)})],
    "A key is stolen": lambda: [
        Rule("verify safe/ -i doctor.key|ls archive/ -i doctor.key", status=3),
        Rule("--forget", replace={"ID": copies})],
    "A vault comes back from a backup": lambda: [
        Rule("vault ls", status=4), Rule("--rebuild", after=says("6 rows rebuilt")),
        Rule("vault add", after=lambda s: s.prepare("vault add archive/ late/ -i doctor.key"))],
    "A key table is damaged": lambda: [
        Rule("list keys.db", status=4), Rule("--damaged", status=4),
        Rule("list keys2.db", after=lambda s: _count(s.out, "archive", 2))],
    "An object is damaged": lambda: [
        Rule("verify safe/ ", before=_once(damage), status=[4, 0]),
        Rule("vault verify archive/ --all", status=[4, 0]),
        Rule("--salvage", status=4, after=says("are lost")),
        Rule("--damaged", replace={"ID": _damaged})],
    "The disk is full": lambda: [Rule("unshare", after=says("status 1", "(?s)0 failed.*0 failed"))],
    "A job was interrupted": lambda: [Rule("kill -KILL", after=ended),
                                      Rule("vault check", after=tidy)],
    "A card is lost": lambda: [
        Rule("pki list", after=says("(?s)Anna Arzt.*Anna Arzt.*Anna Arzt")),
        Rule("pki revoke", replace={"SERIAL": serial}, after=_revoke_the_others),
        Rule("pki verify", status=5, after=says("revoked")),
        Rule("card init", replace={"init": f"init {CARD} --puk-file puk"}),
        Rule("card cert export", replace={
            "dec": "dec --card-file new.hpjc --card-passphrase-file card-words"}),
        Rule("decrypt", replace={"--card": CARD}, after=lambda s: _same(s, "back")),
    ],
    "A certificate is refused": lambda: [Rule("--at 2040", status=5, after=says("expired"))],
    "Change who may open objects": lambda: [Rule("verify safe/ -i colleague.key", status=[0, 3])],
    "Renew certificates and lists": lambda: [Rule("pki renew", replace={"SERIAL": serial})],
    "Move away from an algorithm": lambda: [
        Rule("find", status=1, after=says("x25519 .*refused"))],
    "Erase a patient": lambda: [
        Rule("erase .*4MR1 -i", replies={"Type the ID": Shown("4MR1")}, after=says("proof")),
        Rule("--yes-erase", after=says("erased before")),
        Rule("--forget", replace={"ID": copies}),
        Rule("--keys archive.keys", status=4), Rule("vault log", after=says("vault.erase"))],
    "Upgrade the program": lambda: [_offline()],
    "Damage a copy": lambda: [Rule("verify", status=4, after=says("failed: broken/b/us.dcm.dcmx"))],
    "Look every day, every week, every month": lambda: [
        Rule("python", after=lambda s: says(r"^\[\]")(s))],
}


def _count(text, word, number):
    assert text.count(word) == number, text


def _offline():
    return Rule("pip install --no-index", do=cli_lines.check_pip)


def _gone(scene, name):
    assert not (scene.folder / name).exists()


def _same(scene, name):
    assert scene.shell(f"diff -r {name} ward3") == 0, scene.out


def _once(what):
    done = []

    def first(scene):
        if not done:
            done.append(what(scene))
            scene.space["damaged"] = done[0]
    return first


def _damaged(scene):
    return scene.space["damaged"]


def _revoke_the_others(scene):
    for _ in range(2):
        assert scene.shell(f"dicomcrypt pki revoke {serial(scene)} --ca ca/") == 0, scene.err


def test_every_link_within_the_page_leads_somewhere():
    whole = page(PAGE)
    headings = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
                for deep in (2, 3) for heading in whole.all_headings(deep=deep)}
    links = set(re.findall(r"\]\(#([^)]+)\)", whole.text))
    assert len(links) > 10
    assert links <= headings


def test_every_command_of_the_page_belongs_to_a_procedure():
    whole = page(PAGE)
    parts = [f for name in PROCEDURES for f in whole.part(name).fences]
    assert [f for f in whole.fences if f not in parts] == []


@pytest.mark.parametrize("name", PROCEDURES)
def test_the_procedure_works(name, here):
    if name in BEFORE:
        BEFORE[name](here)
    media = {"/media/keys": str(here.folder / "keys"), "/media/data": str(here.folder / "media")}
    here.run(page(PAGE).part(name), RULES.get(name, list)(), replace=media, replies=REPLIES)
