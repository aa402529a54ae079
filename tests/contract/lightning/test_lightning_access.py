"""Who may do what: macaroons by URI, and the certificate that is the node's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import grpc
import grpc.aio
import msgspec
import pytest
from l402core.errors import Conflict, Malformed, Unauthorized, Unavailable
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.permissions import ATTESTOR, INVOICER, PEER, SETTLER, SPONSOR, bake, revoke
from l402core.lnd.scope import read_scope, refuse_excess
from l402core.lnd.stubs import invoicesrpc, lnrpc, routerrpc
from l402core.lnd.wire import LndEndpoint, Wire
from l402core.secret import Secret
from l402train.credentials import ALLOWED

from tests.contract.lightning.backends import Backend, a_secret, said, said_first
from tests.contract.lightning.test_lightning_invoices import AMOUNT_MSAT, hold

BAKE = "/lnrpc.Lightning/BakeMacaroon"
GET_INFO = "/lnrpc.Lightning/GetInfo"

FORBIDDEN = {
    *(
        f"/lnrpc.Lightning/{name}"
        for name in ("SendCoins", "SendMany", "SendPaymentSync", "SendToRouteSync", "NewAddress")
    ),
    *(f"/lnrpc.Lightning/{name}" for name in ("OpenChannelSync", "CloseChannel", "UpdateChannelPolicy", "ConnectPeer")),
    *(f"/lnrpc.Lightning/{name}" for name in ("DeletePayment", "DeleteAllPayments", "DeleteMacaroonID", "StopDaemon")),
    *(f"/routerrpc.Router/{name}" for name in ("SendToRouteV2", "ResetMissionControl", "HtlcInterceptor")),
    BAKE,
}
"""What no service of ours may ever do."""
SILENT_S = 3.0
"""After which a stream that says nothing has been let in: who is denied is told at once."""

Connect = Callable[[LndEndpoint], GrpcNode]


@pytest.fixture
async def connected() -> AsyncIterator[Connect]:
    """Connects, and closes at the end."""
    nodes: list[GrpcNode] = []

    def open_node(endpoint: LndEndpoint) -> GrpcNode:
        nodes.append(connect(endpoint))
        return nodes[-1]

    yield open_node
    for node in nodes:
        await node.close()


async def baked(backend: Backend, wire: Wire, path: Path, uris: list[str]) -> LndEndpoint:
    """Bob's endpoint, with a macaroon that allows these URIs only."""
    permissions = [lnrpc.MacaroonPermission(entity="uri", action=uri) for uri in uris]
    answer = await wire.call(BAKE, lnrpc.BakeMacaroonRequest(permissions=permissions))
    await asyncio.to_thread(path.write_bytes, bytes.fromhex(answer.macaroon))
    return msgspec.structs.replace(backend.endpoint("bob"), macaroon_path=path)


async def test_a_baked_macaroon_opens_its_uris_and_no_other(
    backend: Backend, bob_wire: Wire, tmp_path: Path, connected: Connect
) -> None:
    """Least privilege: what is not named is denied."""
    uris = ["/invoicesrpc.Invoices/AddHoldInvoice", "/lnrpc.Lightning/LookupInvoice", GET_INFO]
    invoicer = connected(await baked(backend, bob_wire, tmp_path / "invoicer.macaroon", uris))
    preimage, payment_hash = a_secret()
    made = await hold(invoicer, payment_hash)
    assert (await invoicer.info()).synced
    assert await invoicer.lookup_invoice(payment_hash) == made
    assert await hold(invoicer, payment_hash) == made
    for denied in (
        invoicer.settle_invoice(Secret(preimage)),
        invoicer.cancel_invoice(payment_hash),
        invoicer.pay(made.bolt11, timeout_s=5, fee_limit_msat=0, cltv_limit=200),
        invoicer.channels(),
        invoicer.list_payments(),
    ):
        with pytest.raises(Unauthorized, match="permission denied"):
            await denied


@pytest.mark.parametrize(
    ("uris", "opens"),
    [
        (INVOICER, {"add_hold", "add", "lookup", "pay", "info"}),
        (SETTLER, {"settle", "cancel", "lookup", "list", "channels", "closing", "info"}),
        (SPONSOR, {"pay", "info"}),
        (ATTESTOR, {"info", "blocks"}),
        (PEER, {"add_hold", "settle", "cancel", "lookup", "pay", "info"}),
    ],
    ids=["invoicer", "settler", "sponsor", "attestor", "peer"],
)
async def test_each_service_may_do_its_part_only(
    backend: Backend,
    bob: GrpcNode,
    tmp_path: Path,
    connected: Connect,
    *,
    uris: list[str],
    opens: set[str],
) -> None:
    """What begins obligations ends none, what keeps the books sends nothing, and each can do all of its own."""
    path = tmp_path / "service.macaroon"
    await asyncio.to_thread(path.write_bytes, await bake(backend.endpoint("bob"), uris))
    service = connected(msgspec.structs.replace(backend.endpoint("bob"), macaroon_path=path))
    preimage, payment_hash = a_secret()
    request = (await hold(bob, payment_hash)).bolt11
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "add_hold": lambda: hold(service, payment_hash),
        "add": lambda: service.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40),
        "lookup": lambda: service.lookup_invoice(payment_hash),
        "pay": lambda: service.pay(request, timeout_s=5, fee_limit_msat=0, cltv_limit=200),
        "settle": lambda: service.settle_invoice(Secret(preimage)),
        "cancel": lambda: service.cancel_invoice(payment_hash),
        "list": service.list_payments,
        "channels": service.channels,
        "closing": service.closing_channels,
        "info": service.info,
        "blocks": lambda: anext(service.watch_blocks()),
    }
    assert opens < set(calls)
    for name in sorted(calls):
        try:
            await calls[name]()
        except Unauthorized:
            assert name not in opens, f"{name} should be allowed"
        except Conflict:
            assert name in opens & {"settle", "pay"}  # still open, and to oneself: allowed, and refused for that
        else:
            assert name in opens, f"{name} should be denied"


@pytest.mark.parametrize("name", sorted(ALLOWED))
async def test_of_all_calls_each_macaroon_opens_its_own(
    backend: Backend, bob_wire: Wire, tmp_path: Path, *, name: str
) -> None:
    """Every call that the node says it has, and those that move money out or forget it: its own answer, all others deny.
    What a network does not have at all is no denial: it is known by name, and no service of ours calls it."""
    path = tmp_path / "service.macaroon"
    await asyncio.to_thread(path.write_bytes, await bake(backend.endpoint("bob"), ALLOWED[name]))
    endpoint = backend.endpoint("bob")
    certificate = await asyncio.to_thread(endpoint.tls_cert_path.read_bytes)
    listed = await every_call(bob_wire)
    assert {uri for uris in ALLOWED.values() for uri in uris} <= listed
    every = sorted(listed | FORBIDDEN)
    async with grpc.aio.secure_channel(endpoint.host, grpc.ssl_channel_credentials(certificate)) as channel:
        macaroon = (("macaroon", path.read_bytes().hex()),)
        answers = await asyncio.gather(*(_answer(channel, uri, macaroon) for uri in every))
    by_answer = {kind: {uri for uri, one in zip(every, answers, strict=True) if one == kind} for kind in set(answers)}
    assert by_answer["opened"] == set(ALLOWED[name])
    assert by_answer.get("unknown", set()) == backend.lacks
    assert backend.lacks <= FORBIDDEN


async def every_call(wire: Wire) -> set[str]:
    """All that the node has and guards by a macaroon, as it tells itself."""
    answer = await wire.call("/lnrpc.Lightning/ListPermissions", lnrpc.ListPermissionsRequest())
    return set(answer.method_permissions)


async def _answer(
    channel: grpc.aio.Channel, uri: str, macaroon: tuple[tuple[str, str], ...]
) -> Literal["opened", "denied", "unknown"]:
    """What an empty request comes to at the macaroon's check. One to which nothing is said at all has come past it."""
    method = channel.unary_stream(uri, request_serializer=bytes, response_deserializer=bytes)
    try:
        async for _ in method(b"", metadata=macaroon, timeout=SILENT_S):
            return "opened"
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "unknown"
        return "denied" if "permission denied" in (error.details() or "") else "opened"
    return "opened"


async def test_a_revoked_macaroon_opens_nothing_and_its_successor_does_at_once(
    backend: Backend, tmp_path: Path, connected: Connect
) -> None:
    """Each is baked under a root key of its own; a client reads the file again, without a new connection."""
    admin, path = backend.endpoint("bob"), tmp_path / "settler.macaroon"
    await asyncio.to_thread(path.write_bytes, await bake(admin, SETTLER))
    stolen = tmp_path / "stolen.macaroon"
    await asyncio.to_thread(stolen.write_bytes, path.read_bytes())
    ours = connected(msgspec.structs.replace(admin, macaroon_path=path))
    thief = connected(msgspec.structs.replace(admin, macaroon_path=stolen))
    assert (await ours.info()).synced
    assert (await thief.info()).synced
    former = read_scope(path.read_bytes()).root_key
    await asyncio.to_thread(path.write_bytes, await bake(admin, SETTLER))
    assert read_scope(path.read_bytes()).root_key != former
    assert await revoke(admin, int(former))
    assert not await revoke(admin, int(former))
    with pytest.raises(Unauthorized):
        await thief.info()
    async with asyncio.timeout(30):
        while not await lets_in(ours):  # it looks at the file once in a second  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.1)


async def lets_in(node: GrpcNode) -> bool:
    """Whether the node answers to this macaroon."""
    try:
        return (await node.info()).synced
    except Unauthorized:
        return False


async def test_the_first_root_key_stays(backend: Backend) -> None:
    """LND refuses to delete it, and we do not ask."""
    with pytest.raises(Malformed):
        await revoke(backend.endpoint("bob"), 0)


@pytest.mark.parametrize("uris", [INVOICER, SETTLER, ATTESTOR, PEER], ids=["invoicer", "settler", "attestor", "peer"])
async def test_what_a_macaroon_opens_can_be_read_from_it(
    backend: Backend, tmp_path: Path, *, uris: tuple[str, ...]
) -> None:
    """The one baked for a service says exactly that service's calls, and the service starts with it."""
    path = tmp_path / "service.macaroon"
    await asyncio.to_thread(path.write_bytes, await bake(backend.endpoint("bob"), uris))
    scope = read_scope(path.read_bytes())
    assert set(scope.opens) == set(uris)
    assert scope.caveats == ()
    refuse_excess(path, uris, tolerated=(), service="any")
    with pytest.raises(Malformed, match=uris[0]):
        refuse_excess(path, uris[1:], tolerated=(), service="any")


async def test_the_nodes_own_macaroons_are_too_much_for_every_service(backend: Backend) -> None:
    """What lies beside a fresh node opens families of calls: no service starts with it."""
    for macaroon, names in (("admin", {"offchain:write", "macaroon:generate"}), ("readonly", {"info:read"})):
        path = backend.endpoint("bob", macaroon).macaroon_path
        for uris in (INVOICER, SETTLER, ATTESTOR, PEER):
            assert names <= set(read_scope(path.read_bytes()).excess(uris))
            with pytest.raises(Malformed, match="more than this service needs"):
                refuse_excess(path, uris, tolerated=(), service="any")


async def test_streams_are_guarded_too(backend: Backend, bob_wire: Wire, tmp_path: Path, connected: Connect) -> None:
    """A stream that is not allowed does not start."""
    endpoint = await baked(backend, bob_wire, tmp_path / "info.macaroon", [GET_INFO])
    watcher = connected(endpoint)
    for stream in (watcher.watch_blocks(), watcher.watch_payments(), watcher.watch_invoice(a_secret()[1])):
        with pytest.raises(Unauthorized, match="permission denied"):
            await anext(stream)


async def test_the_readonly_macaroon_reads_only(backend: Backend, connected: Connect) -> None:
    """It sees everything and changes nothing."""
    reader = connected(backend.endpoint("bob", "readonly"))
    assert (await reader.info()).network == "simnet"
    assert len(await reader.channels()) == 3
    with pytest.raises(Unauthorized):
        await reader.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)


async def test_the_invoice_macaroon_cannot_pay(backend: Backend, alice: GrpcNode, connected: Connect) -> None:
    """It makes invoices; money does not leave with it."""
    clerk = connected(backend.endpoint("bob", "invoice"))
    invoice = await clerk.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    assert await clerk.lookup_invoice(invoice.payment_hash) == invoice
    with pytest.raises(Unauthorized):
        await clerk.pay(invoice.bolt11, timeout_s=5, fee_limit_msat=0, cltv_limit=200)


async def test_no_macaroon_no_answer(backend: Backend) -> None:
    """`expected 1 macaroon, got 0`."""
    endpoint = backend.endpoint("bob")
    credentials = grpc.ssl_channel_credentials(endpoint.tls_cert_path.read_bytes())
    async with grpc.aio.secure_channel(endpoint.host, credentials) as channel:
        call = channel.unary_unary(
            GET_INFO,
            request_serializer=lnrpc.GetInfoRequest.SerializeToString,
            response_deserializer=lnrpc.GetInfoResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(lnrpc.GetInfoRequest())
    assert refused.value.details() == "expected 1 macaroon, got 0"


async def test_a_forged_macaroon_is_refused(backend: Backend, tmp_path: Path, connected: Connect) -> None:
    """One flipped bit of the signature, or another node's macaroon, opens nothing."""
    endpoint = backend.endpoint("bob")
    forged = bytearray(endpoint.macaroon_path.read_bytes())
    forged[-1] ^= 1
    (tmp_path / "forged.macaroon").write_bytes(bytes(forged))
    foreign = backend.endpoint("alice").macaroon_path
    for path in (tmp_path / "forged.macaroon", foreign):
        with pytest.raises(Unauthorized):
            await connected(msgspec.structs.replace(endpoint, macaroon_path=path)).info()


@pytest.mark.parametrize(
    ("permissions", "answer"),
    [
        ([("uri", "/lnrpc.Lightning/NoSuchThing")], "invalid permission action, must be an existing URI"),
        ([("moon", "read")], "invalid permission entity"),
        ([("info", "fly")], "invalid permission action"),
        ([], "permission list cannot be empty"),
    ],
)
async def test_only_what_exists_can_be_baked(bob_wire: Wire, permissions: list[tuple[str, str]], answer: str) -> None:
    """A typing error in a permission is found when baking, not when paying."""
    asked = [lnrpc.MacaroonPermission(entity=entity, action=action) for entity, action in permissions]
    assert (await said(bob_wire, BAKE, lnrpc.BakeMacaroonRequest(permissions=asked))).startswith(answer)


async def test_another_certificate_is_not_trusted(backend: Backend, connected: Connect) -> None:
    """TLS with the wrong certificate is Unavailable, and no macaroon has left us."""
    wrong = msgspec.structs.replace(
        backend.endpoint("bob"), tls_cert_path=backend.endpoint("alice").tls_cert_path, deadline_s=3.0
    )
    with pytest.raises(Unavailable):
        await connected(wrong).info()


async def test_unreadable_credentials_say_which_file(backend: Backend, tmp_path: Path) -> None:
    """A missing file is named before anything is sent."""
    with pytest.raises(Unavailable, match=r"nowhere\.macaroon"):
        connect(msgspec.structs.replace(backend.endpoint("bob"), macaroon_path=tmp_path / "nowhere.macaroon"))


async def test_a_payment_request_is_read_by_the_node_as_by_us(alice_wire: Wire, bob: GrpcNode) -> None:
    """DecodePayReq agrees with the invoice's own node; nonsense is refused."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash, expiry_s=1234, cltv_expiry=77)
    uri = "/lnrpc.Lightning/DecodePayReq"
    read = await alice_wire.call(uri, lnrpc.PayReqString(pay_req=invoice.bolt11))
    assert read.payment_hash == payment_hash.hex()
    assert (read.num_msat, read.expiry, read.cltv_expiry) == (AMOUNT_MSAT, 1234, 77)
    assert read.destination == (await bob.info()).pubkey
    assert (read.description, len(read.payment_addr)) == ("contract", 32)
    assert await said(alice_wire, uri, lnrpc.PayReqString(pay_req="lnsb1nonsense"))
    nonsense = routerrpc.SendPaymentRequest(payment_request="lnsb1nonsense", timeout_seconds=5)
    assert await said_first(alice_wire, "/routerrpc.Router/SendPaymentV2", nonsense)


async def test_an_unasked_reference_is_invalid(bob_wire: Wire) -> None:
    """LookupInvoiceV2 without any reference."""
    uri = "/invoicesrpc.Invoices/LookupInvoiceV2"
    assert await said(bob_wire, uri, invoicesrpc.LookupInvoiceMsg()) == "invoice ref must be set"


async def test_without_tls_there_is_no_answer(backend: Backend) -> None:
    """A plaintext client is hung up on, and its macaroon was not asked for."""
    async with grpc.aio.insecure_channel(backend.endpoint("bob").host) as channel:
        call = channel.unary_unary(
            GET_INFO,
            request_serializer=lnrpc.GetInfoRequest.SerializeToString,
            response_deserializer=lnrpc.GetInfoResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(lnrpc.GetInfoRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_is_for_its_names_only(backend: Backend, connected: Connect) -> None:
    """The right certificate under a name that it does not have is not trusted."""
    endpoint = backend.endpoint("bob")
    port = endpoint.host.rpartition(":")[2]
    elsewhere = msgspec.structs.replace(endpoint, host=f"127.0.0.2:{port}", deadline_s=3.0)
    with pytest.raises(Unavailable):
        await connected(elsewhere).info()


async def test_a_file_that_is_no_certificate_is_not_trusted(
    backend: Backend, tmp_path: Path, connected: Connect
) -> None:
    """Nonsense in place of the certificate ends as Unavailable, not as a crash."""
    (tmp_path / "tls.cert").write_text("no certificate")
    nonsense = msgspec.structs.replace(backend.endpoint("bob"), tls_cert_path=tmp_path / "tls.cert", deadline_s=3.0)
    with pytest.raises(Unavailable):
        await connected(nonsense).info()
