"""What every desk of the settler shares: configuration, keys, clock, and what was last seen of our node. No decisions."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable

import msgspec
from l402core.errors import NotFound
from l402core.escrow import RUNG_IGNORED, Rung, Sight
from l402core.events import SubmissionView
from l402core.lnd.fitness import readiness
from l402core.outbox import Database, Transaction
from l402core.rings import SigningRing
from l402core.signing import SigningKey
from l402core.succession import Successions, Trusted, heirs

from l402_settler.adapters import books
from l402_settler.config import Config
from l402_settler.rounds import Identity
from l402_settler.views import submission_view, terms_of

JOINED_KEPT = 100_000


class NodeSight(msgspec.Struct, kw_only=True):
    """What was last seen of our node; `trouble` says why it cannot lock now."""

    height: int = 0
    tip: int = 0
    """The highest block that it told of, synced or not, 0 for none: enough to alarm by, and not to count a deadline from."""
    tip_ms: int = 0
    """When it told of that one last."""
    liquidity_msat: int = 0
    slots: int = 0
    slots_to: dict[str, int] = {}
    """HTLC slots that are free on the channels to each node that we share one with."""
    msat_to: dict[str, int] = {}
    """What those channels can send."""
    trouble: str = "the node has not answered yet"
    failing: str = "answers"
    """Which of `l402core.lnd.fitness`'s checks fails; "" for none. Short of liquidity or slots is no trouble: the room
    of a round says so, and what is locked goes on."""

    def see_tip(self, height: int, now_ms: int) -> None:
        """It told of this block. One that lags, as while it reads its chain anew, knows less than it did."""
        if height >= self.tip:
            self.tip, self.tip_ms = height, now_ms

    def readiness(self) -> dict[str, bool]:
        """For `/readyz`: whether rewards can be locked, and by name what stands against it."""
        return readiness("lightning", self.failing)


class Joined:
    """What this process last wrote of each rung, so that a look which tells nothing new costs no transaction.

    A rung's states only go forward: what is no news to the memory is no news to the books, whoever wrote them since.
    """

    def __init__(self) -> None:
        self._rungs: OrderedDict[str, tuple[Rung, int]] = OrderedDict()
        self._looked_ms: OrderedDict[str, int] = OrderedDict()

    def was_told(self, payment_hash: str) -> bool:
        """Whether our node has told of it. It is in the books, or on its way there: a look that could not be written down
        is had again, for a stream is taken up with a look at every open rung."""
        return payment_hash in self._looked_ms

    def is_news(self, payment_hash: str, sight: Sight, height: int) -> bool:
        """Whether the books may not know, or cannot believe it."""
        if payment_hash not in self._rungs:
            return True
        state, known = self._rungs[payment_hash]
        new_height = state is Rung.IN_FLIGHT and height not in (0, known)
        return new_height or (state, sight) not in RUNG_IGNORED

    def looked_at(self, payment_hashes: Iterable[str], now_ms: int) -> None:
        """Our node has told of these, whether or not it was news."""
        for payment_hash in payment_hashes:
            self._looked_ms[payment_hash] = now_ms
            self._looked_ms.move_to_end(payment_hash)
        while len(self._looked_ms) > JOINED_KEPT:
            self._looked_ms.popitem(last=False)

    def heard_ms(self, payment_hash: str) -> int | None:
        """When our node last told of the rung; None where it has told nothing."""
        return self._looked_ms.get(payment_hash)

    def remember(self, payment_hash: str, state: Rung, expiry_height: int) -> None:
        """It is in the books now. The newest are kept."""
        self._rungs[payment_hash] = (state, expiry_height)
        self._rungs.move_to_end(payment_hash)
        if len(self._rungs) > JOINED_KEPT:
            self._rungs.popitem(last=False)


class Office:
    """Shared by the desks of one settler process."""

    def __init__(
        self,
        config: Config,
        *,
        keys: SigningRing,
        successions: Successions | None = None,
        database: Database,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self.config = config
        self.keys = keys
        self.successions = successions or Successions(None)
        self.database = database
        self.now_ms = now_ms
        self.new_id = new_id
        self.sight = NodeSight()
        self.joined = Joined()
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @property
    def attestor(self) -> Trusted:
        """Whose word on rewards counts."""
        return self.successions.trusted("attestor", self.config.attestor_public)

    def identity(self) -> Identity:
        """Who signs, judges and reads what begins now, and how those keys follow from the pinned ones."""
        told, config = self.successions.now(), self.config
        oracle = heirs(told.said, "attestor", config.attestor_public)
        return Identity(
            settler=self.keys.newest.public,
            attestor=self.attestor.newest,
            attestor_url=config.attestor_url,
            reading_key=(told.keys("reading", config.reading_public, oracle) or (config.reading_public,))[-1],
            hand_overs=told.said,
        )

    def signing(self, tx: Transaction, round_: int) -> SigningKey:
        """The key that the round's terms name. Raises Unavailable."""
        if self.keys.only:
            return self.keys.newest
        row = books.round_row(tx, round_)
        assert row is not None
        return self.keys.named(terms_of(row).settler)

    def stamp(self) -> tuple[str, int]:
        """A fresh id and the time, for an event."""
        return self.new_id(), self.now_ms()

    async def view(self, commitment: str) -> SubmissionView:
        """One submission as its peer may see it. Raises NotFound."""

        def read(tx: Transaction) -> SubmissionView:
            row = books.submission(tx, commitment)
            if row is None:
                raise NotFound("submission_unknown", "no submission of this commitment was opened")
            return submission_view(tx, row)

        return await self.database.read(read)

    def changed(self, commitment: str) -> None:
        """Wake whoever waits for this submission."""
        waiting = self._changed.pop(commitment, None)
        if waiting is not None:
            waiting.set()

    async def wait_for_change(self, commitment: str, timeout_s: float) -> None:
        """Until `changed`, at most `timeout_s`."""
        try:
            await asyncio.wait_for(self._changed[commitment].wait(), timeout_s)
        except TimeoutError:
            self._changed.pop(commitment, None)
