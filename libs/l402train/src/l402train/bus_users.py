"""The bus's users as NATS takes them: names, passwords, and what each may say and hear (`l402core.rights`).

It makes no password and starts no server.
"""

import json
from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from l402core.rights import ANSWER_WITHIN, Rights, rights_of

from l402train.migration import consumers


def block(passwords: Mapping[str, str]) -> str:
    """The `authorization` block of a server's configuration, a user for each password. Raises KeyError for a stranger."""
    known = consumers()
    users = [
        {"user": user, "password": password, "permissions": _permissions(rights_of(user, known))}
        for user, password in passwords.items()
    ]
    return f"authorization {json.dumps({'users': users}, indent=2)}\n"


def _permissions(rights: Rights) -> dict[str, object]:
    told: dict[str, object] = {
        "publish": {"allow": list(rights.publish)},
        "subscribe": {"allow": list(rights.subscribe)},
    }
    return {**told, "allow_responses": {"max": 1, "expires": ANSWER_WITHIN}} if rights.answers else told


def url_of(server: str, user: str, passwords: Mapping[str, str]) -> str:
    """The server's URL with a user's name and password; without, where the server has no users."""
    if not passwords:
        return server
    parts = urlsplit(server)
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(passwords[user], safe='')}@{parts.netloc}"))
