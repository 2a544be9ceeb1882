"""What a conversation remembers between turns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from intent.interface import RankedIntent


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a clarification: the intent and how people read it."""

    intent: str
    title: str


@dataclass(frozen=True, slots=True)
class DialogueState:
    pending: tuple[Option, ...] = ()
    """What the last turn asked: "did you mean …?"; empty when it asked nothing."""
    said: Mapping[str, int] = field(default_factory=dict)
    """How often each intent was answered, so that variants take turns."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Given when the conversation was created, for `{name}` in replies."""
    topics: tuple[RankedIntent, ...] = ()
    """What is being talked about, likeliest first; empty where nobody knows."""

    def after_answer(self, intent: str | None, topics: tuple[RankedIntent, ...]) -> Self:
        said = self.said
        if intent is not None:
            said = {**said, intent: said.get(intent, 0) + 1}
        return type(self)((), said, self.variables, topics)

    def after_asking(self, options: tuple[Option, ...], topics: tuple[RankedIntent, ...]) -> Self:
        return replace(self, pending=options, topics=topics)

    def to_json(self) -> dict[str, Any]:
        return {
            "pending": [[option.intent, option.title] for option in self.pending],
            "said": dict(self.said),
            "variables": dict(self.variables),
            "topics": [[intent, round(share, 4)] for intent, share in self.topics],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            pending=tuple(Option(intent, title) for intent, title in value.get("pending", ())),
            said=dict(value.get("said", {})),
            variables=dict(value.get("variables", {})),
            topics=tuple(RankedIntent(intent, share) for intent, share in value.get("topics", ())),
        )
