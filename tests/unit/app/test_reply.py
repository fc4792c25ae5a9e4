from __future__ import annotations

import asyncio

import pytest

from failures import FailureKind, TurnFailure
from reply import Canceled, Chunk, Completed, Failed, Reply, Working

pytestmark = pytest.mark.anyio


async def test_deltas_that_nobody_looked_at_join_into_one_piece() -> None:
    reply = Reply()
    reply.work()
    for text in ("a", "b", "c"):
        reply.append(text)
    reply.finish(Completed("abc"))
    assert [update async for update in reply.updates()] == [
        Working(),
        Chunk("abc", append=True),
        Completed("abc"),
    ]


async def test_a_replacement_voids_what_was_not_looked_at() -> None:
    reply = Reply()
    reply.append("wrong")
    reply.replace("right")
    reply.append(" and more")
    reply.finish(Completed("right and more"))
    updates = [update async for update in reply.updates()]
    assert updates == [Chunk("right and more", append=False), Completed("right and more")]


async def test_what_comes_while_the_last_piece_is_carried_away_is_not_lost() -> None:
    reply = Reply()
    reply.append("one")
    updates = reply.updates()
    assert await anext(updates) == Chunk("one", append=True)
    reply.append(" two")
    reply.finish(Completed("one two"))
    assert [update async for update in updates] == [Chunk(" two", append=True), Completed("one two")]


async def test_only_the_first_outcome_counts_and_nothing_follows_it() -> None:
    reply = Reply()
    reply.finish(Canceled())
    reply.append("late")
    reply.work()
    reply.finish(Failed(TurnFailure(FailureKind.OTHER)))
    assert [update async for update in reply.updates()] == [Canceled()]


async def test_a_pause_ends_with_the_outcome() -> None:
    reply = Reply()
    pause = asyncio.create_task(reply.pause(3600))
    await asyncio.sleep(0)
    reply.finish(Canceled())
    async with asyncio.timeout(10):
        await pause


async def test_nothing_is_replaced_where_nothing_was_streamed() -> None:
    reply = Reply()
    reply.replace("")
    reply.finish(Canceled())
    assert [update async for update in reply.updates()] == [Canceled()]
