"""Certificates of all kinds for TLS, and contexts that use them."""

from types import SimpleNamespace

from certificates import DAY, Maker

from dicomcrypt.pki.checking import Trust
from dicomcrypt.standard.tls import client_context, server_context


def make_world(folder):
    """Certificates of all kinds as files: one PEM of key and chain each, and the roots."""
    root = Maker.root("Root", begin=-60 * DAY)
    issuer = root.authority("Issuer", begin=-60 * DAY)
    stranger = Maker.root("Stranger", begin=-60 * DAY)
    both = ["tls-server", "tls-client"]
    made = {
        "node": issuer.leaf("node", uses=both),
        "hospital": issuer.leaf("hospital", uses=both, role="hospital"),
        "doctor": issuer.leaf("doctor", uses=both, role="physician"),
        "rsa": issuer.leaf("rsa", uses=both, kind="rsa-2048"),
        "expired": issuer.leaf("expired", uses=both, begin=-30 * DAY, end=-DAY),
        "revoked": issuer.leaf("revoked", uses=both),
        "stranger": stranger.leaf("stranger", uses=both),
        "signer": issuer.leaf("signer", uses=["signing"]),
        "server-only": issuer.leaf("server", uses=["tls-server"]),
    }
    for name, one in made.items():
        above = issuer.pem() if name != "stranger" else b""
        (folder / f"{name}.pem").write_bytes(one.key_pem() + one.pem() + above)
        (folder / f"{name}.key").write_bytes(one.key_pem())
        (folder / f"{name}.crt").write_bytes(one.pem() + above)
    (folder / "ca.pem").write_bytes(root.pem() + issuer.pem())
    (folder / "strangers.pem").write_bytes(stranger.pem())
    crl = issuer.crl(made["revoked"])
    trust = Trust((root.certificate,), (issuer.certificate,), (crl,))
    return SimpleNamespace(file=lambda name: folder / name, trust=trust,
                           strangers=Trust((stranger.certificate,)))


def client(world, name="node", **options):
    options = {"trust": world.trust, "check_hostname": False, **options}
    return client_context(world.file(f"{name}.pem"), **options)


def server(world, name="node", **options):
    return server_context(world.file(f"{name}.pem"), **{"trust": world.trust, **options})
