"""Keys and certificates of a one-node cluster, made new for each start: one authority, and whom it vouches for.

It knows names and groups as Kubernetes' own rules know them, and refuses to know what any of them does.
"""

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from layout import API, API_SERVICE, DOMAIN, GATEWAY, NODE, Layout

CLIENTS: Final = {
    "admin": ("l402-train:admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "api-to-kubelet": ("l402-train:api", "system:masters"),
    "front-proxy": ("front-proxy", ""),
}
"""Name and group of each."""
SERVERS: Final = {
    "api": ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"],
    "node": [NODE],
}
WITH_KUBECONFIG: Final = ("admin", "controllers", "scheduler", "kubelet", "proxy")
VALID: Final = datetime.timedelta(days=30)


def make(layout: Layout) -> None:
    """All of them into the folder, with a kubeconfig for each that speaks to the API server."""
    now = datetime.datetime.now(datetime.UTC)
    key, authority = _authority(now)
    _write(layout.file("pki", "ca.crt"), authority.public_bytes(serialization.Encoding.PEM))
    for name, (common_name, group) in CLIENTS.items():
        _issue(layout, name, _named(common_name, group), [], key, authority, now)
    for name, hosts in SERVERS.items():
        _issue(layout, name, _named(hosts[0], ""), hosts, key, authority, now)
    accounts = ec.generate_private_key(ec.SECP256R1())
    _write(layout.file("pki", "accounts.key"), _pem(accounts))
    for name in WITH_KUBECONFIG:
        _write(layout.file("etc", f"{name}.kubeconfig"), _kubeconfig(layout, name).encode())
    _write(layout.kubeconfig, _kubeconfig(layout, "admin").encode())


def _authority(now: datetime.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("l402-train cluster", "")
    rights = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        _certificate(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(rights, critical=True)
    )
    return key, made.sign(key, hashes.SHA256())


def _issue(
    layout: Layout,
    name: str,
    subject: x509.Name,
    hosts: list[str],
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    now: datetime.datetime,
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    uses = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    made = _certificate(subject, authority.subject, own.public_key(), now).add_extension(
        x509.ExtendedKeyUsage([uses]), critical=False
    )
    if hosts:
        addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in (GATEWAY, API_SERVICE, "127.0.0.1")]
        known = x509.SubjectAlternativeName([*map(x509.DNSName, hosts), *addresses])
        made = made.add_extension(known, critical=False)
    _write(layout.file("pki", f"{name}.crt"), made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    _write(layout.file("pki", f"{name}.key"), _pem(own))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + VALID)


def _named(common_name: str, group: str) -> x509.Name:
    named = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        named.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(named)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _kubeconfig(layout: Layout, name: str) -> str:
    pki = layout.root / "pki"
    return f"""\
apiVersion: v1
kind: Config
clusters: [{{ name: one-node, cluster: {{ server: "{API}", certificate-authority: {pki}/ca.crt }} }}]
users: [{{ name: {name}, user: {{ client-certificate: {pki}/{name}.crt, client-key: {pki}/{name}.key }} }}]
contexts: [{{ name: one-node, context: {{ cluster: one-node, user: {name} }} }}]
current-context: one-node
"""


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
