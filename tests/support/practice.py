"""People with keys and certificates of two trust centres, and what they prescribe."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from certificates import DAY, Maker, fresh_key
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from dicomcrypt.pki.checking import Trust
from dicomcrypt.prescription import envelope, signed
from dicomcrypt.prescription.composing import compose
from dicomcrypt.prescription.holders import Holder
from dicomcrypt.prescription.opening import Sources
from dicomcrypt.prescription.protecting import PRESCRIPTION, WAYS, authorisation, protect

ANNA, MAX, PAUL = "anna@clinic.test", "max@home.test", "loewe@pharmacy.test"
FACTS = {
    "patient": {"name": "Muster", "first_name": "Max", "birth_date": "1970-02-01", "email": MAX,
                "number": "A123456780"},
    "doctor": {"name": "Arzt", "first_name": "Anna", "email": ANNA, "organisation": "Praxis"},
    "pharmacy": {"name": "Löwen-Apotheke", "email": PAUL},
    "medication": [
        {"text": "Ibuprofen 600 mg", "dosage": "1-0-1 after meals", "quantity": 20,
         "unit": "tablets", "code": "01016144", "system": "http://fhir.de/CodeSystem/ifa/pzn",
         "substitution": True},
        {"text": "Pantoprazol 20 mg", "dosage": "1-0-0", "note": "for as long as the first"},
    ],
    "reference": {"study": "1.2.840.113619.2.1"},
}


@dataclass
class Clinic:
    """One root, two trust centres below it: of doctors, and of all the others."""

    root: Maker
    doctors: Maker
    people: Maker

    def person(self, name, role, email, *, kind="p256", of=None, **options) -> Holder:
        above = of or (self.doctors if role == "physician" else self.people)
        made = above.leaf(name, role=role, email=email, key=fresh_key(kind), **options)
        return Holder(made.key, made.certificate, (above.certificate,))

    def machine(self, name, use) -> Holder:
        """For TLS, with the address of loopback; without a role, since GnuTLS 3.7 (slapd of Debian)
        does not parse certificates with object identifiers of a UUID."""
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self.people.leaf(name, uses=[use], key=fresh_key(),
                                extra=[(address, False)])
        return Holder(made.key, made.certificate, (self.people.certificate,))

    @functools.cached_property
    def anna(self):
        return self.person("Anna Arzt", "physician", ANNA)

    @functools.cached_property
    def max(self):
        return self.person("Max Muster", "patient", MAX, kind="p384")

    @functools.cached_property
    def paul(self):
        return self.person("Paul Pille", "pharmacist", PAUL, kind="rsa-2048")

    @functools.cached_property
    def rita(self):
        """A pharmacist elsewhere."""
        return self.person("Rita Rezept", "pharmacist", "rita@elsewhere.test")

    @functools.cached_property
    def moritz(self):
        """Another patient."""
        return self.person("Moritz Muster", "patient", "moritz@home.test")

    def lists(self, *revoked, **options):
        """Current lists of everybody who issues; revoked: as `Maker.crl` takes them."""
        return (self.root.crl(), self.doctors.crl(*revoked, **options),
                self.people.crl(*revoked, **options))

    def trust(self, *revoked, **options) -> Trust:
        return Trust((self.root.certificate,),
                     (self.doctors.certificate, self.people.certificate),
                     self.lists(*revoked, **options))

    def sources(self, *revoked, **options) -> Sources:
        return Sources(self.trust(*revoked, **options))

    def protected(self, way=WAYS[3], doctor=None, facts=FACTS, trust=None, **options):
        """A prescription in one of the ways, wrapped for pharmacist and patient."""
        options = {"pharmacist": self.paul.certificate, "patient": self.max.certificate,
                   "authorise": self.authorise, **options}
        trust = trust or self.trust()
        return protect(compose(facts), doctor or self.anna, way, trust=trust, crls=trust.crls,
                       **options)

    def authorise(self, document, sealed):
        """The patient, who agrees to everything."""
        return authorisation(document, sealed, "patient-private-key", self.max,
                             certificates=False)


def make() -> Clinic:
    root = Maker.root("Health root", begin=-60 * DAY)
    return Clinic(root, root.authority("Chamber of physicians", begin=-60 * DAY),
                  root.authority("Health insurance", begin=-60 * DAY))


@functools.cache
def clinic() -> Clinic:
    """One for all tests of a process, since keys take their time."""
    return make()


def key_pem(key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def tls_pem(holder: Holder) -> bytes:
    chain = (holder.certificate, *holder.chain)
    return b"".join(
        c.public_bytes(serialization.Encoding.PEM) for c in chain) + key_pem(holder.key)


def write_p12(folder: Path, name: str, holder: Holder, passphrase: str | None = None) -> Path:
    """NAME.p12 and NAME.crt."""
    encryption = serialization.NoEncryption() if passphrase is None else (
        serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).build(passphrase.encode()))
    path = folder / f"{name}.p12"
    path.write_bytes(pkcs12.serialize_key_and_certificates(
        None, holder.key, holder.certificate, list(holder.chain), encryption))
    path.chmod(0o600)
    (folder / f"{name}.crt").write_bytes(b"".join(
        c.public_bytes(serialization.Encoding.PEM) for c in (holder.certificate, *holder.chain)))
    return path




def forced(
    clinic: Clinic, *, doctor=None, way=WAYS[3], facts=FACTS, outer=None, medications=None,
    content=None, kind=PRESCRIPTION, crls=(), unsigned=False, readers=None,
) -> bytes:
    """A protected prescription as `protect` would never make it.

    outer: who signs around the envelope; medications: another hash; content: other bytes than the
    document's; unsigned: without the doctor's signature."""
    made = compose(facts)
    document = signed.sign(
        content or made.data, doctor or clinic.anna, kind, crls=crls,
        attributes={signed.WAY: way, signed.MEDICATIONS: medications or made.medication_hash},
    )
    readers = readers or [clinic.paul.certificate, clinic.max.certificate]
    sealed = envelope.seal(made.data if unsigned else document, readers)
    if outer is None:
        return sealed
    return authorisation(document, sealed, way, outer)
