"""The whole loop through the real command: trained, paid, judged, settled, booked, traced, and no secret left lying."""

import json
import shutil
import sqlite3
import struct
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from l402train import auditing, looking, screen, spans
from l402train.exits import Exit
from l402train.folder import Folder
from lndsim.journal import Journal
from lndsim.network import Network

from tests.support import leaks
from tests.support.demos import ROUNDS, Run
from tests.support.secrets_scan import key_values, rows, scan

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(400)]
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
CHEATS = ("accomplice", "sign-flip", "noise")


def test_the_run_holds_what_it_promises(demo_run: Run) -> None:
    """The command checks itself, and ends with 0."""
    assert demo_run.returncode == Exit.FINE, demo_run.output


def test_the_report_is_what_the_docs_promise(demo_run: Run) -> None:
    """It fits the schema, and has every round and every peer."""
    jsonschema.validate(demo_run.report, json.loads(SCHEMA.read_text()))
    assert [round_["round"] for round_ in demo_run.report["rounds"]] == list(range(1, ROUNDS + 1))
    for round_ in demo_run.report["rounds"]:
        assert {one["peer"] for one in round_["submissions"]} == {f"peer-{n}" for n in range(1, 7)}


def test_the_model_gets_better_in_every_round(demo_run: Run) -> None:
    """Held-out loss falls, and each round begins where the last one ended."""
    losses = [(round_["loss_before"], round_["loss_after"]) for round_ in demo_run.report["rounds"]]
    assert all(after < before for before, after in losses)
    assert all(losses[n][1] == losses[n + 1][0] for n in range(len(losses) - 1))


def test_every_receipt_that_it_keeps_can_be_verified(demo_run: Run) -> None:
    """Each round's record, with nothing but the folder of public objects; every payload opens, and its losses add up."""
    for number in range(1, ROUNDS + 1):
        file = demo_run.folder / "receipts" / f"round-{number}.json"
        wanted = auditing.Wanted(
            source=str(file), settler="", attestor="", objects="", whole_round=True, rerun=False, device="cpu"
        )  # fmt: skip
        evidence = auditing.read_evidence(str(file), whole_round=True)
        found = auditing.audit(evidence, wanted, auditing.objects_of(wanted))
        findings = [*found.round, *(one for each in found.receipts.values() for one in each)]
        assert [one for one in findings if one.agrees is not True] == []
        assert len(found.receipts) == len(demo_run.report["rounds"][number - 1]["submissions"])


def test_honest_peers_earn_and_cheats_do_not(demo_run: Run) -> None:
    """Everybody paid the fee and had a reward locked; only honest work was paid, and each refusal has a reason."""
    for one in demo_run.submissions():
        assert one["fee_msat"] > 0
        assert one["locked_msat"] > 0
        if one["kind"] in CHEATS:
            assert one["reward_msat"] == 0, one
            assert one["reasons"]
    for peer in ("peer-1", "peer-2", "peer-3"):
        mine = [one for one in demo_run.submissions() if one["peer"] == peer]
        assert sum(one["reward_msat"] for one in mine) > sum(one["fee_msat"] for one in mine)


def test_every_millisatoshi_is_booked(demo_run: Run) -> None:
    """Debits equal credits, nothing is locked any more, and the books say what the receipts say."""
    ledger = demo_run.report["ledger"]
    rewards = sum(one["reward_msat"] for one in demo_run.submissions())
    fees = sum(one["fee_msat"] for one in demo_run.submissions())
    assert ledger["debits_msat"] == ledger["credits_msat"] > 0
    assert ledger["open_escrows"] == 0
    assert ledger["accounts"]["rewards"]["debits_msat"] == rewards
    assert ledger["accounts"]["fees:earned"]["credits_msat"] == fees
    for name, account in ledger["accounts"].items():
        if name.startswith("peer:"):
            assert account["debits_msat"] == account["credits_msat"], name


def test_every_round_is_funded_by_a_sponsor_who_pays_for_progress_alone(demo_run: Run) -> None:
    """One tranche a round, minted as a hold invoice: settled where the gain reached the margin, else given back."""
    tranches = [round_["tranche"] for round_ in demo_run.report["rounds"]]
    assert [one["tranche"] for one in tranches] == list(range(ROUNDS))
    for one in tranches:
        assert one["outcome"] == ("settled" if one["interval"][0] >= one["margin"] else "returned"), one
    accounts = demo_run.report["ledger"]["accounts"]
    (booked,) = (account for name, account in accounts.items() if name.startswith("sponsors:"))
    assert booked["credits_msat"] == sum(one["amount_msat"] for one in tranches if one["outcome"] == "settled") > 0
    assert booked["debits_msat"] == booked["pending_credits_msat"] == 0
    assert f"Sponsored: {ROUNDS} of {ROUNDS} rounds." in demo_run.output
    for number in range(1, ROUNDS + 1):
        assert f"Sponsor of round {number}: " in demo_run.output
    assert "Sponsor of round 1: " in (demo_run.folder / "report.html").read_text()


def test_each_tranche_ended_at_both_nodes_as_the_books_say(demo_run: Run) -> None:
    """The coordinator's invoice and the sponsor's payment, from the simulated network's own journal."""
    journal = Journal(demo_run.folder / "lnd" / "network.journal")
    try:
        network = Network.restore(journal, lambda: 0)
    finally:
        journal.close()
    assert network is not None
    for one in (round_["tranche"] for round_ in demo_run.report["rounds"]):
        hash_ = bytes.fromhex(one["payment_hash"])
        invoice = network.nodes["coordinator"].invoices[hash_]
        payment = network.nodes["sponsor"].payments[hash_]
        settled = one["outcome"] == "settled"
        assert invoice.hold
        assert invoice.state.name == ("SETTLED" if settled else "CANCELED")
        assert payment.status.name == ("SUCCEEDED" if settled else "FAILED")


def test_every_trace_goes_through_all_five_services(demo_run: Run) -> None:
    """One trace id from the peer's request to the ledger's posting, paid or not."""
    for one in demo_run.submissions():
        trace = demo_run.report["traces"][one["trace_id"]]
        assert set(trace["services"]) == spans.FIVE, one
        assert trace["spans"] >= len(spans.FIVE)


def test_a_paid_submissions_posting_is_in_its_trace(demo_run: Run) -> None:
    """The ledger's own lines name the trace that the peer began."""
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])
    query = "select distinct trace_id from transfers where phase = 'post' and commitment = ?"
    posted = rows(demo_run.folder / "settler" / "books.sqlite3", query, paid["submission_id"])
    assert posted == [(paid["trace_id"],)]


def test_the_pages_and_the_picture_are_there(demo_run: Run) -> None:
    """One page that fetches nothing, and a PNG that is not empty."""

    class Reader(HTMLParser):
        fetched: list[str] = []  # noqa: RUF012 - one reader, one list

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    Reader().feed((demo_run.folder / "report.html").read_text())
    assert [source[:22] for source in Reader.fetched] == ["data:image/png;base64,"]
    png = (demo_run.folder / "run.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1_000
    assert height > 500


def test_the_run_is_told_while_it_happens(demo_run: Run) -> None:
    """Rounds, verdicts, the waterfall, the balance and the times are on the screen, as plain text without a terminal."""
    for words in ("Round 1: held-out loss", "sign-flip", "Trial balance", "first paid gradient", "Trace "):
        assert words in demo_run.output
    assert "\x1b[" not in demo_run.output


def test_afterwards_the_folder_can_still_be_asked(demo_run: Run) -> None:
    """`trace` and `ledger` work on a network that no longer runs."""
    out, folder = screen.console(to_stderr=True), Folder(demo_run.folder)
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])
    assert looking.trace(out, folder=folder, wanted=paid["trace_id"][:12], as_json=False) is Exit.FINE
    books = folder.settler / "books.sqlite3"
    assert looking.ledger(out, where=books, account=None, export=None, as_json=True) is Exit.FINE


# Secrets.


def test_keys_and_macaroons_are_nowhere_but_in_their_files(demo_run: Run) -> None:
    """No key file's value and no service's macaroon is in any log, span, message, book or report."""
    secrets = key_values(demo_run.folder / "keys")
    assert len(secrets) > 15
    assert scan(demo_run.folder, secrets) == []


def test_every_secret_of_the_run_is_known_to_the_search(demo_run: Run) -> None:
    """Rewards' preimages of every offer, tranches', and what the fees bought: computed again, and as many as there must be.

    The search itself runs after each of these tests, as after every other one of this folder.
    """
    folder, submissions = demo_run.folder, len(demo_run.submissions())
    assert len(leaks.reward_preimages(folder)) == 6 * submissions
    assert len(leaks.tranche_preimages(folder)) == len(demo_run.report["rounds"])
    journals = folder.glob("peers/*/journal.sqlite3")
    assert sum(len(leaks.bought(journal)) for journal in journals) == 2 * submissions
    assert len(leaks.node_preimages(folder)) >= submissions


def test_a_leak_is_found_whatever_leaks(demo_run: Run, tmp_path: Path) -> None:
    """Planted into a copy of what the search reads: a reward's preimage, a tranche's, a key, a fee's preimage."""
    for name in ("keys", "settler", "peers"):
        shutil.copytree(demo_run.folder / name, tmp_path / "copy" / name)
    copy = tmp_path / "copy"
    (copy / "logs").mkdir()
    assert leaks.leaks(copy) == []
    journal = next(copy.glob("peers/*/journal.sqlite3"))
    for secrets in (
        leaks.reward_preimages(copy),
        leaks.tranche_preimages(copy),
        key_values(copy / "keys"),
        leaks.bought(journal),
    ):
        name, secret = next(iter(secrets.items()))
        (copy / "logs" / "some.log").write_text(f'{{"oops": "{secret.hex()}"}}')
        assert leaks.leaks(copy) == [f"{name} in logs/some.log"]
    (copy / "logs" / "some.log").unlink()


def test_the_scanner_finds_what_it_looks_for(tmp_path: Path) -> None:
    """A planted secret is found in every spelling and in a database, and not in the places made for it."""
    secret = bytes(range(32))
    (tmp_path / "logs").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a.json").write_text(secret.hex())
    for number, text in enumerate((secret.hex(), secret.hex().upper(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")):
        (tmp_path / "logs" / f"{number}.log").write_text(f'{{"oops": "{text}"}}')
    connection = sqlite3.connect(tmp_path / "books.sqlite3")
    connection.execute("create table t (b blob)")
    connection.execute("insert into t values (?)", (secret,))
    connection.commit()
    connection.close()
    found = scan(tmp_path, {"planted": secret})
    assert found == [
        "planted in books.sqlite3",
        "planted in logs/0.log",
        "planted in logs/1.log",
        "planted in logs/2.log",
    ]
