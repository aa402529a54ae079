"""What became of sponsors' tranches, joined from the facts in any order, and told in one line each. It asks nothing."""

import msgspec
from l402core import events
from l402core.documents import Terms
from l402core.events import Event
from l402core.money import show_sat
from l402core.pledges import TrancheLocked, TrancheReceipt

from l402train.report import RoundReport, TrancheReport

NANO = 1e-9


class _Tranche:
    def __init__(self) -> None:
        self.locked = False
        self.outcome = ""
        self.reason = ""
        self.receipt: TrancheReceipt | None = None


class Tranches:
    """Everything so far, by payment hash."""

    def __init__(self) -> None:
        self._tranches: dict[str, _Tranche] = {}
        self._terms: dict[int, Terms] = {}

    def take(self, fact: Event) -> None:
        """One fact."""
        match fact:
            case events.RoundOpened():
                self._terms[fact.round] = msgspec.json.decode(fact.terms.body, type=Terms)
            case events.SponsorshipLocked():
                locked = msgspec.json.decode(fact.locked.body, type=TrancheLocked)
                self._of(locked.payment_hash).locked = True
            case events.SponsorshipJudged():
                self._of(fact.payment_hash).receipt = msgspec.json.decode(fact.receipt.body, type=TrancheReceipt)
            case events.SponsorshipSettled():
                self._of(fact.payment_hash).outcome = "settled"
            case events.SponsorshipReturned():
                known = self._of(fact.payment_hash)
                known.outcome, known.reason = "returned", fact.reason
            case _:
                pass

    def _of(self, payment_hash: str) -> _Tranche:
        return self._tranches.setdefault(payment_hash, _Tranche())

    def are_over(self) -> bool:
        """Whether each one that was locked has ended."""
        return all(one.outcome for one in self._tranches.values() if one.locked)

    def is_over(self, round_: int) -> bool:
        """Whether what this round is funded by has ended; True where it has no sponsor."""
        told = self.report(round_)
        return told is None or told.outcome != "open"

    def report(self, round_: int) -> TrancheReport | None:
        """The one that this round is funded by, as the report has it."""
        terms = self._terms.get(round_)
        if terms is None or terms.tranche is None:
            return None
        tranche, known = terms.tranche, self._of(terms.tranche.payment_hash)
        receipt = known.receipt if known.receipt is not None and known.receipt.sequences else None
        return TrancheReport(
            sponsorship=tranche.sponsorship,
            tranche=tranche.tranche,
            payment_hash=tranche.payment_hash,
            amount_msat=tranche.amount_msat,
            margin=tranche.margin * NANO,
            gain=receipt.drop_mean * NANO if receipt else None,
            interval=(receipt.drop_low * NANO, receipt.drop_high * NANO) if receipt else None,
            outcome=known.outcome or "open",
            reason=known.receipt.reason if known.receipt and not known.reason else known.reason,
        )


def sentence(one: TrancheReport) -> str:
    """One tranche for people."""
    pledged = f"{show_sat(one.amount_msat)} pledged for a gain of {one.margin:.4f}"
    seen = ""
    if one.gain is not None and one.interval is not None:
        seen = f"; measured {one.gain:+.4f} ± {(one.interval[1] - one.interval[0]) / 2:.4f} on shards of its own"
    return f"{pledged}{seen}: {one.outcome}{'' if seen or not one.reason else f' ({one.reason})'}"


def line(report: RoundReport) -> str:
    """One round's line."""
    told = sentence(report.tranche) if report.tranche else "none, the treasury pays"
    return f"  Sponsor of round {report.round}: {told}"


def totals(rounds: tuple[RoundReport, ...]) -> str:
    """What sponsors' money came to over the run; '' where no round had a sponsor."""
    tranches = [round_.tranche for round_ in rounds if round_.tranche is not None]
    if not tranches:
        return ""
    settled = [one.amount_msat for one in tranches if one.outcome == "settled"]
    returned = [one.amount_msat for one in tranches if one.outcome == "returned"]
    return (
        f"Sponsored: {len(tranches)} of {len(rounds)} rounds. {len(settled)} tranches settled ({show_sat(sum(settled))}), "
        f"{len(returned)} returned ({show_sat(sum(returned))})."
    )
