"""Every open row of the books: whose move it is, what the move is, and by when. It reads rows, and asks no service.

Some have no deadline of their own, as the design has it: what is frozen waits for the person whom its note names, a credit
for its peer, a sponsorship for its tranches. A rung that is out has a height instead of a time.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
from l402core.documents import Terms
from l402core.signing import Signed

SETTLER, NODE, ORACLE, PERSON, PEER = "settler", "our node", "the oracle", "a person", "its peer"
TRANCHES = "the tranches before it"
AT_ONCE = -1
"""The deadline of a move that nothing holds up."""
ORACLE_SILENT_MS, MINUTE_MS, HOUR_MS, ASKS_MAX = 30_000, 60_000, 3_600_000, 24
OPEN_RUNG = ("registered", "in flight")
LIVE_TRANCHE = ("minting", "minted", "locked", "funding", "settling", "returning")
FROZEN_BY = "select by from freezes where about = ? and action = 'freeze' order by id desc limit 1"


class Wait(msgspec.Struct, frozen=True):
    """One open row; `move` is what its owner does by `by_ms` or `by_height`."""

    what: str
    owner: str
    move: str
    by_ms: int = 0
    by_height: int = 0
    payment_hash: str = ""
    """A rung's, about which our node has the last word."""

    def fault(self) -> str:
        """Why nothing will ever move it; '' where something will."""
        if not self.owner or not self.move:
            return f"{self.what} is open, and it is nobody's move"
        if self.owner in (SETTLER, NODE, ORACLE) and not self.by_ms and not self.by_height:
            return f"{self.what} is open without a deadline: {self.owner} has no time to {self.move}"
        return ""


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """How long the settler says that it waits, as its configuration has it."""

    never_sent_s: int
    announce_s: int
    judge_s: int
    round_blocks: int
    margin_blocks: int


class Waiting:
    """What is open in one settler's books."""

    def __init__(self, books: sqlite3.Connection, knobs: Knobs) -> None:
        self._books, self._knobs = books, knobs
        self._terms: dict[str, Terms] = {}

    def rows(self) -> Iterator[Wait]:
        """All of them, frozen ones too."""
        for number, phase, text in self._ask("select round, phase, terms from rounds where phase <> 'done'"):
            yield self._round(number, phase, self._read(text))
        rungs = self._ask("select payment_hash, commitment, attempt, state, not_after_ms, expiry_height from rungs")
        for hash_, _, _, state, not_after_ms, expiry_height in rungs:
            if state in OPEN_RUNG:
                yield self._rung(hash_, state, not_after_ms, expiry_height)
        yield from self._submissions(rungs)
        yield from self._sponsors()
        yield from self._credits()
        yield from self._held()
        for id_, subject in self._ask("select id, subject from outbox"):
            yield Wait(f"outbox row {id_} ({subject[:40]})", SETTLER, "publish it", AT_ONCE)

    def _round(self, number: int, phase: str, terms: Terms) -> Wait:
        what = f"round {number} ({phase})"
        if phase == "judge":
            return Wait(what, ORACLE, "judge it", terms.judge_by_ms)
        return Wait(what, SETTLER, "close it", terms.commit_until_ms if phase == "commit" else terms.upload_until_ms)

    def _rung(self, hash_: str, state: str, not_after_ms: int, expiry_height: int) -> Wait:
        what = f"rung {hash_[:8]} ({state})"
        if state == "in flight":
            return Wait(what, NODE, "let it expire", by_height=expiry_height, payment_hash=hash_)
        by_ms = not_after_ms + self._knobs.never_sent_s * 1_000 if not_after_ms else 0
        return Wait(what, SETTLER, "void what was never sent", by_ms, payment_hash=hash_)

    # --- submissions ------------------------------------------------------------------------------------------------

    def _submissions(self, rungs: list[Any]) -> Iterator[Wait]:
        columns = "s.commitment, s.state, s.attempt, s.frozen, s.due_by_ms, s.asks, s.asked_ms, r.terms"
        query = f"select {columns} from submissions s join rounds r on r.round = s.round where s.state <> 'ended'"  # noqa: S608
        for commitment, state, attempt, frozen, due_by_ms, asks, asked_ms, text in self._ask(query):
            what = f"escrow {commitment[:8]} ({state})"
            if frozen:
                yield self._frozen(what, commitment)
                continue
            ladder = {line[3] for line in rungs if line[1:3] == (commitment, attempt)}
            by = _Escrow(what, state, due_by_ms, asks, asked_ms, self._read(text), ladder)
            yield by.wait()

    def _frozen(self, what: str, about: str) -> Wait:
        """Somebody stopped it, and has a name."""
        noted = self._ask(FROZEN_BY, about)
        return Wait(f"{what}, frozen,", PERSON if noted and noted[0][0] else "", "thaw it")

    # --- sponsors, credits, what is held ------------------------------------------------------------------------------

    def _sponsors(self) -> Iterator[Wait]:
        lines = self._ask(
            "select t.sponsorship, t.payment_hash, t.state, t.frozen, t.pay_by_ms, t.expiry_height, t.sealed_preimage, "
            "r.terms from tranches t left join rounds r on r.round = t.round"
        )
        live = {line[0] for line in lines if line[2] in LIVE_TRANCHE or line[3]}
        for sponsorship, hash_, state, frozen, *rest in lines:
            what = f"tranche {hash_[:8]} ({state})"
            if frozen and state not in ("settled", "returned"):
                yield self._frozen(what, hash_)
            elif state == "announced":
                yield Wait(what, TRANCHES if sponsorship in live else "", "be over, so that it is asked for")
            elif state in LIVE_TRANCHE:
                yield self._tranche(what, state, *rest)
        open_ = {line[0] for line in lines if line[2] not in ("settled", "returned")}
        for sponsorship, state, opened_ms in self._ask(
            "select sponsorship, state, opened_at_ms from sponsorships where state <> 'ended'"
        ):
            what = f"sponsorship {sponsorship[:8]} ({state})"
            if state == "asked":
                by_ms = opened_ms + self._knobs.announce_s * 1_000 if opened_ms else 0
                yield Wait(what, SETTLER, "end what the oracle does not answer", by_ms)
            else:
                yield Wait(what, TRANCHES if sponsorship in open_ else "", "be over")

    def _tranche(
        self, what: str, state: str, pay_by_ms: int, expiry_height: int, sealed: str, terms: str | None
    ) -> Wait:
        knobs = self._knobs
        if state in ("minting", "minted"):
            return Wait(what, SETTLER, "give back what was not paid", pay_by_ms)
        if state == "locked":
            by_height = expiry_height - knobs.round_blocks - knobs.margin_blocks if expiry_height else 0
            return Wait(what, SETTLER, "give back what no round took", by_height=by_height)
        if state == "funding":
            judged_by_ms = self._read(terms).judge_by_ms + knobs.judge_s * 1_000 if terms else 0
            by_height = expiry_height - knobs.margin_blocks if expiry_height else 0
            return Wait(what, SETTLER if by_height else "", "give back what nobody judged", judged_by_ms, by_height)
        if state == "settling":
            return Wait(what, SETTLER if sealed else "", "settle it", AT_ONCE)
        return Wait(what, SETTLER, "cancel it", pay_by_ms + knobs.never_sent_s * 1_000 if pay_by_ms else 0)

    def _credits(self) -> Iterator[Wait]:
        """Open ones: each can be presented, for its token is none yet or not used."""
        query = """select c.payment_hash, c.peer, t.token_id from credits c left join tokens t on t.token_id = c.token_id
        where c.spent_on is null"""
        for hash_, peer, used in self._ask(query):
            yield Wait(f"credit {hash_[:8]}", PEER if peer and used is None else "", "present it")

    def _held(self) -> Iterator[Wait]:
        """Messages that wait: for the thaw of what they are about, or of the fee that they are."""
        stopped = (
            """select commitment from submissions where frozen union select payment_hash from tranches where frozen"""
        )
        frozen = {row[0] for row in self._ask(stopped)}
        for about, event in self._ask("select about, event from held"):
            owned = about in frozen or event.startswith("fee.")
            yield Wait(f"held {event} of {about[:8]}", PERSON if owned else "", "thaw it")

    def _ask(self, query: str, *about: str) -> list[Any]:
        return self._books.execute(query, about).fetchall()

    def _read(self, text: str) -> Terms:
        if text not in self._terms:
            self._terms[text] = msgspec.json.decode(msgspec.json.decode(text, type=Signed).body, type=Terms)
        return self._terms[text]


class _Escrow(msgspec.Struct, frozen=True):
    """What the move of one escrow depends on; `ladder` are the states of the rungs of its present offer."""

    what: str
    state: str
    due_by_ms: int
    asks: int
    asked_ms: int
    terms: Terms
    ladder: set[str]

    def wait(self) -> Wait:
        what, state, terms = self.what, self.state, self.terms
        out = bool(self.ladder & set(OPEN_RUNG))
        paid = "settled" in self.ladder
        match state:
            case "opened" | "offered" | "locking":
                return Wait(what, SETTLER, "fail it", terms.lock_by_ms)
            case "locked":
                return Wait(what, SETTLER, "fail it", terms.upload_until_ms)
            case "uploaded":  # where a rung is paid, the oracle has decided, and its word is on the way
                owner = ORACLE if paid else SETTLER
                return Wait(what, owner, "decide, or fail it", terms.judge_by_ms + ORACLE_SILENT_MS)
            case "scored" | "failed":
                return Wait(what, NODE if out else "", "end its rungs", AT_ONCE)
            case "relocked":
                return Wait(what, NODE if out or paid else "", "end its rungs", AT_ONCE)
            case "owed":
                return Wait(what, NODE if out else SETTLER, "offer it again", self.due_by_ms or AT_ONCE)
            case "due":
                pause_ms = min(MINUTE_MS << max(self.asks - 1, 0), HOUR_MS)
                by_ms = self.asked_ms + pause_ms if self.asked_ms else 0
                return Wait(what, SETTLER if self.asks <= ASKS_MAX else "", "ask for the new offer again", by_ms)
            case "reoffered" | "relocking":
                return Wait(what, SETTLER, "give up this offer", self.due_by_ms)
            case _:
                return Wait(what, "", "")
