"""What signed papers prove against a coordinator: its own word against its own word, or against the oracle's. Pure.

A peer keeps what it is signed. Two papers that cannot both be true convict whoever signed them, before anybody, without
trusting the peer. It refuses to count a paper whose signature does not hold, and knows no faults that leave no paper.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeVar

import msgspec

from l402core.documents import Locked, Offer, RoundRoot, Terms, UploadReceipt
from l402core.errors import Unauthorized
from l402core.evidence import JudgedRound
from l402core.signing import Signed, open_signed

T = TypeVar("T", bound=msgspec.Struct)


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer holds of one submission, or anybody may read of its round."""

    terms: tuple[Signed, ...] = ()
    roots: tuple[Signed, ...] = ()
    locked: tuple[Signed, ...] = ()
    upload: Signed | None = None
    offer: Signed | None = None
    """Signed by the attestor, at the settler's request."""
    judged: Signed | None = None
    """The round's page, signed by the attestor."""


class Conviction(msgspec.Struct, frozen=True, kw_only=True):
    """A contradiction between papers."""

    code: str
    sentence: str
    papers: tuple[Signed, ...]
    """Exactly those that contradict each other: enough for anybody to see it."""


def convictions(papers: Papers, *, settler: str, attestor: str) -> tuple[Conviction, ...]:
    """Everything that is proved against the coordinator; empty where nothing is."""
    terms = _held(papers.terms, Terms.tag, Terms, settler)
    roots = _held(papers.roots, RoundRoot.tag, RoundRoot, settler)
    locked = _held(papers.locked, Locked.tag, Locked, settler)
    uploads = _held((papers.upload,), UploadReceipt.tag, UploadReceipt, settler)
    offers = _held((papers.offer,), Offer.tag, Offer, attestor)
    judged = _held((papers.judged,), JudgedRound.tag, JudgedRound, attestor)
    return (
        *_twice("terms_twice", "signed two different terms of one round", terms),
        *_twice("root_twice", "signed two different orders of one round's commitments", roots),
        *_relocked(locked),
        *_left_out(roots, [*locked, *uploads, *offers]),
        *_unjudged(terms, judged, locked, uploads),
    )


def _twice(code: str, what: str, held: Sequence[tuple[Terms | RoundRoot, Signed]]) -> Iterator[Conviction]:
    for (one, first), (other, second) in combinations(held, 2):
        if one.round == other.round and first.body != second.body:
            yield Conviction(code=code, sentence=f"The coordinator {what} ({one.round}).", papers=(first, second))


def _relocked(locked: list[tuple[Locked, Signed]]) -> Iterator[Conviction]:
    """The oracle reveals nothing near the expiry that is signed: another one could cost the reward."""
    for (one, first), (other, second) in combinations(locked, 2):
        if one.payment_hashes == other.payment_hashes and one.expiry_height != other.expiry_height:
            sentence = (
                f"The coordinator signed two expiries of one ladder: {one.expiry_height} and {other.expiry_height}."
            )
            yield Conviction(code="locked_twice", sentence=sentence, papers=(first, second))


def _left_out(
    roots: list[tuple[RoundRoot, Signed]], named: Sequence[tuple[Locked | UploadReceipt | Offer, Signed]]
) -> Iterator[Conviction]:
    for root, signed in roots:
        for paper, proof in named:
            if paper.round == root.round and paper.commitment not in root.commitments:
                sentence = f"The coordinator's order of round {root.round} leaves out a commitment that it took."
                yield Conviction(code="left_out", sentence=sentence, papers=(signed, proof))


def _unjudged(
    terms: list[tuple[Terms, Signed]],
    judged: list[tuple[JudgedRound, Signed]],
    locked: list[tuple[Locked, Signed]],
    uploads: list[tuple[UploadReceipt, Signed]],
) -> Iterator[Conviction]:
    """Locked and uploaded in time by the coordinator's own word, and the oracle never heard of the upload."""
    for upload, proof in uploads:
        until = [one for one, _ in terms if one.round == upload.round and upload.uploaded_at_ms <= one.upload_until_ms]
        locks = [signed for lock, signed in locked if lock.commitment == upload.commitment]
        for page, signed in judged:
            known = any(entry.commitment == upload.commitment for entry in page.entries)
            if until and locks and page.round == upload.round and not known:
                sentence = f"It was uploaded in time, and was kept from the judgement of round {upload.round}."
                yield Conviction(code="kept_from_judgement", sentence=sentence, papers=(proof, locks[0], signed))


def _held(papers: tuple[Signed | None, ...], tag: str, kind: type[T], signer: str) -> list[tuple[T, Signed]]:
    """The documents whose signatures hold."""
    found = []
    for signed in papers:
        if signed is None:
            continue
        try:
            found.append((open_signed(signed, tag, kind, signer=signer), signed))
        except Unauthorized:
            continue
    return found
