"""What the rest of Twofold knows of reply generation. Imports no torch."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an operator's document. `score`: higher fits better, comparable only
    within one search."""

    id: str
    title: str
    text: str
    document: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """Which passage supports the reply; `quote` stands in the passage word for word."""

    passage_id: str
    document: str
    title: str
    quote: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A generator that was asked before the one that answered, and why it did not: the `code`
    of a GeneratorError, or the name of another error's class."""

    generator: str
    error: str


class TokensBy(StrEnum):
    """Who counted the tokens of a reply."""

    ENGINE = "engine"  # an engine elsewhere, which may be paid by them
    ESTIMATE = "estimate"  # we did, roughly: that engine gave no count
    NETWORK = "network"  # a network that runs here, and costs its CPU time


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply has taken so far."""

    cpu_seconds: float = 0.0
    """Of this machine, whichever process spent them."""
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    tokens_by: TokensBy | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a reply. The texts of all pieces, joined, are the whole reply.

    `generator` names who wrote it (the links of a fallback chain differ).
    """

    text: str
    generator: str
    citations: tuple[Citation, ...] = ()
    answered: bool = True
    """False when the generator says that it does not know."""
    skipped: tuple[Skipped, ...] = ()
    """With the first piece of a fallback chain."""
    usage: Usage | None = None
    """Up to here: of all that come, the last one counts. The last piece may bring nothing else."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_tokens: int = 256
    seconds: float = 30.0
    """From the call to the last piece."""
    seed: int | None = None
    temperature: float = 0.0
    stop: tuple[str, ...] = ()


class Generator(Protocol):
    @property
    def name(self) -> str: ...

    def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),
    ) -> AsyncIterator[Piece]:
        """The reply to the last message, piece by piece.

        Closing the iterator (or cancelling the task that reads it) stops the work behind it.
        Raises GeneratorError; before the first piece another generator may take over.
        """
        ...

    async def aclose(self) -> None:
        """Release processes and sockets. Idempotent."""
        ...


class GeneratorError(Exception):
    """Base of everything this package raises on purpose. What it says is for the operator's log:
    a remedy, and nothing that people or engines wrote."""

    code = "generator_failed"


class GeneratorUnavailable(GeneratorError):
    """It cannot be reached, or it is not what it should be."""

    code = "generator_unavailable"


class GeneratorOverloaded(GeneratorError):
    """It is full; try later or elsewhere."""

    code = "generator_overloaded"


class GeneratorRefused(GeneratorError):
    """It works, and does not take this request."""

    code = "generator_refused"


class GeneratorTimeout(GeneratorError):
    """A deadline passed."""

    code = "generator_timeout"
