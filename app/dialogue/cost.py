"""What a turn costs. What runs here costs its CPU time, an engine elsewhere its tokens."""

from dataclasses import dataclass
from typing import Self

from generator.interface import TokensBy, Usage

PAID = (TokensBy.ENGINE, TokensBy.ESTIMATE)


@dataclass(frozen=True, slots=True)
class Prices:
    cpu_second: float = 0.0
    thousand_prompt_tokens: float = 0.0
    thousand_reply_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Effort:
    cpu_seconds: float = 0.0
    prompt_tokens: int = 0
    """Of an engine elsewhere, as the reply's."""
    reply_tokens: int = 0

    @classmethod
    def of(cls, usage: Usage | None) -> Self:
        if usage is None:
            return cls()
        if usage.tokens_by not in PAID:
            return cls(usage.cpu_seconds)
        return cls(usage.cpu_seconds, usage.prompt_tokens or 0, usage.reply_tokens or 0)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.cpu_seconds + other.cpu_seconds,
            self.prompt_tokens + other.prompt_tokens,
            self.reply_tokens + other.reply_tokens,
        )

    def __sub__(self, other: Self) -> Self:
        return type(self)(
            self.cpu_seconds - other.cpu_seconds,
            self.prompt_tokens - other.prompt_tokens,
            self.reply_tokens - other.reply_tokens,
        )

    def cost(self, prices: Prices) -> float:
        return (
            self.cpu_seconds * prices.cpu_second
            + self.prompt_tokens / 1000 * prices.thousand_prompt_tokens
            + self.reply_tokens / 1000 * prices.thousand_reply_tokens
        )
