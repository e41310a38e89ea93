"""Carry TCP connections from one address to another: `python relay.py HOST:PORT HOST:PORT`.

The practice server serves loopback alone, and the job speaks plain http to loopback alone. Each container
has a loopback of its own: this joins two of them. Imports the standard library alone.
"""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any

BLOCK = 65536
"""Bytes that are passed on at once."""


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what is read until its end, and then the end."""
    while block := await source.read(BLOCK):
        target.write(block)
        await target.drain()
    target.write_eof()


async def relay(listen: str, target: str) -> None:
    """Carry connections to `listen` on to `target`, both HOST:PORT; a failure of one side ends both."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        with contextlib.suppress(OSError), contextlib.closing(writer):
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            with contextlib.closing(far_writer):
                await _both(pump(reader, far_writer), pump(far_reader, writer))

    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(carry, host, int(port))
    async with server:
        await server.serve_forever()


async def _both(*directions: Coroutine[Any, Any, None]) -> None:
    """Run both directions to their ends; the first failure ends the other."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
