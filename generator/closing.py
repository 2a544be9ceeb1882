"""Closing a stream of pieces."""

from collections.abc import AsyncIterator

from generator.interface import Piece


async def close(pieces: AsyncIterator[Piece]) -> None:
    """Stops the work behind a stream now, not when the garbage collector comes by.

    The Protocol promises an iterator only; those that are generators can be closed.
    """
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        await aclose()
