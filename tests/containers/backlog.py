"""A backlog of facts for the settlers of a running system, with one message in it that nobody can read.

They are facts that were true and are known: fees that settled, told again. Whoever reads them twice does nothing twice.
"""

import json
from typing import Any

from tests.containers.system import System, docker

CONSUMER = "settler-fee-settled-v1"

_PILE_UP = """
import asyncio, json, nats, sys, uuid
async def pile_up(payment_hash, amount_msat, settle_index, number):
    client = await nats.connect(open("/secrets/nats_url").read().strip(), inbox_prefix="_INBOX_invoicer")
    stream = client.jetstream(timeout=30)
    for i in range(number):
        told = {"id": uuid.uuid4().hex, "occurred_at_ms": 0, "payment_hash": payment_hash,
                "amount_msat": int(amount_msat), "settle_index": int(settle_index)}
        body = b"{" if i == number // 2 else json.dumps(told).encode()
        subject = "fee.settled.v1." + (payment_hash if i != number // 2 else "0" * 64)
        await stream.publish_async(subject, body, headers={"Nats-Msg-Id": f"again:{told['id']}"})
        if i % 1000 == 999:
            await stream.publish_async_completed()
    await client.close()
asyncio.run(pile_up(*sys.argv[1:4], int(sys.argv[4])))
"""


def pile_up(system: System, number: int) -> None:
    """So many messages for the settlers' consumer of fees; the middle one is no JSON."""
    fee = system.rows("select payment_hash, amount_msat, settle_index from fees order by settle_index limit 1")[0]
    system.inside("invoicer", _PILE_UP, *fee, str(number))


def left(system: System) -> int:
    """Messages that the settlers have not taken yet, as NATS counts them."""
    for stream in _monitored(system):
        for consumer in stream.get("consumer_detail", ()):
            if consumer["name"] == CONSUMER:
                return int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
    raise AssertionError(f"NATS knows no consumer {CONSUMER}")


def dead_letters(system: System) -> int:
    """Messages that were given up, as they are kept."""
    return sum(int(stream["state"]["messages"]) for stream in _monitored(system) if stream["name"] == "DEAD")


def _monitored(system: System) -> list[dict[str, Any]]:
    program = (
        "from urllib.request import urlopen; "
        "print(urlopen('http://nats:8222/jsz?consumers=true&streams=true', timeout=10).read().decode())"
    )
    told = json.loads(docker("exec", system.container("miner"), "python3.11", "-c", program))
    return [stream for account in told["account_details"] for stream in account["stream_detail"]]
