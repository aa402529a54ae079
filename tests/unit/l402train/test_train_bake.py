"""`l402-train bake`: macaroons for exactly what each service calls, in files that only their owner reads."""

import json
from pathlib import Path

import pytest
from l402core.errors import Unauthorized
from l402core.lnd.grpc import connect
from l402core.lnd.permissions import ATTESTOR, SETTLER
from l402train.exits import Exit, Stop
from l402train.lightning.baking import Order, bake
from lndsim import Simulation


async def test_each_service_gets_its_calls_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settler may read channels, the attestor may not; neither may pay. What is printed is what was baked."""
    async with await Simulation.start(tmp_path / "sim") as simulation:
        await simulation.add_node("node")
        order = Order(node=simulation.endpoint("node"), roles=("settler", "attestor"), into=tmp_path / "baked")
        assert await bake(order, as_json=True) == Exit.FINE
        told = json.loads(capsys.readouterr().out)
        assert told["settler"]["uris"] == list(SETTLER)
        assert told["attestor"]["uris"] == list(ATTESTOR)
        for role, allowed in (("settler", True), ("attestor", False)):
            path = tmp_path / "baked" / f"{role}.macaroon"
            assert path.stat().st_mode & 0o777 == 0o600
            node = connect(type(order.node)(order.node.host, order.node.tls_cert_path, path))
            assert (await node.info()).synced
            if allowed:
                assert await node.channels() == []
            else:
                with pytest.raises(Unauthorized):
                    await node.channels()
            with pytest.raises(Unauthorized):
                await node.add_invoice(amount_msat=1_000, memo="", expiry_s=60, cltv_expiry=80)
            await node.close()


@pytest.mark.parametrize("roles", [(), ("gateway",)])
async def test_a_service_without_a_node_gets_none(tmp_path: Path, roles: tuple[str, ...]) -> None:
    """The gateway and the workers call no node, so there is nothing to bake for them."""
    async with await Simulation.start(tmp_path / "sim") as simulation:
        await simulation.add_node("node")
        order = Order(node=simulation.endpoint("node"), roles=roles, into=tmp_path / "baked")
        with pytest.raises(Stop, match="invoicer, settler, attestor, peer"):
            await bake(order, as_json=False)
    assert not (tmp_path / "baked").exists()
