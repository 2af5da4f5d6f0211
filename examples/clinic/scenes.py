"""The scenes of the clinic's example, in their order."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

from stage import HERE, Level, Stage

SUFFIXES = {"chamber": "dc=chamber,dc=test", "insurance": "dc=insurance,dc=test"}
#: name: title, trust centre, role, surname, first name, organisation, address
PEOPLE = {
    "anna": ("physician", "chamber", "physician", "Arzt", "Anna", "Praxis Arzt",
             "anna@praxis.test"),
    "stefan": ("specialist", "chamber", "physician", "Stern", "Stefan", "Radiologie Stern",
               "stefan@radiologie.test"),
    "hanna": ("hospital", "chamber", "physician", "Hell", "Hanna", "Klinikum Nord",
              "hanna@klinikum.test"),
    "paul": ("pharmacy", "insurance", "pharmacist", "Pille", "Paul", "Löwen-Apotheke",
             "loewe@apotheke.test"),
    "rita": ("another pharmacy", "insurance", "pharmacist", "Rezept", "Rita", "Rosen-Apotheke",
             "rose@apotheke.test"),
    "max": ("patient", "insurance", "patient", "Muster", "Max", "", "max@muster.test"),
    "moritz": ("another patient", "insurance", "patient", "Muster", "Moritz", "",
               "moritz@muster.test"),
}
READERS = ("--card --reader '00 00' --pin-file pin", "--card --reader '00 01' --pin-file pin")
WRONG = tuple(words.replace("pin-file pin", "pin-file wrong-pin") for words in READERS)
TEMPLATE = """\
valid_days = 28
[patient]
name = "Muster"
first_name = "Max"
birth_date = 1970-02-01
email = "max@muster.test"
[doctor]
name = "{name}"
first_name = "{first}"
email = "{email}"
organisation = "{organisation}"
[pharmacy]
name = "Löwen-Apotheke"
email = "loewe@apotheke.test"
[[medication]]
text = "Ibuprofen 600 mg"
dosage = "1-0-1 after meals"
quantity = 20
unit = "tablets"
"""


class Clinic:
    """The stage, the levels and where the servers are."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        (stage.folder / "cards").mkdir(mode=0o700)
        self.centres = {name: Level(stage, name, f"trust centre {name}") for name in SUFFIXES}
        self.people = {name: Level(stage, name, facts[0]) for name, facts in PEOPLE.items()}

    def __getattr__(self, name: str) -> Level:
        try:
            return self.people[name]
        except KeyError:
            raise AttributeError(name) from None

    def heading(self, text: str) -> None:
        self.stage.say(f"\n\n==== {text} ====")

    # ---- what is there before ------------------------------------------------

    def build(self) -> None:
        """Trust centres, cards, directories and servers."""
        stage, centres = self.stage, self.centres
        cards = stage.folder / "cards"
        words = "--passphrase-file words"
        (cards / "words").write_text("of the cards' files\n")
        for name, centre in centres.items():
            centre.write("words", b"of the trust centre\n")
            centre.run(f"pki init ca --organisation '{name}' --type p256 {words}")
            centre.run(f"pki crl --ca ca {words} -q")
        for name, (_, where, role, surname, first, organisation, email) in PEOPLE.items():
            self._card(name, where, role, surname, first, organisation, email)
        self._card("emil", "chamber", "physician", "Alt", "Emil", "", "emil@praxis.test",
                   "--begin 2024-01-01 --end 2025-01-01")
        for host, use in (("server", "tls-server --ip 127.0.0.1"), ("anna", "tls-client"),
                          ("paul", "tls-client"), ("rita", "tls-client"), ("max", "tls-client")):
            self._tls(host, use)
        self._servers()
        self._publish()

    def _card(self, name, where, role, surname, first, organisation, email, dates="") -> None:
        cards, centre = self.stage.folder / "cards", self.centres[where]
        pin = self.people[name].pin if name in self.people else "271828"
        (cards / f"{name}.pin").write_text(f"{pin}\n")
        (cards / f"{name}.puk").write_text(f"{pin}99\n")
        centre.run(
            f"card init --ca ca --role {role} --name {surname} --first-name {first} --email {email}"
            f" --organisation '{organisation}' --card-file {cards}/{name}.hpjc"
            f" --card-passphrase-file {cards}/words --pin-file {cards}/{name}.pin"
            f" --puk-file {cards}/{name}.puk --passphrase-file words -q {dates}")

    def _tls(self, host: str, use: str) -> None:
        """Key and certificate of a machine. The server's has no role, and its file no chain, as
        slapd with GnuTLS 3.7 wants it (docs/directories.md)."""
        centre = self.centres["insurance"]
        centre.run(f"pki request -o {host} --name {host} --type p256 --no-passphrase")
        centre.run(f"pki issue {host}.csr --ca ca --for {use} --passphrase-file words -q")
        pem = (centre.folder / f"{host}.crt").read_bytes()
        pem += (centre.folder / f"{host}.key").read_bytes()
        (self.people[host] if host in self.people else centre).write(f"{host}.pem", pem)

    def _servers(self) -> None:
        stage, insurance = self.stage, self.centres["insurance"]
        pem = insurance.folder / "server.pem"
        self.ca = stage.folder / "tls-ca.crt"
        folders = [centre.folder / "ca" for centre in self.centres.values()]
        self.ca.write_bytes(b"".join((folders[1] / name).read_bytes()
                                     for name in ("root.crt", "issuing.crt")))
        self.directories = {name: stage.directory(f"ldap-{name}", suffix, pem.read_bytes())
                            for name, suffix in SUFFIXES.items()}
        configuration = (
            f"[trust]\nroots = {[str(f / 'root.crt') for f in folders]}\n"
            f"intermediates = {[str(f / 'issuing.crt') for f in folders]}\n"
            f"require_crl = true\n[directory_cache]\npath = \"\"\n")
        for name, server in self.directories.items():
            configuration += (f"[directories.{name}]\nurl = \"{server.tls_url}\"\n"
                              f"base = \"{server.suffix}\"\nca = \"{self.ca}\"\n")
            login = f"bind_dn = \"{server.admin}\"\npassword_file = \"ldap-password\"\n"
            self.centres[name].write("ldap-password", b"secret\n")
            self.centres[name].write(
                "config.toml", f"{configuration}{login}".encode())
        for level in self.people.values():
            level.write("config.toml", configuration.encode())
        self.smtp = f"--smtp 127.0.0.1:{stage.mail_server(pem)} --smtp-ca {self.ca}"

    def _publish(self) -> None:
        """Lists and certificates into the directories; the register, which needs the lists."""
        cards = self.stage.folder / "cards"
        for name, centre in self.centres.items():
            for file in ("issuing.crt", "issuing.crl", "root.crl"):
                centre.run(f"pki publish ca/{file} --to {name} -q")
        for name, keys in (("anna", ("sig", "dec")), ("paul", ("dec",)), ("max", ("sig", "dec"))):
            where = PEOPLE[name][1]
            for key in keys:
                self.centres[where].run(
                    f"card cert export {key} --card-file {cards}/{name}.hpjc"
                    f" --card-passphrase-file {cards}/words -o {name}-{key}.crt -q")
                self.centres[where].run(f"pki publish {name}-{key}.crt --to {where} -q")
        command = ("prescription register serve --listen 127.0.0.1:0 --database register.sqlite "
                   "--tls-identity server.pem")
        address = self.stage.said(self.centres["insurance"].starts(command), "register at ")
        self.register = {name: f"--register {address} --tls-identity {name}.pem"
                         for name in ("anna", "paul", "rita", "max")}

    # ---- what people do again and again ----------------------------------------

    def write(self, name: str, more: str = "") -> None:
        """A doctor writes a prescription: rx.toml, rx.json."""
        facts = dict(zip(("name", "first", "organisation", "email"), PEOPLE[name][3:], strict=True))
        self.people[name].write("rx.toml", TEMPLATE.format(**facts).encode())
        self.people[name].run(f"prescription new --template rx.toml -o rx.json -f {more}")

    def post(self, sender: str, reader: int, file: str, to: str) -> pathlib.Path:
        """Send a file by mail; returns what the recipient fetched."""
        address = PEOPLE[to][6]
        self.people[sender].run(
            f"prescription send {file} {READERS[reader]} --to {address} {self.smtp}")
        before = set((self.people[to].folder / "inbox").glob("*.p7m"))
        self.people[to].run(f"prescription fetch {self.maildir(to)} -o inbox --for {address}")
        (got,) = set((self.people[to].folder / "inbox").glob("*.p7m")) - before
        return got.relative_to(self.people[to].folder)

    def maildir(self, name: str) -> pathlib.Path:
        return self.stage.folder / "mail" / PEOPLE[name][6]

    def agent(self, card: str, pin: str = "pin") -> tuple[subprocess.Popen, str]:
        """The patient's program in the doctor's room, and the option to ask it."""
        path = self.stage.folder / "agent"
        process = self.people[card].starts(
            f"prescription patient-agent --card --reader '00 01' --pin-file {pin} --once "
            f"--listen unix:{path}", stdin=subprocess.PIPE)
        self.stage.said(process, "patient's program at")
        return process, f"--patient-agent unix:{path}"

    def agree(self, process: subprocess.Popen) -> None:
        """The patient reads, and answers yes."""
        process.stdin.write("y\n")
        process.stdin.close()
        process.stdin = None

    def shown(self, process: subprocess.Popen) -> None:
        """What the patient's program said until its end."""
        for line in process.stdout:
            self.stage.say(f"    patient's screen: {line.rstrip()}")
        process.wait(20)

    def attack(self, *attacks: tuple[object, ...]) -> None:
        words = []
        for one in attacks:
            named = " ".join(pathlib.Path(str(word)).name for word in one)
            self.stage.say(f"\n  (somebody: attacker.py {named})")
            words += [*map(str, one), "--"]
        subprocess.run([sys.executable, HERE / "attacker.py", *words], check=True)


def play(folder: pathlib.Path) -> None:
    with Stage(folder) as stage:
        clinic = Clinic(stage)
        stage.say("trust centres, cards, directories, mail server, register and readers: wait...")
        stage.quiet = True
        clinic.build()
        stage.quiet = False
        stage.card_service()
        for scene in (pharmacist_public_key, doctor_private_key, patient_public_key,
                      patient_private_key, at_the_pharmacy, years_later, attacks):
            scene(clinic)
        stage.say("\n\n==== refused ====\n")
        for row in stage.refusals:
            stage.say(f"{row.tried}\n    {row.status}  {row.said}")
        stage.say(f"\nfour ways, {len(stage.refusals)} refusals: all as they must be")


def pharmacist_public_key(c: Clinic) -> None:
    c.heading("the physician prescribes, with the pharmacist's public key")
    c.stage.insert(0, "anna")
    c.stage.insert(1, "paul")
    c.write("anna")
    way = "--way pharmacist-public-key --pharmacist loewe@apotheke.test"
    c.anna.refused("wrong PIN of the doctor's card", 6, "wrong PIN",
                   f"prescription sign rx.json {WRONG[0]} {way} -o rx.p7m")
    c.stage.insert(0, "anna", loose=True)
    c.anna.refused("the doctor's card, pulled while it signs", 6, "the card was removed",
                   f"prescription sign rx.json {READERS[0]} {way} -o rx.p7m")
    c.stage.insert(0, "anna")
    c.anna.run(f"prescription sign rx.json {READERS[0]} {way} --no-certificates "
               "-o rx.p7m --document rx.p7s")
    got = c.post("anna", 0, "rx.p7m", "paul")
    c.paul.run(f"prescription open {got} {READERS[1]}", 0, "certificate that directory chamber has")
    dispense = f"prescription dispense {got} {READERS[1]} {c.register['paul']}"
    c.paul.run(f"{dispense} --patient max@muster.test --receipt receipt.p7m")
    c.paul.refused("dispensed a second time", 5, "was dispensed on",
                   f"{dispense} --receipt second.p7m")
    back = c.post("paul", 1, "receipt.p7m", "anna")
    c.anna.run(f"prescription verify {back} {READERS[0]} --of rx.p7s", 0, "is of this prescription")
    mail = next((c.maildir("paul") / "cur").iterdir())
    shutil.copy(mail, c.maildir("paul") / "new" / "again")
    c.paul.refused("replayed mail", 5, "came before",
                   f"prescription fetch {c.maildir('paul')} -o inbox")
    shutil.copy(mail, c.maildir("paul") / "new" / "changed")
    changed = c.maildir("paul") / "new" / "changed"
    changed.write_bytes(changed.read_bytes().replace(b"An encrypted", b"A encrypted", 1))
    c.paul.refused("changed mail", 4, "changed after it was signed",
                   f"prescription fetch {c.maildir('paul')} -o inbox")


def doctor_private_key(c: Clinic) -> None:
    c.heading("the physician prescribes, with the own private key: a signature that authorises")
    c.write("anna")
    c.anna.run(f"prescription sign rx.json {READERS[0]} --way doctor-private-key "
               "--pharmacist loewe@apotheke.test -o rx.p7m --document rx.p7s -f")
    got = c.post("anna", 0, "rx.p7m", "paul")
    c.paul.run(f"prescription dispense {got} {READERS[1]} {c.register['paul']} "
               "--receipt receipt.p7m -f", 0, "the doctor's private key authorised")
    c.attack(("unauthorised", c.anna.folder / "rx.p7m", c.paul.folder / "stripped.p7m"))
    c.paul.refused("stripped authorisation", 4, "was taken away",
                   f"prescription open stripped.p7m {READERS[1]}")
    c.write("anna")
    c.anna.run(f"prescription sign rx.json {READERS[0]} --way pharmacist-public-key --pharmacist "
               "loewe@apotheke.test -o later.p7m --document later.p7s")
    serial = json.loads((c.anna.folder / "rx.json").read_text())["identifier"]["value"]
    c.anna.run(f"prescription cancel {serial} {READERS[0]} {c.register['anna']}")
    c.paul.refused(
        "cancelled by the doctor", 5, "was cancelled on",
        f"prescription dispense {c.anna.folder}/later.p7m {READERS[1]} {c.register['paul']} "
        "--receipt none.p7m")
    c.stage.insert(1, "rita")
    c.rita.refused("wrong pharmacy", 3, "for somebody else",
                   f"prescription open {c.anna.folder}/rx.p7m {READERS[1]}")


def patient_public_key(c: Clinic) -> None:
    c.heading("the hospital prescribes, with the patient's public key")
    c.stage.insert(0, "hanna")
    c.stage.insert(1, "max")
    c.write("hanna", "--set reference.study=1.2.840.113619.2.1")
    c.hanna.run(f"prescription sign rx.json {READERS[0]} --way patient-public-key "
                "--patient max@muster.test -o rx.p7m --document rx.p7s")
    got = c.post("hanna", 0, "rx.p7m", "max")
    c.max.run(f"prescription open {got} {READERS[1]} --html rx.html")
    shutil.copy(c.max.folder / got, c.max.folder / "brought.p7m")


def patient_private_key(c: Clinic) -> None:
    c.heading("the specialist prescribes, with the private key of the patient, who is present")
    c.stage.insert(0, "stefan")
    c.write("stefan")
    sign = (f"prescription sign rx.json {READERS[0]} --way patient-private-key "
            "--pharmacist loewe@apotheke.test -o rx.p7m --document rx.p7s")
    c.stefan.refused("the patient's private key without a program of the patient's", 5,
                     "PIN never gets here", sign)
    c.stefan.refused("the patient's card in a reader without a PIN pad", 5, "has no PIN pad",
                     f"{sign} --patient-reader '00 01'")
    there = "max"
    for tried, card, pin, pulled, status, text in (
        ("wrong PIN of the patient's card", "max", "wrong-pin", False, 6, "wrong PIN"),
        ("the patient's card, pulled before it signs", "max", "pin", True, 6, "no card"),
        ("another patient's card", "moritz", "pin", False, 5, "is not of the patient"),
        ("", "max", "pin", False, 0, "signed, patient-private-key"),
    ):  # fmt: skip
        if there != card:
            c.stage.insert(1, card)
            there = card
        process, ask = c.agent(card, pin)
        c.stefan.begin(f"{sign} {ask}")
        if pulled:
            c.stage.said(process, "1. Ibuprofen")
            c.stage.pull(1)
            there = ""
            c.stage.say("\n  (the patient's card is pulled)")
        c.agree(process)
        said = c.stefan.finish(f"{sign} {ask}", status, text)
        c.shown(process)
        if tried:
            c.stefan.note(tried, status, text, said)
    c.specialist_s = c.post("stefan", 0, "rx.p7m", "paul")


def at_the_pharmacy(c: Clinic) -> None:
    c.heading("the patient is at the pharmacy, with the card")
    c.stage.insert(0, "paul")
    beside = "--patient-reader '00 01' --patient-pin-file"
    shutil.copy(c.max.folder / "brought.p7m", c.paul.folder / "brought.p7m")
    (c.paul.folder / "max.pin").write_text(f"{c.max.pin}\n")  # what the patient types there
    words = f"{READERS[0]} {c.register['paul']} {beside} max.pin -f --receipt"
    c.paul.refused("what is for the patient, without the patient's card", 3, "for somebody else",
                   f"prescription open brought.p7m {READERS[0]}")
    c.paul.run(f"prescription dispense brought.p7m {words} receipt-1.p7m")
    c.paul.run(f"prescription dispense {c.specialist_s} {words} receipt-2.p7m", 0,
               "the patient's private key authorised")
    for number in (1, 2):
        c.post("paul", 0, f"receipt-{number}.p7m", "max")
    c.max.run(f"prescription history inbox {READERS[1]} {c.register['max']}")
    c.stage.insert(1, "moritz")
    c.paul.refused("another patient's card at the pharmacy", 5, "is not of the patient",
                   f"prescription open {c.specialist_s} {READERS[0]} {beside} pin")
    shutil.copy(c.hanna.folder / "rx.p7m", c.moritz.folder)
    send = f"prescription send rx.p7m --to loewe@apotheke.test {c.smtp}"
    for text in ("2 tries are left", "1 try is left"):
        c.moritz.run(f"{send} {WRONG[1]}", 6, f"wrong PIN; {text}")
    c.moritz.refused("the last try, if nobody says so", 6, "this is the last try",
                     f"{send} {READERS[1]}")
    c.moritz.run(f"{send} {WRONG[1]} --last-try", 6, "it is blocked")
    c.moritz.refused("a blocked card", 6, "its PIN is blocked", f"{send} {READERS[1]}")


def years_later(c: Clinic) -> None:
    c.heading("years later: openssl verifies what a card signed")
    words = ["openssl", "cms", "-verify", "-inform", "DER", "-in", "rx.p7s", "-CAfile",
             str(c.centres["chamber"].folder / "ca" / "root.crt"), "-crl_check_all", "-out",
             "bundle.json"]
    done = subprocess.run(words, cwd=c.hanna.folder, capture_output=True, text=True, check=False)
    c.stage.say(f"\n$ {' '.join(words)}\n    {done.stderr.strip()}")
    same = (c.hanna.folder / "bundle.json").read_bytes() == \
        (c.hanna.folder / "rx.json").read_bytes()
    if done.returncode or not same:
        raise SystemExit("openssl does not verify it")
    c.hanna.run("prescription verify rx.p7s")


def attacks(c: Clinic) -> None:
    c.heading("what others try")
    paul, cards = c.centres["insurance"].folder / "paul-dec.crt", c.stage.folder / "cards"
    document, bundle = c.hanna.folder / "rx.p7s", c.hanna.folder / "rx.json"
    tries = (
        ("altered medication", 4, "changed after it was signed", "alter", document, ""),
        ("stripped signature", 4, "its signature was taken away", "strip", document, ""),
        ("expired doctor", 5, "expired on", "sign", bundle, "emil"),
        ("a pharmacist in the doctor's place", 5, "may not prescribe", "sign", bundle, "rita"),
        ("another doctor's document", 4, "names another doctor", "sign", bundle, "anna"),
    )
    c.attack(*(
        (what, source, paul, c.paul.folder / f"forged-{number}.p7m",
         *((cards / f"{card}.hpjc", cards / "words", cards / f"{card}.pin") if card else ()))
        for number, (_, _, _, what, source, card) in enumerate(tries)))
    for number, (tried, status, text, *_) in enumerate(tries):
        c.paul.refused(tried, status, text, f"prescription open forged-{number}.p7m {READERS[0]}")
    chamber = c.centres["chamber"]
    found = json.loads(chamber.run("pki list --ca ca Anna --json"))
    rows = found["certificates"] if isinstance(found, dict) else found
    for row in rows:
        chamber.run(f"pki revoke {row['serial']} --ca ca --reason keyCompromise -q")
    chamber.run("pki crl --ca ca --passphrase-file words -q")
    chamber.run("pki publish ca/issuing.crl --to chamber -q")
    c.paul.refused("revoked doctor", 5, "was revoked on",
                   f"prescription open {c.anna.folder}/later.p7m {READERS[0]}")
