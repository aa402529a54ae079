"""Secrets of a simnet on Kubernetes, as deploy/simnet and deploy/k8s name them.

`tools/simnet.py secrets DIR` makes every key and password once, in DIR, and writes DIR/values.yaml, which tells deploy/k8s the
public ones; run again it changes nothing. `tools/simnet.py macaroons` copies what the job `lightning` baked. It installs
nothing; KUBECONFIG says where.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from l402core.rights import MIGRATION, SERVICES
from l402train.containers.shelves import Shelves
from l402train.parts import SPONSOR
from l402train.peers import names

BUILT: Final = Path(__file__).parent.parent / ".tools" / "kubernetes" / "kubectl"
THEIRS: Final = ("nats", "redis", "postgres", "btcd", "operator", SPONSOR)
"""Parts that mount their shelf whole."""
WITH_KEYS: Final = ("gateway", "settler", "attestor", "worker")
WITH_NODE: Final = ("invoicer", "settler", "attestor")


def main() -> int:
    """One command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["secrets", "macaroons"])
    parser.add_argument("dir", nargs="?", type=Path, help="with secrets: where everything secret is kept")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--peers", type=int, default=3)
    options = parser.parse_args()
    if options.command == "macaroons":
        _apply(options.namespace, macaroons(options.namespace))
        return 0
    if options.dir is None:
        parser.error("secrets: where to?")
    peers = names(options.peers)
    Shelves(options.dir, peers).fill()
    _apply(options.namespace, secrets(options.dir, peers))
    values = options.dir / "values.yaml"
    values.write_text(yaml.safe_dump(public(options.dir)))
    print(f"secrets are in namespace {options.namespace}, public keys in {values}")
    return 0


def secrets(root: Path, peers: tuple[str, ...]) -> dict[str, dict[str, bytes]]:
    """By name, what each secret holds."""

    def read(part: str, file: str) -> bytes:
        return (root / part / file).read_bytes()

    shelves = {
        f"simnet-{part}": {one.name: one.read_bytes() for one in (root / part).iterdir()} for part in (*THEIRS, *peers)
    }
    keys = {f"l402-{part}": {f"{part}.json": read(part, "key.json")} for part in WITH_KEYS}
    return {
        **shelves,
        **keys,
        "l402-nats": {f"{user}-url": read(user, "nats_url") for user in (*SERVICES, MIGRATION)},
        "l402-redis": {"url": read("gateway", "redis_url")},
        "l402-postgres": {
            "books-url": read("settler", "database_url"),
            "decisions-url": read("attestor", "database_url"),
        },
    }


def public(root: Path) -> dict[str, Any]:
    """What deploy/k8s takes as values: nothing of it is secret."""
    told = {
        name: (root / "operator" / name).read_text() for name in ("attestor", "reading", "settler", "peers", "sponsors")
    }
    expected = {f"expected_{name}": json.loads(told[name]) for name in ("peers", "sponsors")}
    return {
        "public": {name: told[name] for name in ("attestor", "reading", "settler")},
        "settler": {"config": expected},
    }


def macaroons(namespace: str) -> dict[str, dict[str, bytes]]:
    """A secret for each service that has a node, from the volume where the job left them."""

    def read(part: str, file: str) -> bytes:
        return _kubectl(namespace, "exec", "deploy/operator", "--", "cat", f"/shelves/{part}/{file}")

    return {
        f"l402-lnd-{part}": {"tls.cert": read(part, "tls.cert"), f"{part}.macaroon": read(part, "node.macaroon")}
        for part in WITH_NODE
    }


def _apply(namespace: str, made: dict[str, dict[str, bytes]]) -> None:
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "data": {key: base64.b64encode(value).decode() for key, value in held.items()},
        }
        for name, held in made.items()
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    _kubectl(namespace, "apply", "--filename=-", given=listed.encode())


def _kubectl(namespace: str, *words: str, given: bytes | None = None) -> bytes:
    program = os.environ.get("KUBECTL") or (str(BUILT) if BUILT.exists() else shutil.which("kubectl"))
    if program is None:
        sys.exit("simnet: kubectl is missing: tools/build-kubernetes core")
    done = subprocess.run([program, "-n", namespace, *words], input=given, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"simnet: kubectl {words[0]}: {done.stderr.decode()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
