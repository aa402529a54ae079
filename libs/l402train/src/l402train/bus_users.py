"""The bus's users as NATS takes them: names, passwords, and what each may say and hear (`l402core.rights`).

It makes no password and starts no server.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
from l402core.rights import ANSWER_WITHIN, Rights, rights_of
from l402core.secret import Secret

from l402train.migration import consumers


def read(file: Path) -> dict[str, Secret]:
    """The passwords by user, as a JSON file has them. Raises OSError, msgspec.DecodeError."""
    told = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    return {user: Secret(password.encode()) for user, password in told.items()}


def block(passwords: Mapping[str, Secret]) -> str:
    """The `authorization` block of a server's configuration, a user for each password. Raises KeyError for a stranger."""
    known = consumers()
    users = [
        {"user": user, "password": password.reveal().decode(), "permissions": _permissions(rights_of(user, known))}
        for user, password in passwords.items()
    ]
    return f"authorization {json.dumps({'users': users}, indent=2)}\n"


def _permissions(rights: Rights) -> dict[str, object]:
    told: dict[str, object] = {
        "publish": {"allow": list(rights.publish)},
        "subscribe": {"allow": list(rights.subscribe)},
    }
    return {**told, "allow_responses": {"max": 1, "expires": ANSWER_WITHIN}} if rights.answers else told


def url_of(server: str, user: str, passwords: Mapping[str, Secret]) -> str:
    """The server's URL with a user's name and password; without, where the server has no users."""
    if not passwords:
        return server
    parts = urlsplit(server)
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(passwords[user].reveal(), safe='')}@{parts.netloc}"))
