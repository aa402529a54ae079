"""The peers of a history: the real peer-agent on its own node, journal and files, with scripted work."""

from pathlib import Path
from typing import cast

from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.agent import Agent
from l402_peer_agent.app import Keys, Parts
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.patience import Patience
from l402_peer_agent.policy import SpendingCaps
from l402core.lnd.grpc import GrpcNode
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey

from tests.simulation.bench import ScriptedWork
from tests.simulation.broker import Broker
from tests.simulation.bus import SimBus
from tests.simulation.cast import Cast, Manner, Part
from tests.simulation.chance import key_of
from tests.simulation.files import PeerDisk
from tests.simulation.manners import MannerNode
from tests.simulation.node import Calls
from tests.simulation.services import ATTESTOR_KEY, SETTLER_KEY
from tests.simulation.twice import Twice
from tests.simulation.web import GATEWAY, Web
from tests.simulation.world import Process, World

CONFIG = Config(
    gateway_url=GATEWAY, settler=SETTLER_KEY.public, attestor=ATTESTOR_KEY.public, poll_s=3.0, idle_exit_s=90.0,
    grace_s=40.0,
)  # fmt: skip
"""What all peers have in common; to read one takes longer than to copy it."""


class Peer:
    """One peer, through all of its deaths."""

    def __init__(self, world: World, broker: Broker, calls: Calls, web: Web, part: Part, cast: Cast) -> None:
        self.part, self.journal = part, PeerDisk(world)
        self.keys = Keys(SigningKey(key_of(f"peer {part.name}")), UnsealingKey(key_of(f"seal {part.name}")))
        self._world, self._broker, self._calls, self._web = world, broker, calls, web
        self.work = ScriptedWork(world, part.name, part.units)
        own = {"name": part.name, "rounds": cast.rounds, "data_dir": Path(part.name)}
        self._config = CONFIG.model_copy(update=own)
        self._config.data_dir.mkdir()
        self.lines = self._config.data_dir / "rounds.jsonl"
        self.brought_msat = 0
        """What its node had in the beginning."""
        world.add(part.name, self.live)

    async def live(self, process: Process) -> None:
        """See `l402_peer_agent.__main__`."""
        world, config = self._world, self._config
        node = MannerNode(
            world, self._calls.connect(self.part.name), self.part.manner,
            lambda online: self._calls.network.set_online(self.part.name, online),
        )  # fmt: skip
        gateway = Gateway(self._web, GATEWAY, self.keys.identity, now_ms=world.now_ms)  # type: ignore[arg-type]
        if self.part.manner is Manner.REUSES_TOKEN:
            bus = SimBus(self._broker, process, self.part.name)
            gateway = Twice(self._web, GATEWAY, self.keys.identity, bus, now_ms=world.now_ms)
        fees = Fees(
            cast(GrpcNode, node), gateway, self.journal,
            caps=SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat),
            routing_fee_max_msat=config.routing_fee_max_msat, look_s=config.pay_timeout_s, now_ms=world.now_ms,
        )  # fmt: skip
        parts = Parts(
            config=config, keys=self.keys, gateway=gateway, node=node, fees=fees, memory=self.journal, work=self.work,
            patience=Patience(config.poll_s, world.now_ms), payout_node=self._calls.network.nodes[self.part.name].pubkey,
            now_ms=world.now_ms,
        )  # fmt: skip
        await Agent(parts).run()
