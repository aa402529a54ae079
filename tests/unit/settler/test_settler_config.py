"""The settler's knobs refuse to contradict each other before anything starts."""

import pytest
from l402_settler.config import Config
from pydantic import ValidationError


def test_a_window_of_cltv_is_never_empty() -> None:
    """Terms that no invoice can meet would sell places that nobody can fill."""
    assert Config(cltv_min=144, cltv_max=144).cltv_max == 144
    with pytest.raises(ValidationError, match="cltv_max 100 is below cltv_min 144"):
        Config(cltv_min=144, cltv_max=100)
