"""The bot's own sentences, and how people answer its one question."""

import re
from collections.abc import Sequence

from app.dialogue.state import Option

APOLOGY = (
    "I am sorry, I cannot answer that right now. Please try again in a moment, "
    "or ask for a person to help you."
)

NOT_TODAY = (
    "I am sorry, I can only answer the usual questions for the rest of the day. "
    "Please ask in other words, try again tomorrow, or ask for a person to help you."
)


def ask_which(options: Sequence[Option]) -> str:
    titles = [f"“{option.title}”" for option in options]
    return f"Just to be sure – did you mean {' or '.join(titles)}?"


def chosen_option(text: str, options: Sequence[Option]) -> str | None:
    """The intent that `text` picks: its title, its name, or its place ("2", "the second one")."""
    if not options:
        return None
    for option in options:
        if text.strip() == option.title:  # titles may differ in signs only: C++ and C#
            return option.intent
    said = _plain(text)
    if not said:
        return None
    for option in options:
        if said in (_plain(option.title), _plain(option.intent)):
            return option.intent
    for place, option in enumerate(options):
        if said in _PLACES[min(place, len(_PLACES) - 1)]:
            return option.intent
    return options[-1].intent if said in _LAST else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold().replace("_", " ")))


def _ways(number: str, ordinal: str) -> frozenset[str]:
    return frozenset(
        {number, f"option {number}", f"number {number}", ordinal, f"the {ordinal}"}
        | {f"{article}{ordinal} one" for article in ("", "the ")}
        | {f"{article}{ordinal} one please" for article in ("", "the ")}
    )


_PLACES = (
    _ways("1", "first") | {"the former"},
    _ways("2", "second"),
    _ways("3", "third"),
)
_LAST = frozenset({"last", "the last", "the last one", "the latter"})
