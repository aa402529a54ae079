"""The command line: what it refuses, what it prints, and with which code it ends."""

import json
import socket
from html.parser import HTMLParser
from pathlib import Path

import pytest
from l402train import cli, lives, page, parts, picture, screen
from l402train.exits import MEANINGS, Exit, Stop
from l402train.knobs import knobs
from l402train.peers import cast, kinds

from tests.support.runs import a_report, a_span, a_submission


def ends_with(*words: str) -> int:
    """The exit code of a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["l402-train", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    "words", [["demo", "--rounds", "0"], ["demo", "--peers", "many"], ["dance"], ["up", "--port", "99999"]]
)
def test_a_senseless_command_line_ends_with_2(words: list[str]) -> None:
    """Nothing is started for what cannot be meant."""
    assert ends_with(*words) == Exit.USAGE


@pytest.mark.parametrize("words", [["trace", "ab"], ["ledger"], ["status"]])
def test_looking_where_nothing_ran_ends_with_7(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is missing, and no folder is made."""
    assert ends_with(*words, "--dir", str(tmp_path / "none")) == Exit.NOT_FOUND
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_an_error_in_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read what people read."""
    ends_with("ledger", "--dir", str(tmp_path / "none"), "--json")
    told = json.loads(capsys.readouterr().err)
    assert told["code"] == Exit.NOT_FOUND
    assert "no settler" in told["error"]


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    """The number is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Stop, match=str(port)) as stop:
            parts.check_port(port)
    assert stop.value.code is Exit.PORT_IN_USE


def test_every_exit_code_has_a_sentence() -> None:
    """The help and the docs list all of them."""
    assert set(MEANINGS) == set(Exit)
    assert all(sentence in cli.EPILOGUE for sentence in MEANINGS.values())


def test_config_prints_every_knob_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its variable and a sentence."""
    assert ends_with("config", "--json") == Exit.FINE
    told = json.loads(capsys.readouterr().out)
    assert {knob["name"] for knob in told} == {knob.name for knob in knobs()}
    assert all(knob["name"].startswith("L402_") and knob["description"].endswith((".", ";")) for knob in told)


def test_one_peer_is_honest_and_six_are_three_and_three() -> None:
    """The cast follows one fixed cycle."""
    assert kinds(1) == ("honest",)
    assert kinds(8) == (*("honest",) * 3, "accomplice", "sign-flip", "noise", "honest", "honest")


def test_named_adversaries_stand_beside_honest_peers() -> None:
    """A pool is several identities, and each of them knows its leader and its place."""
    everybody = cast(tuple("abcdef"), kinds(2, ("late", "pool-slices")))
    assert [peer.kind for peer in everybody] == ["honest", "honest", "late", *["pool-slices"] * 3]
    assert [(peer.leader, peer.member) for peer in everybody] == [("", 0)] * 3 + [("d", 0), ("d", 1), ("d", 2)]


class _Resources(HTMLParser):
    """Collects whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_needs_nothing_else() -> None:
    """No script, and the only thing with an address is the picture inside it; it adapts to dark and to phones."""
    report = a_report(a_submission(), a_submission(peer="<b>", kind="noise", reward_msat=0))
    drawn = picture.draw(report.rounds)
    html = page.render(report, drawn, lives.life([a_span("one", name="PUT gradient")]), faults=["a <fault>"])
    reader = _Resources()
    reader.feed(html)
    assert drawn.startswith(b"\x89PNG")
    assert [source[:22] for source in reader.fetched] == ["data:image/png;base64,"]
    assert not reader.tags & {"script", "link", "iframe", "b"}
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html
    assert "a &lt;fault&gt;" in html
    assert "url(" not in html


def test_amounts_show_millisatoshi_only_where_there_are_any() -> None:
    """Satoshi with thousands; a negative net is told as such."""
    assert (screen.sat(6_300_000), screen.sat(1_500), screen.sat(-500_000)) == ("6,300", "1.500", "-500")
