"""How each of our services is started: its module, its environment, its word that it is ready. It starts none itself."""

import contextlib
import hashlib
import http.client
import json
import os
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import msgspec

from l402train.credentials import macaroon_of
from l402train.folder import Folder
from l402train.keys import Public
from l402train.parts import COORDINATOR, OBSERVER

MAX_ANSWER_BYTES = 1 << 22
READY_S = 90.0
"""A worker imports torch, which takes long on a cold disk."""

MODULES: dict[str, tuple[str, ...]] = {
    "gateway": ("l402_gateway",),
    "invoicer": ("l402_invoicer",),
    "settler": ("l402_settler",),
    "attestor": ("l402_oracle", "attestor"),
    "worker": ("l402_oracle", "worker"),
    "peer": ("l402_peer_agent",),
}


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """What the services must be told of the network around them."""

    network: str
    nats_urls: dict[str, str]
    """By user of the bus, with its password."""
    redis_url: str
    attestor_port: int
    gateway_port: int
    nodes: dict[str, Any]
    public: Public
    rounds: int
    """0: no limit."""
    expected: tuple[str, ...]
    """Identities whom a phase waits for; none: deadlines only."""
    seed: int
    sponsor: str = ""
    """The public key of the sponsor that runs here; '' for none."""

    def __repr__(self) -> str:
        return f"Wiring({self.network}, rounds={self.rounds})"  # URLs of the bus have passwords

    @property
    def attestor_url(self) -> str:
        """The oracle's own URL, as the terms name it."""
        return f"http://127.0.0.1:{self.attestor_port}"


def base_environment() -> dict[str, str]:
    """Ours, with one thread of arithmetic per process: two cores are shared by a dozen of them."""
    fixed = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **fixed}


def command(service: str) -> list[str]:
    """`python -m ...` for a service's role."""
    return [sys.executable, "-m", *MODULES[service]]


def environment(service: str, name: str, folder: Folder, wiring: Wiring) -> dict[str, str]:
    """The variables of one process. What the caller has set wins over our choices, and never over the wiring."""
    prefix = f"L402_{service.upper()}_"
    common: dict[str, object] = {
        "nats_url": wiring.nats_urls[service],
        "data_dir": folder.run,
        "objects_url": f"file://{folder.objects}",
        "trace_file": folder.trace(name),
        "key_file": folder.keys / f"{service}.json",
    }
    wired = {**common, **_own(service, folder, wiring)}
    chosen = {prefix + key.upper(): value for key, value in _choices(service, wiring).items()}
    told = {prefix + key.upper(): str(value) for key, value in wired.items()}
    return {**chosen, **base_environment(), **told}


CHOICES: dict[str, dict[str, str]] = {
    "gateway": {"show_channels": "true", "show_metrics": "true"},
    "settler": {
        "commit_s": "60",
        "lock_s": "30",
        "upload_s": "30",
        "judge_s": "60",
        "never_sent_s": "20",
        "sponsor_wait_s": "30",
    },
}
"""Deadlines are generous on purpose: a phase ends early once every expected peer is through it."""


HAND_OVERS = "handovers.json"
"""Beside the key files: which key follows which. It is public."""
PLACES = 8
"""A round's places where no more peers run here."""


def _choices(service: str, wiring: Wiring) -> dict[str, str]:
    """Ours, which the caller's environment may overrule; every peer that runs here has a place."""
    places = {"places": str(max(PLACES, len(wiring.expected)))} if service == "settler" else {}
    return {**CHOICES.get(service, {}), **places}


def _own(service: str, folder: Folder, wiring: Wiring) -> dict[str, object]:
    if service == "settler":
        return {
            **lnd(folder, wiring, "settler", COORDINATOR),
            "database_url": folder.books_url,
            "attestor_public": wiring.public.attestor,
            "reading_public": wiring.public.reading,
            "hand_overs": folder.keys / HAND_OVERS,
            "attestor_url": wiring.attestor_url,
            "expected_peers": json.dumps(wiring.expected),
            "rounds": wiring.rounds,
            "expected_sponsors": json.dumps([wiring.sponsor] if wiring.sponsor else []),
        }
    if service == "invoicer":
        return {
            **lnd(folder, wiring, "invoicer", COORDINATOR),
            "attestor": wiring.public.attestor,
            "hand_overs": folder.keys / HAND_OVERS,
        }
    if service == "attestor":
        return {
            **lnd(folder, wiring, "attestor", OBSERVER),
            "database_url": folder.decisions_url,
            "settler_public": wiring.public.settler,
            "hand_overs": folder.keys / HAND_OVERS,
            "http_port": wiring.attestor_port,
            "init_seed": wiring.seed,
        }
    if service == "gateway":
        return {
            "redis_url": wiring.redis_url,
            "http_port": wiring.gateway_port,
        }
    return {}


def lnd(folder: Folder, wiring: Wiring, service: str, node: str) -> dict[str, object]:
    """Which node, and the macaroon that was baked for this service."""
    return {
        "lnd_host": wiring.nodes[node]["host"],
        "lnd_tls_cert": wiring.nodes[node]["tls_cert"],
        "lnd_macaroon": macaroon_of(folder, service),
        "lnd_network": "simnet",
    }


def node_options(folder: Folder, wiring: Wiring, name: str) -> dict[str, str]:
    """The same, as options of a command."""
    told = lnd(folder, wiring, name, name)
    options = {"--lnd": "host", "--tls-cert": "tls_cert", "--macaroon": "macaroon", "--network": "network"}
    return {option: str(told[f"lnd_{field}"]) for option, field in options.items()}


def ready_at(url_file: Path) -> str | None:
    """The service's base URL, once it has written it and answers 200 to /readyz."""
    try:
        url = url_file.read_text().strip()
    except OSError:
        return None
    parts = readiness(url) if url else None
    return url if parts is not None and all(parts.values()) else None


def missing_at(url_file: Path) -> str:
    """What a service that is not ready says it lacks; "" where it says nothing."""
    with contextlib.suppress(OSError):
        parts = readiness(url_file.read_text().strip()) or {}
        return ", ".join(f"{name} fails in /readyz" for name, well in parts.items() if not well and name != "ready")
    return ""


def readiness(url: str) -> dict[str, bool] | None:
    """Which parts a service says are ready; None when it does not answer."""
    try:
        status, body = get(f"{url}/readyz")
        parts = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    told = {str(name): bool(value) for name, value in parts.items()} if isinstance(parts, dict) else {}
    return told if status == 200 else {**told, "ready": False}


def sha256(body: bytes) -> str:
    """Of a request's body, hex, as its signature covers it."""
    return hashlib.sha256(body).hexdigest()


def get(url: str, *, timeout_s: float = 5.0, max_bytes: int = MAX_ANSWER_BYTES) -> tuple[int, bytes]:
    """(status, body) of a plain GET. Raises OSError, HTTPException."""
    return _ask("GET", url, None, {}, timeout_s, max_bytes)


def post(url: str, body: bytes, headers: dict[str, str], *, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """(status, body) of a POST of JSON. Raises OSError, HTTPException."""
    return _ask("POST", url, body, {**headers, "Content-Type": "application/json"}, timeout_s)


def _ask(
    method: str, url: str, body: bytes | None, headers: dict[str, str], timeout_s: float,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> tuple[int, bytes]:  # fmt: skip
    parts = urllib.parse.urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path or "/", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(max_bytes)
    finally:
        connection.close()
