"""The same history on lndsim and on real lnd: what each answers, and whether both are in the same state after it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from l402core.errors import L402Error
from l402core.lnd.port import InvoiceState
from l402core.secret import Secret

from tests.contract.lightning.backends import sentence
from tests.contract.lightning.killable import NAMES, PATIENCE_S, Killable, channels_of, waited

Answer = tuple[str, ...]
"""("done",), or class, code and LND's own sentence."""


@dataclass
class Made:
    """An invoice of a history: on each network its own request and, for a plain one, its own hash."""

    label: str
    payee: str
    preimage: bytes | None
    amount_msat: int
    cltv_expiry: int
    hashes: dict[str, bytes] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    payers: set[str] = field(default_factory=set)


class Side:
    """One network during one history. Heights and balances are told as changes since the history began."""

    def __init__(self, network: Killable) -> None:
        self.network = network
        self.kind = network.kind
        self._height = 0
        self._balances: dict[str, Any] = {}
        self._openers: dict[str, list[int | None]] = {}

    async def begin(self) -> None:
        """Remember where everything is."""
        self._height = await self.height("alice")
        self._balances = {name: await self._channels(name) for name in NAMES}
        self._openers = {name: await self._rest(name) for name in NAMES}

    async def height(self, name: str) -> int:
        return (await self.network.nodes[name].info()).block_height

    async def seen(self, invoices: list[Made]) -> dict[str, Any]:
        """Everything that both networks must agree on."""
        told: dict[str, Any] = {}
        for made in invoices:
            told[made.label] = await self._invoice(made)
            for payer in sorted(made.payers):
                told[f"{payer} pays {made.label}"] = await self._payment(made, payer)
        for name in NAMES:
            told[name] = [
                tuple(new - old if index else new for index, (new, old) in enumerate(zip(after, before, strict=True)))
                for after, before in zip(await self._channels(name), self._balances[name], strict=True)
            ]
            told[f"openers at {name}"] = [
                None if after is None or before is None else after - before
                for after, before in zip(await self._rest(name), self._openers[name], strict=True)
            ]
        return told

    async def _invoice(self, made: Made) -> Any:
        view = await self.network.nodes[made.payee].lookup_invoice(made.hashes[self.kind])
        if view is None:
            return None
        heights = tuple(height - self._height for height in view.htlc_expiry_heights)
        return view.state, view.amount_msat, view.paid_msat, view.expiry_s, view.cltv_expiry, heights

    async def _payment(self, made: Made, payer: str) -> Any:
        view = await self.network.nodes[payer].lookup_payment(made.hashes[self.kind])
        if view is None:
            return None
        heights = tuple(height - self._height for height in view.htlc_expiry_heights)
        proof = view.preimage == Secret(made.preimage) if made.preimage else view.preimage is not None
        return view.status, view.failure, view.amount_msat, view.fee_msat, proof, heights

    async def _channels(self, name: str) -> list[tuple[int, ...]]:
        """Usable or not, what the opener's peer has, HTLCs out and in, and their sum: of each channel by age."""
        return [
            (
                int(one.active),
                one.remote_balance if one.initiator else one.local_balance,
                sum(not htlc.incoming for htlc in one.pending_htlcs),
                sum(htlc.incoming for htlc in one.pending_htlcs),
                sum(htlc.amount for htlc in one.pending_htlcs),
            )
            for one in sorted(await channels_of(self.network, name), key=lambda channel: channel.chan_id)
        ]

    async def _rest(self, name: str) -> list[int | None]:
        """What the opener has in each channel by age. None while an HTLC is out: on lnd the opener pays for its output."""
        return [
            None if one.pending_htlcs else one.local_balance if one.initiator else one.remote_balance
            for one in sorted(await channels_of(self.network, name), key=lambda channel: channel.chan_id)
        ]


class Pair:
    """Both networks, and how much was played on them."""

    def __init__(self, sim: Killable, real: Killable) -> None:
        self.networks = (sim, real)
        self.histories = self.steps = self.restarts = 0
        self.by_rule: dict[str, int] = {}


class History:
    """One history: `step` acts on both sides, compares the answers, and waits until both are in the same state."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sides = [Side(network) for network in pair.networks]
        self.invoices: list[Made] = []
        self.told: list[str] = []
        self.state: dict[str, Any] = {}
        self.broken = False
        pair.histories += 1

    def just(self, did: str) -> bool:
        """Whether the last step did this: what was done twice tells little."""
        return bool(self.told) and did in self.told[-1].split()

    def paid(self) -> bool:
        """Whether anybody has tried to pay anything."""
        return any(made.payers for made in self.invoices)

    def unpaid(self) -> list[Made]:
        """What nobody has tried to pay yet."""
        return [made for made in self.invoices if not made.payers]

    def accepted(self) -> list[Made]:
        """What is held now."""
        return [made for made in self.invoices if made.preimage and self._state(made) is InvoiceState.ACCEPTED]

    def _state(self, made: Made) -> object:
        seen = self.state.get(made.label)
        return seen[0] if seen else None

    async def begin(self) -> None:
        for side in self.sides:
            await side.begin()

    async def step(self, what: str, act: Callable[[Side], Awaitable[Any]]) -> Answer:
        """Raises AssertionError, with the whole history, where the two networks differ."""
        self.told.append(what)
        self.pair.steps += 1
        rule = next(word for word in what.split() if word not in NAMES)
        self.pair.by_rule[rule] = self.pair.by_rule.get(rule, 0) + 1
        self.broken = True
        simulated, real = await asyncio.gather(*(answer_of(act(side)) for side in self.sides))
        self.told[-1] += f" -> {' '.join(simulated)}"
        assert simulated == real, f"lndsim answers {simulated}, lnd {real}, after\n{self}"
        await self.agree()
        self.broken = False
        return simulated

    async def agree(self) -> None:
        """What lnd does after its answer, it does in its own time: wait for the state, not for a while."""
        sim, real = self.sides
        self.state = await sim.seen(self.invoices)
        seen = await real.seen(self.invoices)
        try:
            async with asyncio.timeout(PATIENCE_S / 2):
                while seen != self.state:
                    await asyncio.sleep(0.02)
                    seen = await real.seen(self.invoices)
        except TimeoutError:
            differ = [
                f"  {key}: lndsim {self.state[key]}, lnd {seen[key]}"
                for key in self.state
                if self.state[key] != seen[key]
            ]
            raise AssertionError("\n".join(["lndsim and lnd differ:", *differ, "after", str(self)])) from None

    async def settle_heights(self, blocks: int) -> None:
        """Mine on both, and wait until every node has seen it."""
        for side in self.sides:
            before = await side.height("alice")
            await side.network.mine(blocks)
            for name in NAMES:
                await waited(partial(self._is_at, side, name, before + blocks))

    @staticmethod
    async def _is_at(side: Side, name: str, height: int) -> bool:
        return await side.height(name) >= height

    async def end(self) -> None:
        """Leave no HTLC behind."""
        if self.broken:
            return
        for made in self.invoices:
            if made.preimage and self._state(made) in {InvoiceState.OPEN, InvoiceState.ACCEPTED}:
                for side in self.sides:
                    await side.network.nodes[made.payee].cancel_invoice(made.hashes[side.kind])
        await self.agree()
        await self.pair.networks[1].forget_failures()

    def __str__(self) -> str:
        return "\n".join(f"  {number}. {line}" for number, line in enumerate(self.told, 1))


async def answer_of(call: Awaitable[Any]) -> Answer:
    """What came of it, without what differs between any two networks."""
    try:
        await call
    except L402Error as error:
        return type(error).__name__, error.code, re.sub(r"[0-9a-f]{64}", "<hash>", _sentence(error))
    return ("done",)


def _sentence(error: L402Error) -> str:
    return sentence(error) if error.__cause__ is not None else error.detail
