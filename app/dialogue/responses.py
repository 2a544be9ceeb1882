"""The operator's replies: variants that take turns, `{variables}` filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.dialogue.state import DialogueState, Option
from intent.interface import OUT_OF_SCOPE

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class IntentReplies:
    title: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplyBook:
    """All replies of the assistant at one moment."""

    intents: Mapping[str, IntentReplies] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def reply(self, intent: str, state: DialogueState) -> str | None:
        """The next variant whose variables are all known; None when there is none."""
        replies = self.intents.get(intent)
        if replies is None or intent == OUT_OF_SCOPE:
            return None
        known = {**self.variables, **state.variables}
        sayable = [one for one in replies.variants if variables_in(one) <= known.keys()]
        if not sayable:
            return None
        variant = sayable[state.said.get(intent, 0) % len(sayable)]
        return _VARIABLE.sub(lambda found: known[found[1]], variant)

    def title(self, intent: str) -> str:
        replies = self.intents.get(intent)
        return replies.title if replies and replies.title else readable(intent)

    def option(self, intent: str) -> Option:
        return Option(intent, self.title(intent))


def variables_in(variant: str) -> set[str]:
    return set(_VARIABLE.findall(variant))


def readable(intent: str) -> str:
    """`track_order` → `Track order`; `faq/opening_hours` → `Opening hours`."""
    words = intent.rsplit("/", 1)[-1].replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]
