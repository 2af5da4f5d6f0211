"""Recipients and identities from files of other programs: certificates, SPKI, PKCS #8, PKCS #12."""

import contextlib
import functools
import hashlib
import multiprocessing
import pickle
import subprocess

import foreign_keys as make
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.container.stanza import CLASSICAL_TYPES, POST_QUANTUM_TYPES
from dicomcrypt.keys import spki, x509
from dicomcrypt.keys.batch import check_recipients
from dicomcrypt.keys.keyfile import identity_text, read_identities

KINDS = pytest.mark.parametrize("kind", make.KINDS)
TYPES = {"x25519": 1, "hpke-p256": 2, "rsa-oaep-sha256": 3, "mlkem768": 10, "mlkem1024": 11,
         "hpke-p384": 12, "hpke-p521": 13}
AGREE, ENCIPHER = ("digital_signature", "key_agreement"), ("digital_signature", "key_encipherment")
USES = {kind: AGREE if "p" == kind[5:6] or kind == "x25519" else ENCIPHER for kind in make.KINDS}
KEY, CORE = bytes(range(32)), bytes(64)


def never():
    raise AssertionError("asked for a passphrase")


@pytest.fixture
def write(tmp_path):
    def put(data, name="key.pem"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


# ---- every kind of key ----------------------------------------------------


@KINDS
def test_a_key_opens_what_was_wrapped_to_its_public_half(kind, write):
    [recipient] = dc.load_recipients(write(make.public_pem(kind)))
    [identity] = dc.load_identities(write(make.private_pem(kind)))
    assert identity.recipient == recipient
    assert hash(identity.recipient) == hash(recipient)
    assert identity.algorithm == recipient.algorithm == kind
    assert identity.stanza_type == recipient.stanza_type == TYPES[kind]
    assert identity.hint == recipient.hint
    stanza = recipient.wrap(KEY, 1, CORE)
    assert (stanza.type, stanza.hint) == (TYPES[kind], recipient.hint)
    assert identity.unwrap(stanza, CORE) == KEY
    assert (kind in ("mlkem768", "mlkem1024")) == (stanza.type in POST_QUANTUM_TYPES)
    assert (stanza.type in POST_QUANTUM_TYPES) != (stanza.type in CLASSICAL_TYPES)
    if kind == "rsa-oaep-sha256":
        assert recipient.key_bits == identity.key_bits == 2048
    blob = dc.encrypt(b"a study", [recipient])
    assert dc.decrypt(blob, [identity]) == b"a study"


@KINDS
def test_the_hint_is_of_what_the_specification_says(kind, write):
    public = make.private(kind).public_key()
    of = public.public_bytes_raw() if kind == "x25519" else public.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    [recipient] = dc.load_recipients(write(make.public_pem(kind)))
    assert recipient.hint == hashlib.sha256(of).digest()[:8]


@KINDS
def test_a_changed_stanza_does_not_open_and_says_nothing_more(kind):
    recipient = spki.recipient_of(make.private(kind).public_key())
    identity = spki.identity_of(make.private(kind))
    stanza = recipient.wrap(KEY, 1, CORE)
    for at in (0, len(stanza.body) // 2, len(stanza.body) - 1):
        body = bytearray(stanza.body)
        body[at] ^= 1
        assert identity.unwrap(stanza._replace(body=bytes(body)), CORE) is None
    for body in (b"", stanza.body[:-1], stanza.body + b"\0", bytes(len(stanza.body))):
        assert identity.unwrap(stanza._replace(body=body), CORE) is None
    assert identity.unwrap(stanza._replace(hint=bytes(8)), CORE) is None
    assert identity.unwrap(stanza._replace(type=99), CORE) is None
    if kind != "rsa-oaep-sha256":  # OAEP without a label: the slot's MAC binds it
        assert identity.unwrap(stanza._replace(scope=2), CORE) is None
        assert identity.unwrap(stanza, CORE + b"x") is None


def test_what_is_not_32_bytes_under_rsa_is_no_key():
    recipient = spki.recipient_of(make.private("rsa-oaep-sha256").public_key())
    identity = spki.identity_of(make.private("rsa-oaep-sha256"))
    for size in (0, 31, 33):
        assert identity.unwrap(recipient.wrap(bytes(size), 1, CORE), CORE) is None


def test_keys_reach_a_spawned_worker_through_a_pipe():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    kind = "rsa-oaep-sha256"
    identity = spki.identity_of(make.private(kind))
    worker = context.Process(target=make.unwrap_elsewhere, args=(theirs,), daemon=True)
    worker.start()
    theirs.close()
    ours.send((identity, identity.recipient.wrap(KEY, 1, CORE), CORE))
    assert ours.recv() == KEY
    worker.join(30)


@KINDS
def test_pickled_keys_are_the_same_keys(kind):
    identity = spki.identity_of(make.private(kind))
    again = pickle.loads(pickle.dumps(identity))  # noqa: S301
    assert again.recipient == identity.recipient
    assert again.unwrap(identity.recipient.wrap(KEY, 4, CORE), CORE) == KEY
    recipient = x509.from_certificate(make.certificate(kind))
    assert pickle.loads(pickle.dumps(recipient)) == recipient  # noqa: S301


@KINDS
def test_no_key_is_shown(kind):
    identity = spki.identity_of(make.private(kind))
    assert identity.hint.hex() in repr(identity)
    assert len(repr(identity)) < 70


def test_a_key_of_ours_and_its_pem_are_one_recipient(write):
    ours = dc.X25519Identity(make.private("x25519").private_bytes_raw())
    [theirs] = dc.load_identities(write(make.private_pem("x25519")))
    assert theirs.recipient == ours.recipient
    assert identity_text(theirs) == identity_text(ours)


def test_the_weakest_decides_for_all_new_kinds():
    found = {kind: spki.recipient_of(make.private(kind).public_key()) for kind in make.KINDS}
    hybrid = dc.Identity.generate().recipient
    for kind in make.KINDS:
        if kind.startswith("mlkem"):
            check_recipients({1: [hybrid, found[kind]]})
        else:
            for other in (hybrid, found["mlkem768"]):
                with pytest.raises(dc.UsageError, match="as weak as"):
                    check_recipients({1: [found[kind]], 2: [other]})
                check_recipients({1: [found[kind], other]}, allow_classical=True)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1"])
def test_a_key_that_cannot_be_encrypted_to_is_named(kind, write):
    for load, data in ((dc.load_recipients, make.public_pem(kind)),
                       (dc.load_identities, make.private_pem(kind))):
        weak = kind == "secp256k1" and load is dc.load_recipients
        with pytest.raises(dc.PolicyError if weak else dc.UsageError,
                           match=f"(?i)key.pem.*{kind}.*can be encr") as error:
            load(write(data))
        assert "\n" not in str(error.value)


def test_a_short_rsa_key_is_refused_by_policy(write):
    for load, data in ((dc.load_recipients, make.public_pem("rsa-1024")),
                       (dc.load_identities, make.private_pem("rsa-1024")),
                       (dc.load_recipients, make.pem(make.certificate("rsa-1024")))):
        with pytest.raises(dc.PolicyError, match=r"key.pem.*1024 bits"):
            load(write(data))


# ---- private keys in files -------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, form) for kind in make.KINDS for form in ("pem", "der", "pkcs12")
     if form != "pkcs12" or kind in make.PACKABLE],
)
def test_encrypted_keys_open_with_their_passphrase_only(kind, form, write):
    data = {
        "pem": lambda: make.private_pem(kind, make.PASSPHRASE),
        "der": lambda: make.private_der(kind, make.PASSPHRASE),
        "pkcs12": lambda: make.packed(kind, make.certificate(kind), passphrase=make.PASSPHRASE),
    }[form]()
    path = write(data)
    [found] = dc.load_identities(path, passphrase=lambda: make.PASSPHRASE)
    assert found.recipient == spki.recipient_of(make.private(kind).public_key())
    with pytest.raises(dc.NoIdentityError, match=r"key.pem.*wrong passphrase") as caught:
        dc.load_identities(path, passphrase=lambda: "wrong one")
    assert "wrong one" not in str(caught.value)
    with pytest.raises(dc.UsageError, match=r"key.pem.*passphrase"):
        dc.load_identities(path)


def test_keys_without_a_passphrase_ask_for_none(write):
    kind = "hpke-p256"
    for data in (make.private_pem(kind), make.private_der(kind),
                 make.private_pem(kind, form=PrivateFormat.TraditionalOpenSSL),
                 make.packed(kind, make.certificate(kind))):
        assert len(dc.load_identities(write(data), passphrase=never)) == 1


def test_a_sealed_identity_file_may_hold_a_pem_key(write):
    secret = dc.Passphrase("correct horse", memory_kib=64, passes=1, lanes=1)
    path = write(dc.encrypt(make.private_pem("rsa-oaep-sha256"), [secret]))
    [found] = dc.load_identities(path, lambda blob: dc.decrypt(blob, [secret]))
    assert found.algorithm == "rsa-oaep-sha256"


def test_several_keys_and_text_between_them(write):
    data = b"Bag Attributes\n" + make.private_pem("x25519") + b"\nother\n" + make.private_pem(
        "hpke-p384")
    assert [i.algorithm for i in dc.load_identities(write(data))] == ["x25519", "hpke-p384"]


def test_an_identity_keeps_the_certificate_that_lies_beside_it(write):
    kind = "hpke-p256"
    own, ca = make.certificate(kind), make.ca_certificate()
    for data in (make.private_pem(kind) + make.pem(ca, own), make.packed(kind, own, [ca])):
        [identity] = dc.load_identities(write(data))
        assert identity.recipient.certificate == own
        assert identity.recipient.chain == (ca,)
    [identity] = dc.load_identities(write(make.private_pem(kind)))
    assert identity.recipient.certificate is None


# ---- certificates -----------------------------------------------------------


@KINDS
def test_certificates_in_every_form_give_their_recipient(kind, write):
    certificate = make.certificate(kind, uses=USES[kind], authority=False)
    expected = spki.recipient_of(make.private(kind).public_key())
    forms = [make.pem(certificate), certificate.public_bytes(Encoding.DER),
             make.packed(None, certificate)]
    if kind in make.PACKABLE:
        forms.append(make.packed(kind, certificate))
    for data in forms:
        [found] = dc.load_recipients(write(data))
        assert found == expected
        assert found.certificate == certificate
    sealed = write(make.packed(None, certificate, passphrase=make.PASSPHRASE))
    [found] = dc.load_recipients(sealed, passphrase=lambda: make.PASSPHRASE)
    assert found == expected
    with pytest.raises(dc.NoIdentityError, match="wrong passphrase"):
        dc.load_recipients(sealed, passphrase=lambda: "other")


@KINDS
def test_a_usage_that_forbids_encryption_is_refused_by_policy(kind, write):
    wrong = ENCIPHER if USES[kind] is AGREE else AGREE
    for uses in (("digital_signature",), ("key_cert_sign",), wrong):
        with pytest.raises(dc.PolicyError, match=r"key.pem.*certificate abc.*forbids encryption"):
            dc.load_recipients(write(make.pem(make.certificate(kind, uses=uses))))
    dc.load_recipients(write(make.pem(make.certificate(kind, uses=None))))


def test_of_a_bundle_the_leaves_are_meant_and_the_authorities_are_their_chain(write):
    ca, sub = make.ca_certificate(), make.ca_certificate("sub", 2)
    alice = make.certificate("hpke-p256", name="alice", uses=AGREE, serial=10)
    signing = make.certificate("hpke-p384", name="alice", uses=("digital_signature",), serial=11)
    bob = make.certificate("rsa-oaep-sha256", name="bob", serial=12)
    found = dc.load_recipients(write(make.pem(ca, alice, sub, signing, bob)))
    assert [r.certificate for r in found] == [alice, bob]
    assert all(r.chain == (ca, sub) for r in found)
    other = make.certificate("hpke-p384", name="carol", uses=("digital_signature",), serial=13)
    with pytest.raises(dc.PolicyError, match=r"certificate d:.*forbids"):
        dc.load_recipients(write(make.pem(alice, other)))
    with pytest.raises(dc.UsageError, match="only certificates of CAs"):
        dc.load_recipients(write(make.pem(ca, sub)))
    with pytest.raises(dc.PolicyError, match="forbids"):
        dc.load_recipients(write(make.pem(ca)))


def test_a_secret_key_where_a_public_one_belongs_is_refused(write):
    for data in (make.private_pem("hpke-p256"), make.private_der("hpke-p256"),
                 make.private_pem("hpke-p256") + make.pem(make.certificate("hpke-p256"))):
        with pytest.raises(dc.UsageError, match=r"key.pem.*secret key"):
            dc.load_recipients(write(data))
    with pytest.raises(dc.UsageError, match="no private key in it"):
        dc.load_identities(write(make.pem(make.certificate("hpke-p256"))))


def test_keys_for_signatures_alone_are_refused(write, tmp_path, need_command):
    openssl = need_command("openssl", "openssl")
    run = lambda *a: subprocess.run([openssl, *a], check=True, capture_output=True)  # noqa: E731
    key, crt = tmp_path / "pss.key", tmp_path / "pss.crt"
    run("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:1024", "-out", key)
    run("req", "-x509", "-new", "-key", key, "-subj", "/CN=x", "-out", crt)
    for form in ("PEM", "DER"):
        public = tmp_path / form
        run("pkey", "-in", key, "-pubout", "-outform", form, "-out", public)
        with pytest.raises(dc.PolicyError, match="signatures alone"):
            dc.load_recipients(public)
    with pytest.raises(dc.PolicyError, match="signatures alone"):
        dc.load_recipients(crt)


def test_compressed_points_are_the_same_recipient(tmp_path, need_command):
    openssl = need_command("openssl", "openssl")
    key, public = tmp_path / "key", tmp_path / "pub"
    key.write_bytes(make.private_pem("hpke-p256"))
    subprocess.run([openssl, "ec", "-in", key, "-pubout", "-conv_form", "compressed", "-out",
                    public], check=True, capture_output=True)
    assert public.read_bytes() != make.public_pem("hpke-p256")
    [found] = dc.load_recipients(public)
    assert found == spki.recipient_of(make.private("hpke-p256").public_key())


def test_files_of_openssl_are_read(tmp_path, need_command):
    openssl = need_command("openssl", "openssl")
    key, crt, p12 = (tmp_path / n for n in ("o.key", "o.crt", "o.p12"))
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:word",
                    "-subj", "/CN=x", "-keyout", key, "-out", crt, "-days", "9"],
                   check=True, capture_output=True)
    subprocess.run([openssl, "pkcs12", "-export", "-in", crt, "-inkey", key, "-passin",
                    "pass:word", "-passout", "pass:word", "-out", p12], check=True,
                   capture_output=True)
    [recipient] = dc.load_recipients(crt)  # self-signed, CA:TRUE, alone
    for path in (key, p12):
        [identity] = dc.load_identities(path, passphrase=lambda: "word")
        assert identity.recipient == recipient


def test_openssl_opens_a_stanza_of_rsa(tmp_path, need_command):
    openssl = need_command("openssl", "openssl")
    kind = "rsa-oaep-sha256"
    stanza = spki.recipient_of(make.private(kind).public_key()).wrap(KEY, 1, CORE)
    (tmp_path / "key").write_bytes(make.private_pem(kind))
    done = subprocess.run(
        [openssl, "pkeyutl", "-decrypt", "-inkey", tmp_path / "key", "-pkeyopt",
         "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt",
         "rsa_mgf1_md:sha256"], input=stanza.body, check=True, capture_output=True,
    )  # fmt: skip
    assert done.stdout == KEY


# ---- bad input ---------------------------------------------------------------


def test_cut_and_changed_files_are_one_clear_line(write):
    whole = make.pem(make.certificate("rsa-oaep-sha256", uses=ENCIPHER))
    cases = [whole[:-30], whole[:200], whole.replace(b"MII", b"AAA", 1), b"-----BEGIN",
             whole.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST"),
             b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
             b"-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----\n",
             b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
             b"\x30\x82\x01\x00" + bytes(256), b"\x30\x80\x02\x01\x03\xff", b"\x30\xff"]
    for data in cases:
        for load in (dc.load_recipients, dc.load_identities):
            with pytest.raises((dc.UsageError, dc.DamagedError), match=r"key\.pem") as caught:
                load(write(data))
            assert "\n" not in str(caught.value)


def test_what_the_library_finds_only_when_asked_is_found_here(write):
    whole = make.certificate("hpke-p256", name="somebody").public_bytes(Encoding.DER)
    version = whole.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x6e", 1)
    subject = whole.replace(b"\x0c\x08somebody", b"\x0c\x08someb\xff\xfe\xfd", 1)
    for data in (version, subject):
        assert data != whole
        with pytest.raises(dc.DamagedError, match=r"key\.pem.*malformed") as caught:
            dc.load_recipients(write(data))
        assert "somebody" not in str(caught.value)


def test_huge_chains_are_refused_before_they_are_parsed(write):
    one = make.pem(make.ca_certificate())
    with pytest.raises(dc.UsageError, match="over 256"):
        dc.load_recipients(write(one * 257))
    with pytest.raises(dc.UsageError, match="over 256"):
        dc.load_recipients(write(b"-----BEGIN CERTIFICATE-----\n" * 30_000))
    with pytest.raises(dc.UsageError, match="too large"):
        dc.load_recipients(write(one * 3000))


@functools.cache
def blobs():
    kind = "hpke-p256"
    return [
        make.certificate(kind, uses=AGREE, email="a@b.example").public_bytes(Encoding.DER),
        make.packed(kind, make.certificate(kind)), make.private_der(kind),
        make.private_pem(kind), make.pem(make.certificate(kind, uses=AGREE)),
    ]  # fmt: skip


@settings(database=None, deadline=None, max_examples=150)
@given(st.data())
def test_no_changed_byte_makes_anything_but_an_error_of_ours(data):
    blob = data.draw(st.sampled_from(blobs()))
    changed = bytearray(blob)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(changed[: data.draw(st.integers(1, len(changed)))])
    for read in (lambda: read_identities(changed, lambda: "word"),
                 lambda: x509.recipients_in(changed, lambda: "word")):
        with contextlib.suppress(dc.DicomcryptError):
            read()

