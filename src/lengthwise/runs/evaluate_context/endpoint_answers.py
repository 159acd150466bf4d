"""Answers to the tasks from a server of the OpenAI protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from lengthwise.context.tasks.rows import NEW_TOKENS, TaskRow
from lengthwise.generation.endpoint import Client, Endpoint


def ask(endpoint: Endpoint, rows: Sequence[TaskRow]) -> Iterator[str]:
    """Greedy answers in the rows' order, `endpoint.concurrency` requests at a time; prompts are sent as text.

    Raises:
        EndpointError: the server refuses, or fails too often.
    """

    async def all_rows() -> list[str]:
        async with Client(endpoint, lambda *_: None) as client:

            async def one(row: TaskRow) -> str:
                body = {
                    "model": endpoint.model,
                    "prompt": row.prompt,
                    "temperature": 0.0,
                    "max_tokens": NEW_TOKENS[row.task][1],
                }
                return (await client.post("/completions", body)).text

            return await asyncio.gather(*(one(row) for row in rows))

    yield from asyncio.run(all_rows())
