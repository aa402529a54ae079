"""A question to a bus that is not there."""

import pytest
from l402core.events import ReadStatus, StatusView
from l402train import asking
from l402train.exits import Exit, Stop


async def test_the_error_names_the_bus_and_never_its_password() -> None:
    """It lands in terminals, logs and tickets."""
    with pytest.raises(Stop) as stopped:
        await asking.ask("nats://operator:hush-hush@127.0.0.1:9", ReadStatus(), StatusView)
    assert stopped.value.code is Exit.NOT_FOUND
    assert "127.0.0.1:9" in str(stopped.value)
    assert "hush-hush" not in str(stopped.value)
