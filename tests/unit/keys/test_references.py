"""What a user may write for a recipient: files, groups, addresses, third parties' schemes."""

import sys

import foreign_keys as make
import pytest

import dicomcrypt as dc
from dicomcrypt.keys import references, tokenuri
from dicomcrypt.keys.keyfile import recipient_text
from dicomcrypt.keys.references import References
from dicomcrypt.keys.spki import recipient_of
from dicomcrypt.keys.x509 import from_certificate

NAMES = ("anna", "bert", "cora", "dirk")
PEOPLE = {name: dc.X25519Identity.generate().recipient for name in NAMES}


@pytest.fixture
def folder(tmp_path):
    for name, recipient in PEOPLE.items():
        (tmp_path / f"{name}.pub").write_text(recipient_text(recipient))
    return tmp_path


def names(found):
    return [next(n for n in NAMES if PEOPLE[n] == r) for r in found]


def refuse(text, reference, error=dc.UsageError):
    with pytest.raises(error, match=text) as caught:
        References().recipients(str(reference))
    assert "\n" not in str(caught.value)


# ---- files that name others -------------------------------------------------


def test_a_recipient_file_names_others_and_has_groups(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "team").write_text(
        f"# a team\n{recipient_text(PEOPLE['anna'])}\nfile ../bert.pub\n"
        "group ct\n  file ../cora.pub\ngroup night.shift\nfile ../dirk.pub\nfile team#ct\n"
        "group ct\nfile ../anna.pub\n"
    )
    (folder / "all").write_text("file sub/team#ct\nfile dirk.pub\n")
    team, load = folder / "sub" / "team", References().recipients
    assert names(load(f"{team}#ct")) == ["cora", "anna"]
    assert names(load(f"{team}#night.shift")) == ["dirk", "cora", "anna"]
    assert names(load(str(folder / "all"))) == ["cora", "anna", "dirk"]
    every = ["anna", "bert", "cora", "dirk", "cora", "anna", "anna"]
    assert names(dc.load_recipients(team)) == every
    assert names(references.each_once(dc.load_recipients(team))) == list(NAMES)
    refuse("no group 'mri'", f"{team}#mri")
    (folder / "x#ct").write_text("file anna.pub\n")
    assert names(load(str(folder / "x#ct"))) == ["anna"]


def test_a_file_may_name_certificates(folder):
    (folder / "c.pem").write_bytes(make.pem(make.certificate("hpke-p256")))
    (folder / "team").write_text("file c.pem\nfile anna.pub\n")
    found = dc.load_recipients(folder / "team")
    assert [r.stanza_type for r in found] == [2, 1]
    assert found[0].certificate is not None
    refuse("groups are in text files", f"{folder / 'c.pem'}#ct")


@pytest.mark.parametrize(("text", "says"), [
    ("file here\n", "includes itself"), ("file other\n", "includes itself"),
    ("file missing\n", "cannot read"), ("file\n", "'file' without"), ("email\n", "'email' without"),
    ("group\n", "'group' without"), ("group a b\n", "name is made of"),
    ("group x\n", "no recipient"), ("group x\ngroup y\n", "no recipient"),
    ("files a.pub\n", "not a recipient"), ("file .\n", "not a regular file"),
    ("file /dev/zero\n", "not a regular file"), ("email a@b.example\n", "no directories"),
    ("anna.pub\n", "not a recipient"),
])  # fmt: skip
def test_lines_that_cannot_be_meant_are_refused_by_name(folder, text, says):
    (folder / "here").write_text(text)
    (folder / "other").write_text("file here\n")
    refuse(f"here.*{says}", folder / "here")


def test_depth_and_number_are_bounded(folder):
    for number in range(9):
        (folder / f"n{number}").write_text(f"file n{number + 1}\n")
    (folder / "n9").write_text("file anna.pub\n")
    assert names(References().recipients(str(folder / "n3"))) == ["anna"]
    refuse("over 8 deep", folder / "n0")
    (folder / "many").write_text("file anna.pub\n" * 256)
    refuse("over 256 recipient files", folder / "many")
    (folder / "keys").write_text((recipient_text(PEOPLE["anna"]) + "\n") * 1025)
    refuse("over 1024 recipients", folder / "keys")


def test_an_object_is_no_recipient(folder):
    (folder / "o.dcmx").write_bytes(dc.encrypt(b"", [PEOPLE["anna"]]))
    refuse("an encrypted object", folder / "o.dcmx")


def test_of_two_the_one_with_a_certificate_stays():
    bare = recipient_of(make.private("hpke-p256").public_key())
    certified = from_certificate(make.certificate("hpke-p256"))
    for order in ([bare, certified], [certified, bare]):
        [kept] = references.each_once(order)
        assert kept.certificate is not None  # it has to be checked, however it came


# ---- the configuration ------------------------------------------------------


@pytest.fixture
def configure(folder, monkeypatch):
    def put(text):
        (folder / "config.toml").write_text(text)
        monkeypatch.setenv("DICOMCRYPT_CONFIG", str(folder / "config.toml"))

    return put


def test_groups_of_the_configuration(configure):
    configure('[groups]\nct = ["anna.pub", "@night"]\nnight = ["bert.pub"]\nloop = ["@loop2"]\n'
              'loop2 = "@loop"\nbad = 3\nempty = []\n')
    assert names(References().recipients("@ct")) == ["anna", "bert"]
    refuse("'@loop' includes itself", "@loop")
    refuse("no list of files", "@bad")
    for missing in ("empty", "none", "", "a b", "../x"):
        refuse("no group", f"@{missing}")


# ---- addresses --------------------------------------------------------------


def resolver(*certificates):
    return References(find_email=lambda address: list(certificates))


def test_an_address_is_looked_up_and_its_certificate_must_be_for_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    mail = "Doc@Hospital.example"
    good = make.certificate("hpke-p256", uses=("key_agreement",), email="doc@hospital.example")
    signing = make.certificate("hpke-p384", uses=("digital_signature",), email=mail)
    found = resolver(signing, good).recipients(mail)
    assert [r.certificate for r in found] == [good]
    for wrong in (make.certificate("hpke-p256"), make.certificate("hpke-p256", email="a@b.c")):
        with pytest.raises(dc.PolicyError, match="not for"):
            resolver(wrong).recipients(mail)
        with pytest.raises(dc.PolicyError, match="not for"):
            resolver(good, wrong).recipients(mail)
    with pytest.raises(dc.PolicyError, match="forbids"):
        resolver(signing).recipients(mail)
    with pytest.raises(dc.UsageError, match="no certificate for"):
        resolver().recipients(mail)
    refuse("no directories", mail)
    (folder / mail).write_text(recipient_text(PEOPLE["anna"]))
    assert names(References().recipients(mail)) == ["anna"]  # a file that is there is meant


# ---- third parties ------------------------------------------------------------

PLUGIN = '''
from dicomcrypt.container.stanza import Stanza
from dicomcrypt.errors import PolicyError


class Key:
    algorithm, stanza_type, hint = "xor", 200, b"vaultkms"

    def __init__(self, kind=200):
        self.stanza_type = kind

    def wrap(self, key, scope, binding):
        return Stanza(200, scope, self.hint, bytes(b ^ 85 for b in key))

    def matches(self, stanza):
        return (stanza.type, stanza.hint) == (200, self.hint)

    def unwrap(self, stanza, binding):
        return bytes(b ^ 85 for b in stanza.body) if self.matches(stanza) else None


class Loader:
    def load_recipient(self, reference):
        return self.load_identity(reference)

    def load_identity(self, reference):
        scheme, _, rest = reference.partition(":")
        if scheme != "vaultkms":
            return None
        if rest == "broken":
            raise RuntimeError("SECRET")
        if rest == "refused":
            raise PolicyError("not today")
        return [{"good": Key, "low": lambda: Key(7), "high": lambda: Key(256),
                 "odd": object}[rest]()]


loader = Loader()
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "vaultkms-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "vaultkms_keys.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vaultkms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dicomcrypt.keys]\nvaultkms = vaultkms_keys:loader\nabsent = no_such_module:loader\n"
    )
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("vaultkms_keys", None)


def test_a_third_party_adds_a_key_type_by_an_entry_point(plugin, tmp_path):
    [recipient] = References().recipients("vaultkms:good")
    [identity] = references.identities("vaultkms:good")
    blob = dc.encrypt(b"a study", [recipient])
    assert dc.decrypt(blob, [identity]) == b"a study"
    (tmp_path / "o.dcmx").write_bytes(blob)
    assert dc.inspect(tmp_path / "o.dcmx")["recipients"][0]["type"] == "foreign type 200"
    with pytest.raises(dc.UsageError, match="as weak as"):
        dc.encrypt(b"", [recipient, dc.Identity.generate().recipient])


@pytest.mark.parametrize(("reference", "says"), [
    ("vaultkms:low", "stanza type 7"), ("vaultkms:high", "stanza type 256"),
    ("vaultkms:odd", "cannot wrap"), ("vaultkms:broken", "'vaultkms' failed: RuntimeError"),
    ("otherkms:x", "no plug-in knows"), ("absent:x", "'absent' does not load: ModuleNotFoundError"),
])  # fmt: skip
def test_what_third_parties_get_wrong_is_said(plugin, reference, says):
    refuse(says, reference)
    with pytest.raises(dc.UsageError, match=says.replace("wrap", "unwrap")) as caught:
        references.identities(reference)
    assert "SECRET" not in str(caught.value)


def test_errors_of_third_parties_keep_their_status(plugin):
    refuse("not today", "vaultkms:refused", dc.PolicyError)


def test_schemes_without_plug_ins_are_refused():
    refuse("no plug-in knows the scheme 'nokms'", "nokms:x")
    refuse("names an identity", "pkcs11:token=a")
    refuse("cannot read", "c:x")


# ---- pkcs11: URIs ---------------------------------------------------------------


def test_a_pkcs11_uri_is_taken_apart(configure):
    uri = tokenuri.parse("pkcs11:token=My%20card;serial=0%31;object=key%3Bone;id=%00%ff;type="
                         "private;slot-id=7?module-path=/lib/x%26y.so&pin-source=file:/run/p%20n")
    assert (uri.token, uri.serial, uri.label, uri.id) == ("My card", "01", "key;one", b"\0\xff")
    assert (uri.slot_id, uri.module, uri.pin_file) == (7, "/lib/x&y.so", "/run/p n")
    configure('[pkcs11]\nmodule = "/lib/m.so"\n')
    assert tokenuri.parse("PKCS11:").module == "/lib/m.so"
    assert tokenuri.parse("pkcs11:?pin-source=/run/pin").pin_file == "/run/pin"
    assert tokenuri.parse("pkcs11:?pin-source=file:///run/pin").pin_file == "/run/pin"


@pytest.mark.parametrize(("text", "says"), [
    ("token=a", "which PKCS #11 module"), ("token=a?pin-value=1234&module-path=x", "PIN does not"),
    ("pin-value=1234", "PIN does not"), ("tokens=a?module-path=x", "'tokens'"),
    ("token=a;token=b?module-path=x", "twice"), ("token?module-path=x", "'token'"),
    ("type=public?module-path=x", "type=private"), ("slot-id=x?module-path=x", "a number"),
    ("slot-id=-1?module-path=x", "a number"), ("token=%ff?module-path=x", "no text"),
    ("token=%00?module-path=x", "no text"), ("?module-path=", "no text"),
    ("?module-path=x&pin-source=|cat", "file:FILE"), ("?module-path=x&pin-source=http://a/b",
     "file:FILE"), ("?module-path=x&pin-source=file://host/b", "file:FILE"),
    ("?module-path=x&module-name=y", "'module-name'"), ("token=" + "a" * 5000, "too long"),
])  # fmt: skip
def test_a_uri_that_cannot_be_meant_is_refused_without_the_pin(text, says):
    with pytest.raises(dc.UsageError, match=says) as caught:
        tokenuri.parse(f"pkcs11:{text}")
    assert "1234" not in str(caught.value)
