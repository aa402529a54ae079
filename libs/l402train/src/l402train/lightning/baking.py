"""`l402-train bake` and `macaroon`: one macaroon per service, and what one opens. It keeps none that can do more."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from l402core.lnd import permissions
from l402core.lnd.scope import Scope, read_scope
from l402core.lnd.wire import LndEndpoint

from l402train import credentials
from l402train.exits import Exit, Stop, stop_for

MAX_FILE_BYTES = 1 << 16


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Which macaroons, of which node, into which folder."""

    node: LndEndpoint
    """With a macaroon that may bake others."""
    roles: tuple[str, ...]
    into: Path


async def bake(order: Order, *, as_json: bool) -> Exit:
    """Bake, write with mode 0600, read again, print what each opens. Raises Stop, Unavailable, Unauthorized."""
    known_roles(order.roles)
    try:
        order.into.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise stop_for(error, order.into) from error
    made: dict[str, Any] = {}
    for role in dict.fromkeys(order.roles):
        path = order.into / f"{role}.macaroon"
        former = read(path).root_key if path.exists() else ""
        await credentials.bake(order.node, credentials.ALLOWED[role], path)
        scope = read(path)
        if set(scope.opens) != set(credentials.ALLOWED[role]):
            path.unlink()
            raise Stop(Exit.UNTRUE, f"the node baked another macaroon for {role} than was asked for; it was removed")
        made[role] = {"file": str(path), "uris": scope.opens, "root_key": scope.root_key, "replaces_root_key": former}
    text = [line for role, one in made.items() for line in (f"{role}  {one['file']}", *_indented(_told(one)))]
    sys.stdout.write((json.dumps(made) if as_json else "\n".join(text)) + "\n")
    return Exit.FINE


def _told(one: dict[str, Any]) -> tuple[str, ...]:
    replaced = (
        f"; revoke {one['replaces_root_key']} once its service has read the file" if one["replaces_root_key"] else ""
    )
    return (*one["uris"], f"root key {one['root_key']}{replaced}")


async def revoke(node: LndEndpoint, root_key: str, folder: Path, *, forced: str, as_json: bool) -> Exit:
    """Delete a root key, unless a macaroon in the folder was made under it. Raises Stop, Unavailable, Unauthorized."""
    if not root_key.isdecimal():
        raise Stop(Exit.USAGE, f"{root_key!r} is no number of a root key; `l402-train macaroon FILE` tells it")
    using = _under(root_key, folder)
    if using and forced != root_key:
        raise Stop(Exit.UNTRUE, f"{', '.join(using)} in {folder} would open nothing any more: bake again first")
    gone = await permissions.revoke(node, int(root_key))
    if not gone:
        raise Stop(Exit.NOT_FOUND, f"the node has no root key {root_key}")
    told = {"root_key": root_key, "revoked": True}
    sys.stdout.write(
        (json.dumps(told) if as_json else f"root key {root_key} is gone: its macaroons open nothing") + "\n"
    )
    return Exit.FINE


def _under(root_key: str, folder: Path) -> list[str]:
    """Macaroons that a service has and that were made under it."""
    return [path.name for path in sorted(folder.glob("*.macaroon")) if read(path).root_key == root_key]


async def inspect(path: Path, role: str | None, *, as_json: bool) -> Exit:
    """Print what a macaroon opens and, for a service, what of it is too much or missing. Raises Stop, Malformed."""
    allowed = credentials.ALLOWED[known_roles((role,))[0]] if role else None
    scope = read(path)
    told: dict[str, Any] = {
        "file": str(path), "root_key": scope.root_key, "opens": scope.opens, "caveats": scope.caveats,
    }  # fmt: skip
    if allowed is not None:
        told |= {"too_much": scope.excess(allowed), "missing": tuple(sorted(set(allowed) - set(scope.opens)))}
    titles = {"opens": "opens", "caveats": "narrowed by", "too_much": f"too much for {role}", "missing": "missing"}
    text = [
        f"{path}  (root key {scope.root_key})",
        *(line for name, title in titles.items() if told.get(name) for line in _block(title, told[name])),
    ]
    sys.stdout.write((json.dumps(told) if as_json else "\n".join(text)) + "\n")
    return Exit.UNTRUE if told.get("too_much") or told.get("missing") else Exit.FINE


def known_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """The roles as given. Raises Stop for one that there is not."""
    unknown = [role for role in roles if role not in credentials.ALLOWED]
    if unknown or not roles:
        raise Stop(
            Exit.USAGE, f"there is no service {', '.join(unknown) or 'to bake for'}: {', '.join(credentials.ALLOWED)}"
        )
    return roles


def read(path: Path) -> Scope:
    """What the macaroon in a file opens. Raises Stop, Malformed."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise stop_for(error, path) from error
    return read_scope(raw)


def _block(title: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    return (f"{title}:", *_indented(lines))


def _indented(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"  {line}" for line in lines)
