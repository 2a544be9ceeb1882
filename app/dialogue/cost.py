"""What a turn costs. What runs here costs its CPU time, an engine elsewhere its tokens."""

from dataclasses import dataclass


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

    def cost(self, prices: Prices) -> float:
        return (
            self.cpu_seconds * prices.cpu_second
            + self.prompt_tokens / 1000 * prices.thousand_prompt_tokens
            + self.reply_tokens / 1000 * prices.thousand_reply_tokens
        )
