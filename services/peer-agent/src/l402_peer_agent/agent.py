"""A peer's life: round after round, and first of all what a restart cut off. It knows no step of a round."""

import asyncio
import contextlib

import msgspec
import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import CallerError, NotFound, TooMany, WorldError
from l402core.events import RoundView
from l402core.signing import Signed

from l402_peer_agent import policy
from l402_peer_agent.app import Parts, Submission
from l402_peer_agent.journal import Attempt
from l402_peer_agent.outcome import Outcome, amend, append_line
from l402_peer_agent.owed import Debts
from l402_peer_agent.pins import Pins

log = structlog.get_logger()


class Agent:
    """One peer."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._config, self._memory = parts, parts.config, parts.memory
        self._debts = Debts(
            parts.gateway, parts.node, parts.memory, identity=parts.keys.identity, sealing=parts.keys.sealing,
            name=parts.config.name, on_paid=self._note_paid,
        )  # fmt: skip

    async def run(self) -> None:
        """Play to the end; beside it, and for a while after it, collect what is owed."""
        collecting = asyncio.create_task(self._debts.watch(self._pause))
        try:
            await self._run()
        finally:
            collecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await collecting
        until_ms = self._parts.now_ms() + int(self._config.idle_exit_s * 1_000)
        await self._debts.finish(self._pause, in_time=lambda: self._parts.now_ms() < until_ms)

    async def _pause(self) -> None:
        await asyncio.sleep(self._config.owed_poll_s)

    def _note_paid(self, round_: int, amount_msat: int) -> None:
        amend(self._config.data_dir / "rounds.jsonl", round_, reward_msat=amount_msat, owed_msat=0)

    async def _run(self) -> None:
        """Finish what was cut off, then play rounds until the limit, or until the network is done."""
        for attempt in self._memory.unfinished():
            with telemetry.span(
                "submission.resumed", parent=attempt.traceparent, attributes=self._about(attempt.round)
            ):
                await self._play(attempt)
        while not self._config.rounds or self._memory.finished() < self._config.rounds:
            view = await self._next_round()
            if view is None:
                log.info("network.done")
                return
            with telemetry.span("submission", attributes=self._about(view.round)):
                attempt = Attempt(round=view.round, terms=view.terms, traceparent=telemetry.traceparent())
                self._memory.save(attempt)
                await self._play(attempt)

    async def _next_round(self) -> RoundView | None:
        """A round that can still be entered and was not begun; None when none comes any more."""
        idle_since_ms = self._parts.now_ms()
        while self._parts.now_ms() - idle_since_ms < self._config.idle_exit_s * 1_000:
            try:
                view = await self._parts.gateway.round()
                if view.round > self._memory.last_round() and view.phase == "commit":
                    return view
                if view.phase != "done":
                    idle_since_ms = self._parts.now_ms()
            except (WorldError, NotFound, TooMany) as error:
                log.info("round.unread", code=error.code)
            await self._parts.patience.pause()
        return None

    async def _play(self, attempt: Attempt) -> None:
        """One round to its end, whatever that is; then write down how it went."""
        outcome = await self._outcome(attempt)
        log.info("round.finished", round=outcome.round, verdict=outcome.verdict, reward_msat=outcome.reward_msat)

    async def _outcome(self, attempt: Attempt) -> Outcome:
        trace_id = telemetry.trace_id()
        try:
            terms = self._read_terms(attempt.terms, attempt.round)
        except CallerError as refused:
            log.warning("terms.refused", round=attempt.round, code=refused.code, detail=refused.detail)
            reasons, kind = (f"{refused.code}: {refused.detail}",), self._config.kind
            return self._write_down(
                Outcome(round=attempt.round, kind=kind, trace_id=trace_id, verdict="missed", reasons=reasons), attempt
            )
        submission = Submission(self._parts, attempt, terms, trace_id=trace_id)
        await submission.play()
        self._write_down(submission.outcome, attempt)
        submission.tidy()
        return submission.outcome

    def _write_down(self, outcome: Outcome, attempt: Attempt) -> Outcome:
        """The training state, the line, and last that the round is over; what was not to be read is not over."""
        self._parts.work.conclude(attempt.round, accepted=outcome.verdict == "accepted")
        append_line(self._config.data_dir / "rounds.jsonl", outcome)
        newest = self._memory.attempt(attempt.round) or attempt
        self._memory.save(msgspec.structs.replace(newest, done=outcome.verdict != "unread"))
        return outcome

    def _read_terms(self, signed: Signed, round_: int) -> Terms:
        """Checked against the keys we were given or saw first, and remembered where those have handed over."""
        pins = Pins(self._memory)
        settler = pins.key("settler", self._config.settler, round_) or signed.signer
        attestor = pins.key("attestor", self._config.attestor, round_)
        terms = policy.read_terms(signed, settler=settler, attestor=attestor, network=self._config.lnd_network)
        pins.seen("settler", settler, terms.settler, round_)
        pins.seen("attestor", attestor, terms.attestor, round_)
        return terms

    def _about(self, round_: int) -> dict[str, str | int]:
        return {"round": round_, "peer": self._parts.keys.identity.public}
