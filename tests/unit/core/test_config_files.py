"""Values from mounted files: a password need not stand in the environment, where every child process reads it."""

import os
from pathlib import Path

import pytest
from l402_settler.config import Config
from pydantic_settings import SettingsError

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("L402_")]:
        monkeypatch.delenv(name)


def test_a_variable_may_name_the_file_that_holds_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Surrounding white space is not part of it: editors end a file with a line feed."""
    (tmp_path / "url").write_text("nats://settler:secret@nats:4222\n")
    (tmp_path / "peers").write_text(f'["{KEY}"]')
    monkeypatch.setenv("L402_SETTLER_NATS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("L402_SETTLER_EXPECTED_PEERS_FILE", str(tmp_path / "peers"))
    config = Config()
    assert config.nats_url == "nats://settler:secret@nats:4222"
    assert config.expected_peers == (KEY,)


def test_the_variable_itself_comes_first_and_bounds_hold_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is no way around a bound."""
    (tmp_path / "fee").write_text("0")
    monkeypatch.setenv("L402_SETTLER_FEE_MSAT_FILE", str(tmp_path / "fee"))
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Config()
    monkeypatch.setenv("L402_SETTLER_FEE_MSAT", "7")
    assert Config().fee_msat == 7


def test_a_file_that_is_not_there_is_named_and_so_is_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default would be somebody else's server."""
    monkeypatch.setenv("L402_SETTLER_NATS_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"L402_SETTLER_NATS_URL_FILE names .*none, which cannot be read"):
        Config()
