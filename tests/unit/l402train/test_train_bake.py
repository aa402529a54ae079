"""`l402-train bake`: macaroons for exactly what each service calls, in files that only their owner reads."""

import json
from pathlib import Path

import pytest
from l402core.errors import Unauthorized
from l402core.lnd.grpc import connect
from l402core.lnd.permissions import ATTESTOR, SETTLER
from l402train.exits import Exit, Stop
from l402train.lightning.baking import Order, bake, inspect, read, revoke
from lndsim import Simulation


async def test_each_service_gets_its_calls_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settler may read channels, the attestor may not; neither may pay. What is printed is what was baked."""
    async with await Simulation.start(tmp_path / "sim") as simulation:
        await simulation.add_node("node")
        order = Order(node=simulation.endpoint("node"), roles=("settler", "attestor"), into=tmp_path / "baked")
        assert await bake(order, as_json=True) == Exit.FINE
        told = json.loads(capsys.readouterr().out)
        assert sorted(told["settler"]["uris"]) == sorted(SETTLER)
        assert sorted(told["attestor"]["uris"]) == sorted(ATTESTOR)
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


async def test_a_macaroon_is_inspected_for_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine for the service it was baked for; for another, what is too much and what is missing, and exit code 1."""
    async with await Simulation.start(tmp_path / "sim") as simulation:
        await simulation.add_node("node")
        node = simulation.endpoint("node")
        await bake(Order(node=node, roles=("attestor",), into=tmp_path), as_json=True)
        capsys.readouterr()
        baked = tmp_path / "attestor.macaroon"
        assert await inspect(baked, None, as_json=False) == Exit.FINE
        assert capsys.readouterr().out.splitlines()[1:] == ["opens:", *(f"  {uri}" for uri in ATTESTOR)]
        assert await inspect(baked, "attestor", as_json=True) == Exit.FINE
        assert json.loads(capsys.readouterr().out)["too_much"] == []
        assert await inspect(baked, "settler", as_json=True) == Exit.UNTRUE
        told = json.loads(capsys.readouterr().out)
        assert told["too_much"] == ["/chainrpc.ChainNotifier/RegisterBlockEpochNtfn"]
        assert "/lnrpc.Lightning/ListPayments" in told["missing"]
        assert await inspect(node.macaroon_path, "peer", as_json=False) == Exit.UNTRUE
        assert "too much for peer:\n  address:read" in capsys.readouterr().out
    with pytest.raises(Stop, match="there is no service gateway"):
        await inspect(baked, "gateway", as_json=False)


async def test_a_macaroon_is_replaced_and_the_former_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not while a service's file is of it; afterwards what was made under it opens nothing, and the new one goes on."""
    async with await Simulation.start(tmp_path / "sim") as simulation:
        await simulation.add_node("node")
        admin, path = simulation.endpoint("node"), tmp_path / "settler.macaroon"
        order = Order(node=admin, roles=("settler",), into=tmp_path)
        await bake(order, as_json=True)
        (tmp_path / "elsewhere").write_bytes(path.read_bytes())
        thief = connect(type(admin)(admin.host, admin.tls_cert_path, tmp_path / "elsewhere"))
        former = read(path).root_key
        with pytest.raises(Stop, match="bake again first"):
            await revoke(admin, former, tmp_path, forced="", as_json=True)
        assert (await thief.info()).synced
        capsys.readouterr()
        await bake(order, as_json=True)
        told = json.loads(capsys.readouterr().out)["settler"]
        assert (told["replaces_root_key"], told["root_key"]) == (former, read(path).root_key)
        assert await revoke(admin, former, tmp_path, forced="", as_json=True) == Exit.FINE
        with pytest.raises(Unauthorized):
            await thief.info()
        ours = connect(type(admin)(admin.host, admin.tls_cert_path, path))
        assert (await ours.info()).synced
        for wrong, word in (("nine", "no number"), (former, "has no root key")):
            with pytest.raises(Stop, match=word):
                await revoke(admin, wrong, tmp_path, forced="", as_json=True)
        assert await revoke(admin, told["root_key"], tmp_path, forced=told["root_key"], as_json=True) == Exit.FINE
        with pytest.raises(Unauthorized):
            await ours.info()
        for node in (thief, ours):
            await node.close()
