"""Certificates of instant answers, as the API shows them."""

from typing import Self

from app.api.dependencies import Out
from intent import interface
from intent.interface import Doubt


class Promise(Out):
    max_wrong_instant: float
    confidence: float
    least_in_scope: float


class OperatingPoint(Out):
    threshold: float
    answered: float
    let_through: float
    wrong: float


class Certificate(Out):
    certified: bool
    promise: Promise
    point: OperatingPoint | None
    """The loosest certified threshold, and what was counted there: shares of the calibration
    utterances in scope and out of it that it answers, and of its answers that are wrong."""
    basis: str | None
    """`held_out`, `given` or `cross_fitted`, from a training; or `reviewed`, a random sample of
    turns: where the calibration utterances come from."""
    period: list[str]
    """Days from and to which reviewed turns were asked; empty for a training's utterances."""
    inside: int
    outside: int
    unclear: int
    """Of which nobody could tell what they are about: each counts on both sides, as wrong."""
    seen: int
    """Utterances that were left out: trained on, word for word, or repetitions."""
    contradictory: int
    """Of those that were counted, how many stand under several intents."""
    doubt: Doubt | None
    """Why nothing is certified."""
    missing_inside: int | None
    missing_outside: int | None
    """How many more calibration utterances would do, if they turn out as those at hand."""
    certifiable_from: float | None
    """Where nothing is certified: the least share in scope that could have been promised."""
    augrc: float | None

    @classmethod
    def of(cls, certificate: interface.Certificate) -> Self:
        return cls.model_validate(certificate)


class RiskPoint(Out):
    threshold: float
    coverage: float
    wrong: float


class WholeCertificate(Certificate):
    points: list[OperatingPoint]
    """All certified thresholds, strict to loose."""
    floors: dict[str, float]
    """Intents that need more assurance than the threshold."""
    curve: list[RiskPoint]
    """What each threshold would answer, and how much of that is wrong, in traffic with no more
    in scope than promised."""
