"""The settler's knobs refuse to contradict each other before anything starts."""

from typing import Any

import pytest
from l402_settler.config import Config
from pydantic import ValidationError


def test_a_window_of_cltv_is_never_empty() -> None:
    """Terms that no invoice can meet would sell places that nobody can fill."""
    assert Config(cltv_min=144, cltv_max=144).cltv_max == 144
    with pytest.raises(ValidationError, match="cltv_max 100 is below cltv_min 144"):
        Config(cltv_min=144, cltv_max=100)


@pytest.mark.parametrize("margin", ["guardian_blocks", "sponsor_margin_blocks"])
def test_no_margin_before_an_expiry_is_below_24_blocks(margin: str) -> None:
    """A rung's guardian and a tranche's are the same: neither can be configured nearer than that."""
    nearest: dict[str, Any] = {margin: 24}
    assert getattr(Config(**nearest), margin) == 24
    nearer: dict[str, Any] = {margin: 23}
    with pytest.raises(ValidationError, match=margin):
        Config(**nearer)
