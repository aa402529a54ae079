"""What the settler and the attestor tell the pages, from a table; hostile where a peer or an oracle could be."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from l402core import errors, events
from l402core.bus import Bus

T = TypeVar("T")
EVIL = "<script>alert(1)</script>"
PEERS = tuple(f"{number:064x}" for number in range(0xA1, 0xA6))
NOW_MS = 1_800_000_000_000


def a_status(**changes: Any) -> events.StatusView:
    """Six rounds, five peers, three escrows open."""
    rounds = tuple(
        events.RoundLine(
            round=number, phase="done" if number < 6 else "commit", submissions=5, accepted=3, rejected=2,
            fees_msat=2_500_000, rewards_msat=9_300_000, sponsored_msat=20_000_000 if number % 2 else 0,
        )
        for number in range(1, 7)
    )  # fmt: skip
    peers = tuple(
        events.PeerLine(
            peer=peer, submissions=6, accepted=6 - index, fees_msat=3_000_000,
            rewards_msat=(4 - index) * 4_000_000, last_round=6,
        )
        for index, peer in enumerate(PEERS)
    )  # fmt: skip
    escrows = (
        events.EscrowLine(state="locking", escrows=1, locked_msat=6_300_000, oldest_ms=NOW_MS - 4_000),
        events.EscrowLine(state="locked", escrows=2, locked_msat=12_600_000, oldest_ms=NOW_MS - 9_000),
    )
    told = events.StatusView(
        at_ms=NOW_MS, rounds=rounds, peers=peers, peers_untold=0, escrows=escrows, fees_msat=15_000_000,
        rewards_msat=55_800_000, sponsored_msat=60_000_000, owed_msat=0, credits_msat=500_000,
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


def a_lineup(round_: int, *lines: events.SubmissionLine) -> events.LineupView:
    """One of each kind, unless a test says which."""
    return events.LineupView(round=round_, submissions=lines or several(), untold=0)


def several() -> tuple[events.SubmissionLine, ...]:
    """Waiting, accepted, rejected, fallen through, and one in a state that nobody knows."""
    kinds = (
        ("locked", "", 0),
        ("scored", "accepted", 3_100_000),
        ("ended", "rejected", 0),
        ("ended", "", 0),
        (EVIL, "", 0),
    )
    return tuple(
        events.SubmissionLine(
            commitment=f"{number:064x}", seq=number, peer=peer, state=state, verdict=verdict, fee_msat=500_000,
            fee_kept=number != 4, reward_msat=reward,
        )
        for number, (peer, (state, verdict, reward)) in enumerate(zip(PEERS, kinds, strict=True), 1)
    )  # fmt: skip


def an_oracle() -> events.OracleView:
    """A loss that falls, and a plan with a hostile word."""
    losses = (5_412_000_000, 4_879_000_000, 4_400_000_000, 3_990_000_000, 3_700_000_000, 3_520_000_000)
    return events.OracleView(
        checkpoints=tuple(events.CheckpointLine(round=n, held_out=loss, at_ms=n) for n, loss in enumerate(losses, 1)),
        plan=events.OraclePlan(
            peers=8, window_ms=60_000, needed_ms=31_000, peers_fitting=12, shards=32, wanted_shards=32, fits=True,
            workers_percent=65, says=f"It fits, says {EVIL}.",
        ),
    )  # fmt: skip


@dataclass
class Looks:
    """Answers to the pages' questions; what is None does not answer, as if its service were away."""

    status: events.StatusView | None = field(default_factory=a_status)
    oracle: events.OracleView | None = field(default_factory=an_oracle)
    lines: tuple[events.SubmissionLine, ...] = field(default_factory=several)
    needs: dict[str, bool] = field(default_factory=lambda: {"bus": True, "lightning": True})
    asked: dict[str, int] = field(default_factory=dict)

    def answer(self, bus: Bus) -> None:
        """On this bus, before it starts."""
        bus.answer(events.ReadStatus, self._status)
        bus.answer(events.ReadLineup, self._lineup)
        bus.answer(events.ReadOracle, self._oracle)
        bus.answer(events.ReadSettlerParts, self._parts)
        bus.answer(events.ReadAttestorParts, self._parts)
        bus.answer(events.ReadStory, self._story)

    def _note(self, question: events.Question) -> None:
        self.asked[question.name] = self.asked.get(question.name, 0) + 1

    async def _status(self, question: events.ReadStatus) -> events.StatusView:
        self._note(question)
        return _there(self.status)

    async def _lineup(self, question: events.ReadLineup) -> events.LineupView:
        self._note(question)
        return events.LineupView(round=question.round, submissions=self.lines, untold=0)

    async def _oracle(self, question: events.ReadOracle) -> events.OracleView:
        self._note(question)
        return _there(self.oracle)

    async def _parts(self, question: events.ReadParts) -> events.PartsView:
        self._note(question)
        return events.PartsView(parts=self.needs)

    async def _story(self, question: events.ReadStory) -> events.StoryView:
        self._note(question)
        return a_story(question.round, question.commitment)


def a_story(round_: int, commitment: str) -> events.StoryView:
    """From its fee to a rung that was paid and one that came back."""
    steps = (
        ("fee received", 0, 0, 1, 500_000), ("opened", 12, 12, 1, 500_000), ("rung pending", 60, 60, 6, 6_300_000),
        ("locked", 130, 130, 1, 6_300_000), ("uploaded", 2_000, 2_000, 1, 0), ("decided", 9_000, 9_000, 1, 3_100_000),
        ("rung post", 9_100, 9_140, 5, 3_100_000), ("rung void", 9_050, 9_060, 1, 3_200_000), (EVIL, 1, 1, 1, 1),
    )  # fmt: skip
    lines = tuple(
        events.StoryLine(what=what, first_ms=NOW_MS + first, last_ms=NOW_MS + last, times=times, amount_msat=amount)
        for what, first, last, times, amount in steps
    )
    return events.StoryView(
        round=round_, commitment=commitment, peer=PEERS[0], state="ended", trace_id="ab" * 16, lines=lines
    )


def _there(view: T | None) -> T:
    if view is None:
        raise errors.Unavailable("away", "it does not answer")
    return view
