"""What speaks against generating now."""

from collections.abc import Callable
from enum import StrEnum


class Pressure(StrEnum):
    NONE = "none"
    OVERLOAD = "overload"  # most places of the generator are taken
    BUDGET = "budget"  # most of what generating may cost today is spent
    SPENT = "spent"  # all of it: nothing more is generated today


def none() -> Pressure:
    return Pressure.NONE


Press = Callable[[], Pressure]


class Strain:
    """Whether so many places are taken that it is an overload. It begins and ends at different
    shares, so that one turn more or less does not make it flap."""

    BEGINS, ENDS = 0.75, 0.5

    def __init__(self) -> None:
        self._is_on = False

    def of(self, taken: int, places: int) -> bool:
        self._is_on = taken >= (self.ENDS if self._is_on else self.BEGINS) * places
        return self._is_on
