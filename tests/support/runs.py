"""Builders for tests of the command line: facts, a report, spans, in as few words as a test needs."""

from typing import Any

import msgspec
from l402core import events
from l402core.documents import Conditions, ObjectRef, Receipt, Recipe, Terms
from l402core.signing import SigningKey
from l402train.report import (
    AccountReport,
    LedgerReport,
    PartsReport,
    Report,
    RoundReport,
    SubmissionReport,
    TraceReport,
)
from l402train.spans import FIVE, Span

KEY = SigningKey(b"\x01" * 32)
REF = ObjectRef(uri="file:///checkpoint", sha256="aa" * 32, size=1)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def terms(round_: int = 1) -> Terms:
    """A round's terms with a unit of 100 sat."""
    return Terms(
        network="simnet",
        round=round_,
        checkpoint=REF,
        model_id="m",
        seed_commitment="bb" * 32,
        opened_at_ms=0,
        commit_until_ms=1,
        lock_by_ms=2,
        upload_until_ms=3,
        judge_by_ms=4,
        reveal_by_height=500,
        fee_msat=500_000,
        unit_msat=100_000,
        places=8,
        budget_msat=50_400_000,
        phi_ppm=600_000,
        reference_previous=0,
        eval_tokens=65_536,
        cltv_min=60,
        cltv_max=200,
        invoice_expiry_min_s=600,
        payload_max_bytes=1,
        expected_peers=(),
        recipe=Recipe(
            inner_steps=1,
            batch=1,
            sequence_length=8,
            learning_rate_ppm=1,
            feedback_decay_ppm=1,
            outer_rate_ppm=1,
            chunk_k=1,
        ),
        settler=KEY.public,
        attestor=KEY.public,
        attestor_url="http://127.0.0.1:1",
        reading_key="cc" * 32,
    )


def receipt(commitment: str, *, reward_msat: int, verdict: str = "accepted", drop: int = 10_000_000) -> Receipt:
    """A receipt whose interval is the drop ± 2 millinats."""
    return Receipt(
        commitment=commitment,
        round=1,
        peer="dd" * 32,
        verdict=verdict,
        reasons=("it lowers the loss",),
        checks=(),
        checkpoint=REF.sha256,
        payload_hash="ee" * 32,
        content_key="ff" * 32,
        terms="aa" * 32,
        seed="bb" * 32,
        root="cc" * 32,
        shards=(1,),
        eval_tokens=65_536,
        drop_mean=drop,
        drop_low=drop - 2_000_000,
        drop_high=drop + 2_000_000,
        reference=1,
        floor=1,
        quality_ppm=1,
        units=reward_msat // 100_000,
        mask=reward_msat // 100_000,
        reward_msat=reward_msat,
        model_id="m",
        conditions=Conditions(hardware="cpu"),
        losses=None,
        previous="",
    )


def a_story(commitment: str, peer: str, *, reward_msat: int = 3_100_000) -> list[events.Event]:
    """All facts of one submission that was paid 31 units, in the order in which they happen."""
    common: dict[str, Any] = {"id": "1", "occurred_at_ms": 1, "round": 1}
    mine: dict[str, Any] = {**common, "commitment": commitment}
    rungs = [(index, 100_000 << index) for index in range(6)]
    mask = reward_msat // 100_000
    ends: list[events.Event] = [
        (events.EscrowSettled if mask >> index & 1 else events.EscrowReturned)(
            **mine, index=index, payment_hash="aa" * 32, amount_msat=amount
        )
        for index, amount in rungs
    ]
    told = receipt(commitment, reward_msat=reward_msat)
    return [
        events.RoundOpened(**common, terms=KEY.sign(Terms.tag, terms())),
        events.SubmissionOpened(**mine, peer=peer, seq=1, fee_msat=500_000),
        events.EscrowLocked(**mine, locked=KEY.sign(Terms.tag, terms())),
        events.GradientUploaded(**mine, peer=peer, checkpoint="aa" * 32, model_id="m", payload=REF),
        events.GradientScored(
            **mine,
            peer=peer,
            mask=mask,
            reward_msat=reward_msat,
            verdict=told.verdict,
            reasons=told.reasons,
            receipt=KEY.sign(Receipt.tag, told),
            sealed_preimages=(),
        ),
        *ends,
        checkpoint(1, 5_600_000_000),
        checkpoint(2, 4_900_000_000),
    ]


def checkpoint(round_: int, loss: int) -> events.CheckpointPublished:
    """A checkpoint as the base of a round; loss in nano-nats."""
    return events.CheckpointPublished(
        id="1",
        occurred_at_ms=1,
        round=round_,
        checkpoint=REF,
        parent="",
        model_id="m",
        seed_commitment="bb" * 32,
        reference_previous=0,
        held_out_before=loss,
        held_out_after=loss,
        accepted=(),
    )


def wire(event: events.Event) -> tuple[str, bytes, str]:
    """As the bus brings it: subject, body, traceparent."""
    return event.subject, msgspec.json.encode(event), PARENT


def a_submission(**changes: Any) -> SubmissionReport:
    """An honest one that was paid."""
    told = SubmissionReport(
        submission_id="ab" * 32,
        peer="peer-1",
        kind="honest",
        fee_msat=500_000,
        locked_msat=6_300_000,
        score=0.01,
        interval=(0.008, 0.012),
        reward_msat=3_100_000,
        verdict="accepted",
        reasons=("it lowers the loss",),
        trace_id=TRACE,
    )
    return msgspec.structs.replace(told, **changes)


def a_report(*submissions: SubmissionReport, open_escrows: int = 0, credits_msat: int = 100) -> Report:
    """One round with these submissions, over balanced books."""
    return Report(
        parts=PartsReport(nats="n 1", redis="r 1", lightning="l", database="d"),
        rounds=(RoundReport(round=1, loss_before=5.6, loss_after=4.9, submissions=submissions or (a_submission(),)),),
        ledger=LedgerReport(
            debits_msat=100,
            credits_msat=credits_msat,
            open_escrows=open_escrows,
            accounts={"lightning": AccountReport(debits_msat=100, credits_msat=0)},
        ),
        traces={TRACE: TraceReport(services=tuple(sorted(FIVE)), spans=9)},
    )


def a_span(span_id: str, parent_id: str = "", *, start_ms: int = 0, length_ms: int = 10, **more: Any) -> Span:
    """One span of the trace."""
    told: dict[str, Any] = {"service": "gateway", "name": span_id, "kind": "INTERNAL", "status": "UNSET", **more}
    return Span(
        trace_id=TRACE,
        span_id=span_id,
        parent_id=parent_id,
        start_ns=start_ms * 1_000_000,
        end_ns=(start_ms + length_ms) * 1_000_000,
        **told,
    )
