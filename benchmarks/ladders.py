"""How many hold invoices one plain client makes, locks and settles per second on the simulated network."""

import asyncio
import hashlib
import tempfile
import time
from pathlib import Path

from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState
from l402core.secret import Secret
from lndsim import Simulation

LADDERS, RUNGS, AMOUNT_MSAT = 70, 6, 100_000


async def main() -> None:
    """One channel, 70 ladders of 6 rungs: the shape of a full round."""
    with tempfile.TemporaryDirectory() as folder:
        async with await Simulation.start(Path(folder)) as simulation:
            for name in ("hub", "peer"):
                await simulation.add_node(name)
            simulation.network.open_channel("hub", "peer", 10**12, 5 * 10**11)
            hub, peer = connect(simulation.endpoint("hub")), connect(simulation.endpoint("peer"))
            await measure(hub, peer)
            await hub.close()
            await peer.close()


async def measure(hub: GrpcNode, peer: GrpcNode) -> None:
    """Make, lock, settle; each stage timed apart."""
    preimages = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(LADDERS * RUNGS)]
    started = time.perf_counter()
    invoices = await asyncio.gather(
        *(
            peer.add_hold_invoice(
                hashlib.sha256(one).digest(), amount_msat=AMOUNT_MSAT, memo="", expiry_s=3600, cltv_expiry=80
            )
            for one in preimages
        )
    )
    made = time.perf_counter()
    await asyncio.gather(
        *(hub.pay(one.bolt11, timeout_s=60, fee_limit_msat=0, cltv_limit=500) for one in invoices),
        *(accepted(peer, hashlib.sha256(one).digest()) for one in preimages),
    )
    locked = time.perf_counter()
    await asyncio.gather(*(peer.settle_invoice(Secret(one)) for one in preimages))
    settled = time.perf_counter()
    count = len(preimages)
    print(f"AddHoldInvoice {count / (made - started):8.0f}/s")
    print(f"locked         {count / (locked - made):8.0f}/s   (paid and ACCEPTED at the payee)")
    print(f"settled        {count / (settled - locked):8.0f}/s")


async def accepted(peer: GrpcNode, payment_hash: bytes) -> None:
    """Until the invoice is ACCEPTED."""
    async for view in peer.watch_invoice(payment_hash):
        if view.state is InvoiceState.ACCEPTED:
            return


if __name__ == "__main__":
    asyncio.run(main())
