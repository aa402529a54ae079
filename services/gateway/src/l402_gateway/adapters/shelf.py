"""Unpaid challenges and limits in Redis, which may forget them at any time. It keeps no money and no secret.

A limit is a fixed window: a counter that expires. Where Redis does not answer, nothing is minted.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar, cast

import msgspec
from l402core.errors import Unavailable
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from l402_gateway.challenge import Unpaid
from l402_gateway.problems import Limited

T = TypeVar("T")
PREFIX = "l402:gateway:"
LOCK_MS = 10_000
LOCK_POLL_S = 0.05
_UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class RedisShelf:
    """One Redis. Every method raises Unavailable when it does not answer within a second."""

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        self._redis: Any = Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=cast(Any, Retry(NoBackoff(), 1)),
            max_connections=64,
        )  # fmt: skip

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()

    async def ready(self) -> bool:
        """Whether it answers now."""
        try:
            return bool(await _named(self._redis.ping()))
        except Unavailable:
            return False

    async def unpaid(self, key: str) -> Unpaid | None:
        """The challenge that was handed out under this key, if any."""
        raw = await _named(self._redis.get(PREFIX + "unpaid:" + key))
        try:
            return None if raw is None else msgspec.json.decode(raw, type=Unpaid)
        except msgspec.MsgspecError:
            return None  # another version's: mint anew

    async def keep(self, key: str, unpaid: Unpaid, *, for_s: int) -> None:
        """Hand it out again for so long."""
        if for_s > 0:
            await _named(self._redis.set(PREFIX + "unpaid:" + key, msgspec.json.encode(unpaid), ex=for_s))

    async def count(self, limit: str, subject: str, *, at_most: int, window_s: int) -> None:
        """One more of `subject` under this limit. Raises Limited beyond it."""
        key = f"{PREFIX}limit:{limit}:{subject}"
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.incr(key)
        pipeline.ttl(key)
        count, ttl = await _named(pipeline.execute())
        if ttl < 0:
            await _named(self._redis.expire(key, window_s))
            ttl = window_s
        if count > at_most:
            raise Limited(
                f"{limit}_limit", f"more than {at_most} fee invoices in {window_s} s for this {limit}",
                retry_after_s=max(1, int(ttl)),
            )  # fmt: skip

    @contextlib.asynccontextmanager
    async def alone(self, key: str, *, wait_s: float) -> AsyncIterator[None]:
        """One gateway at a time under this key. Raises Unavailable when the other one does not finish."""
        name, mine = PREFIX + "lock:" + key, secrets.token_hex(8)
        ends_at = asyncio.get_running_loop().time() + wait_s
        while not await _named(self._redis.set(name, mine, nx=True, px=LOCK_MS)):
            if asyncio.get_running_loop().time() >= ends_at:
                raise Unavailable("mint_busy", "the same challenge is being made elsewhere; ask again")
            await asyncio.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            with contextlib.suppress(Unavailable):
                await _named(self._redis.eval(_UNLOCK, 1, name, mine))


async def _named(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("redis", f"Redis does not answer: {type(error).__name__}") from error
