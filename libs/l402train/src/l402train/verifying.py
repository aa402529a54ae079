"""Whether an oracle's receipts are what it may sign: signatures, chain, identities, shards, statistics and pay. No tensor.

It works on public documents alone, offline. What it cannot look at is said, never taken for granted. Measuring the same
payload again is `replaying`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec
from l402_oracle import scoring
from l402_oracle.attestor.judgement import reference_from
from l402_oracle.derive import drawn_shards, yardstick_name
from l402_oracle.planning import FLOOR_SHARDS
from l402core.documents import Receipt, Terms, mask_indices
from l402core.errors import L402Error, PeerError
from l402core.evidence import Evidence, JudgedEntry, JudgedRound, counts, late_faults, pay_inputs, receipts_root
from l402core.schedule import difference
from l402core.sealing import open_payload
from l402core.signing import Signed, open_signed
from l402core.succession import heirs
from sparseloco.corpus import load_corpus
from sparseloco.defaults import CONTEXT, SHARD_WINDOWS

T = TypeVar("T", bound=msgspec.Struct)
NANO = 1_000_000_000
PPM = 1_000_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `agrees` is None where it could not be looked at here."""

    check: str
    agrees: bool | None
    detail: str = ""


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Per-sequence losses as the oracle published them."""

    shards: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    own_before: tuple[float, ...] = ()
    """On windows of the peer's assigned data, where it was tried on them."""
    own_after: tuple[float, ...] = ()

    @property
    def drops(self) -> list[float]:
        """On hidden shards, sequence by sequence. Raises ValueError where one is missing."""
        return [before - after for before, after in zip(self.before, self.after, strict=True)]

    @property
    def own_drops(self) -> list[float]:
        """The same on assigned data."""
        return [before - after for before, after in zip(self.own_before, self.own_after, strict=True)]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence whose signatures hold."""

    terms: Terms
    judged: JudgedRound
    receipts: tuple[tuple[Receipt, Signed], ...]


def opened(evidence: Evidence, *, settler: str = "", attestor: str = "") -> tuple[Opened | None, list[Finding]]:
    """The documents, once every signature holds; None where one does not. Empty keys: those that the terms name."""
    findings: list[Finding] = []

    def read(what: str, signed: Signed, tag: str, kind: type[T], signer: str) -> T | None:
        try:
            document = open_signed(signed, tag, kind, signer=signer)
        except L402Error as error:
            findings.append(Finding(check=f"signature of {what}", agrees=False, detail=error.detail))
            return None
        findings.append(Finding(check=f"signature of {what}", agrees=True, detail=f"by {signer[:16]}…"))
        return document

    said = _hand_overs(evidence.terms)
    heirs_of_settler = heirs(said, "settler", settler) if settler else (evidence.terms.signer,)
    terms = read("the terms", evidence.terms, Terms.tag, Terms, _heir(evidence.terms.signer, heirs_of_settler))
    if terms is None:
        return None, findings
    findings.append(_same("settler's key", terms.settler, evidence.terms.signer))
    signer = _heir(terms.attestor, heirs(said, "attestor", attestor) if attestor else (terms.attestor,))
    findings.append(_same("attestor's key", terms.attestor, signer))
    judged = read("the judged round", evidence.judged, JudgedRound.tag, JudgedRound, signer)
    receipts = [
        (read(f"receipt {number + 1}", signed, Receipt.tag, Receipt, signer), signed)
        for number, signed in enumerate(evidence.receipts)
    ]
    whole = tuple((receipt, signed) for receipt, signed in receipts if receipt is not None)
    if judged is None or len(whole) != len(receipts):
        return None, findings
    return Opened(terms=terms, judged=judged, receipts=whole), findings


def _heir(found: str, trusted: tuple[str, ...]) -> str:
    """The key found, where a pinned one leads to it; else the pinned one, which then is the key that is missed."""
    return found if found in trusted else trusted[0]


def _hand_overs(signed: Signed) -> tuple[Signed, ...]:
    try:
        return msgspec.json.decode(signed.body, type=Terms).hand_overs
    except msgspec.MsgspecError:
        return ()


def round_findings(found: Opened) -> Iterator[Finding]:
    """What holds for the round as a whole."""
    terms, judged = found.terms, found.judged
    yield _same("the round's terms", judged.terms, terms.digest())
    yield _same("the round's number", judged.round, terms.round)
    yield _same("the seed that was committed to", _sha256(judged.seed), terms.seed_commitment)
    digests = tuple(entry.receipt for entry in judged.entries)
    yield _same("the root over the receipts", judged.receipts_root, receipts_root(digests))
    yield from _shards(found)
    yield _same("the round's reference", judged.reference, _reference(terms, judged))
    yield from _yardstick(found)


def receipt_findings(found: Opened, receipt: Receipt, signed: Signed) -> Iterator[Finding]:
    """What holds for one receipt, beside its round's page and its terms."""
    terms, judged = found.terms, found.judged
    places = [place for place, entry in enumerate(judged.entries) if entry.receipt == signed.digest()]
    if len(places) != 1:
        yield Finding(
            check="its place in the round", agrees=False, detail="the signed page of the round does not name it"
        )
        return
    place = places[0]
    before = judged.entries[place - 1].receipt if place else ""
    yield _same("the receipt before it", receipt.previous, before)
    entry = JudgedEntry(
        commitment=receipt.commitment, peer=receipt.peer, verdict=receipt.verdict, drop_mean=receipt.drop_mean,
        drop_low=receipt.drop_low, units=receipt.units, receipt=signed.digest(), counts=counts(receipt),
    )  # fmt: skip
    yield _same("its line on the round's page", entry, judged.entries[place])
    for name in ("round", "terms", "root", "seed", "shards", "clip_norms", "reference"):
        yield _same(f"its {name.replace('_', ' ')}", getattr(receipt, name), getattr(judged, name))
    yield _same("its checkpoint", receipt.checkpoint, terms.checkpoint.sha256)
    yield _same("its model", receipt.model_id, terms.model_id)
    yield _same("its outer step", receipt.outer_rate_ppm, terms.recipe.outer_rate_ppm)
    yield from _pay(receipt, terms)
    yield from _statements(receipt)


def _pay(receipt: Receipt, terms: Terms) -> Iterator[Finding]:
    yield _same("the formula's inputs", receipt.pay, pay_inputs(terms))
    yield _same("its floor", receipt.floor, receipt.reference * terms.phi_ppm // PPM)
    wrong = difference(receipt, terms)
    yield Finding(check="score to amount", agrees=wrong is None, detail=wrong[1] if wrong else "")
    rungs = terms.rung_msat()
    if receipt.mask >> len(rungs) == 0:
        yield _same("its rungs", receipt.rungs_msat, tuple(rungs[i] for i in mask_indices(receipt.mask, len(rungs))))
        yield _same("the sum of its rungs", sum(receipt.rungs_msat), receipt.reward_msat)
    if receipt.eval_tokens and receipt.verdict != "unscored":
        yield from _decided(receipt, terms)
    else:
        yield _same(
            "nothing earned", (receipt.units, receipt.mask, receipt.quality_ppm, receipt.drop_mean), (0, 0, 0, 0)
        )


def _decided(receipt: Receipt, terms: Terms) -> Iterator[Finding]:
    """The decision once more, from the interval: verdict, quality, units, rungs and words.

    A fault that only the whole round shows is taken from the receipt: whether it is one, the published losses say.
    """
    sequences = receipt.eval_tokens // CONTEXT
    half = (receipt.drop_high - receipt.drop_mean) / NANO / scoring.SIGMAS
    seen = scoring.Interval(receipt.drop_mean / NANO, half, sequences)
    reference = receipt.reference / NANO if receipt.reference else None
    rules = scoring.PayRules(phi_ppm=terms.phi_ppm, rungs=len(terms.rungs))
    faults = [scoring.Reason(check.code, check.detail) for check in late_faults(receipt)]
    try:
        made = scoring.decide(seen, faults, reference, rules)
    except ValueError as error:
        yield Finding(check="the decision", agrees=False, detail=str(error))
        return
    for name in ("verdict", "quality_ppm", "units", "mask"):
        yield _same(f"its {name.removesuffix('_ppm')}", getattr(receipt, name), getattr(made, name))
    yield _same("its reasons", receipt.reasons, tuple(reason.sentence for reason in made.reasons))
    said = [(check.code, check.detail) for check in receipt.checks[-len(made.reasons) :]]
    yield _same("the check that decided", said, [(reason.code, reason.sentence) for reason in made.reasons])


def _statements(receipt: Receipt) -> Iterator[Finding]:
    """The words beside the numbers: they must say the same."""
    earned = receipt.verdict == "accepted"
    yield _same("its checks", all(check.passed for check in receipt.checks), earned)
    failed = tuple(check.detail for check in receipt.checks if check.passed is earned)
    yield _same("its reasons, as checks", receipt.reasons, failed[-len(receipt.reasons) :])
    measured = receipt.eval_tokens > 0
    yield _same("the conditions of its measurement", bool(receipt.conditions.hardware), measured)
    if measured:
        ordered = receipt.drop_low <= receipt.drop_mean <= receipt.drop_high
        yield Finding(check="its interval", agrees=ordered, detail="low, mean, high ascend")


def losses_findings(receipt: Receipt, get: Callable[[str], bytes | None]) -> Iterator[Finding]:
    """The statistics, from the published per-sequence losses."""
    if receipt.losses is None:
        if receipt.eval_tokens:
            yield Finding(check="its losses", agrees=False, detail="measured, and no losses are named")
        return
    data = get(receipt.losses.sha256)
    if data is None:
        yield Finding(check="its losses", agrees=None, detail=f"object {receipt.losses.sha256[:16]}… is not at hand")
        return
    try:
        losses = msgspec.json.decode(data, type=Losses)
        seen = scoring.interval(losses.drops)
    except (msgspec.MsgspecError, ValueError) as error:
        yield Finding(check="its losses", agrees=False, detail=f"not a list of losses: {error}")
        return
    yield _same("the size of the losses", len(data), receipt.losses.size)
    yield _same("the shards measured", losses.shards, receipt.shards[: len(losses.shards)])
    yield _same("the sequences measured", len(losses.after), len(losses.shards) * SHARD_WINDOWS)
    yield _same("the tokens measured", receipt.eval_tokens, len(losses.after) * CONTEXT)
    for name, value in (("mean", seen.mean), ("lower end", seen.lo), ("upper end", seen.hi)):
        found = {"mean": receipt.drop_mean, "lower end": receipt.drop_low, "upper end": receipt.drop_high}[name]
        yield _same(f"the {name} of the drop", found, round(value * NANO))


def payload_findings(receipt: Receipt, get: Callable[[str], bytes | None]) -> Iterator[Finding]:
    """The sealed bytes: their hash, and that the published key opens them."""
    sealed = get(receipt.payload_hash) if receipt.payload_hash else None
    if sealed is None:
        yield Finding(check="its payload", agrees=None, detail="the sealed payload is not at hand")
        return
    yield _same("the payload's hash", hashlib.sha256(sealed).hexdigest(), receipt.payload_hash)
    if not receipt.content_key:
        return
    try:
        open_payload(sealed, bytes.fromhex(receipt.content_key))
    except (PeerError, ValueError) as error:
        yield Finding(check="the payload's key", agrees=False, detail=str(error))
    else:
        yield Finding(check="the payload's key", agrees=True)


def chain_findings(found: Opened) -> Iterator[Finding]:
    """All receipts of the round, each once and in order."""
    digests = tuple(signed.digest() for _, signed in found.receipts)
    yield _same("every receipt of the round", digests, tuple(entry.receipt for entry in found.judged.entries))


def _shards(found: Opened) -> Iterator[Finding]:
    terms, judged = found.terms, found.judged
    corpora = {receipt.conditions.corpus for receipt, _ in found.receipts if receipt.conditions.corpus}
    mine = load_corpus()
    if corpora - {mine.sha256.hex()}:
        yield Finding(check="the hidden shards", agrees=None, detail="this Python ships another text than the oracle's")
        return
    drawn = drawn_shards(mine, bytes.fromhex(judged.seed), judged.root, terms.eval_tokens)
    yield _same("the hidden shards", judged.shards, drawn[: len(judged.shards)])
    enough = len(judged.shards) >= min(FLOOR_SHARDS, len(drawn))
    yield Finding(check="the number of hidden shards", agrees=enough, detail=f"{len(judged.shards)} of {len(drawn)}")


def _reference(terms: Terms, judged: JudgedRound) -> int:
    """From the drops on the round's page, as the terms' formula has it."""
    drops = [entry.drop_mean for entry in judged.entries if entry.counts and entry.drop_low > 0]
    return reference_from(terms, drops, judged.yardstick)


def _yardstick(found: Opened) -> Iterator[Finding]:
    """The oracle's own update: there where the terms have one, under the name that round and checkpoint give."""
    terms, own = found.terms, found.judged.yardstick
    if own is None:
        why = "the terms ask for one, and it was not made in time" if terms.yardstick else ""
        yield Finding(check="the yardstick", agrees=None if terms.yardstick else True, detail=why)
        return
    yield _same("a yardstick", terms.yardstick, True)
    yield _same("the yardstick's name", own.name, yardstick_name(terms.round, terms.checkpoint.sha256))
    yield _same("what updates were clipped to", found.judged.clip_norms, own.norms)


def _same(check: str, found: object, expected: object) -> Finding:
    if found == expected:
        return Finding(check=check, agrees=True)
    return Finding(check=check, agrees=False, detail=f"it says {_short(found)}, expected {_short(expected)}")


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode() if isinstance(value, msgspec.Struct | Mapping) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _sha256(text: str) -> str:
    try:
        return hashlib.sha256(bytes.fromhex(text)).hexdigest()
    except ValueError:
        return ""
