"""`l402-train bake`: one macaroon per service, at a node of one's own. It keeps no macaroon that can do more."""

import json
import sys
from pathlib import Path

import msgspec
from l402core.lnd.wire import LndEndpoint

from l402train import credentials
from l402train.exits import Exit, Stop, stop_for


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Which macaroons, of which node, into which folder."""

    node: LndEndpoint
    """With a macaroon that may bake others."""
    roles: tuple[str, ...]
    into: Path


async def bake(order: Order, *, as_json: bool) -> Exit:
    """Bake, write with mode 0600, print what each may call. Raises Stop, Unavailable, Unauthorized."""
    unknown = [role for role in order.roles if role not in credentials.ALLOWED]
    if unknown or not order.roles:
        raise Stop(
            Exit.USAGE, f"there is no service {', '.join(unknown) or 'to bake for'}: {', '.join(credentials.ALLOWED)}"
        )
    try:
        order.into.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise stop_for(error, order.into) from error
    made: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for role in dict.fromkeys(order.roles):
        path = order.into / f"{role}.macaroon"
        await credentials.bake(order.node, credentials.ALLOWED[role], path)
        made[role] = (path, credentials.ALLOWED[role])
    told = {role: {"file": str(path), "uris": uris} for role, (path, uris) in made.items()}
    sys.stdout.write(json.dumps(told) + "\n" if as_json else _text(made))
    return Exit.FINE


def _text(made: dict[str, tuple[Path, tuple[str, ...]]]) -> str:
    lines = [line for role, (path, uris) in made.items() for line in (f"{role}  {path}", *(f"  {uri}" for uri in uris))]
    return "\n".join([*lines, ""])
