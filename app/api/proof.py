"""What answering at once saved, and how often the generator would have said something else."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Query

from app import estimation
from app.api.auth import admin
from app.api.dependencies import App, Cursor, Out
from app.api.ledger import During, PriceList, prices_of
from app.api.strict_json import StrictRoute
from app.database import ledger, reanswers
from app.dialogue.routing import Route
from intent.binomial import interval

router = APIRouter(
    prefix="/admin/ledger/proof",
    tags=["ledger"],
    route_class=StrictRoute,
    dependencies=[Depends(admin)],
)

MEASURES = ("cost", "cpu_seconds", "prompt_tokens", "reply_tokens")
WAYS_TO_DIFFER = ("unanswered", "meaning", "values", "names")


class Estimate(Out):
    """Per instant turn, and of all of them, with intervals of 95 % confidence."""

    mean: float
    mean_low: float
    mean_high: float
    total: float
    total_low: float
    total_high: float
    sampled: int


class Share(Out):
    """With an interval of 95 % confidence."""

    share: float | None
    low: float
    high: float
    count: int
    of: int

    @classmethod
    def of_all(cls, count: int, whole: int) -> Self:
        low, high = interval(count, whole, confidence=estimation.CONFIDENCE)
        return cls(
            share=count / whole if whole else None, low=low, high=high, count=count, of=whole
        )


class Saved(Out):
    """What the generator would have taken for the instant turns, less what reading them took;
    None where fewer than twenty were measured."""

    cost: Estimate | None
    cpu_seconds: Estimate | None
    prompt_tokens: Estimate | None
    reply_tokens: Estimate | None
    seconds: Estimate | None
    """That people did not wait, the generator being idle."""


class Balance(Out):
    """All turns of this time together, at today's prices."""

    spent: float
    """On all turns."""
    of_it_reading: float
    """On the network that decides, for turns that were not answered at once: what the split
    costs."""
    of_proof: float
    """What the proof itself took, beside it."""
    without: tuple[float, float, float] | None
    """What it would have been without the split: the estimate, and its interval. Turns that were
    asked back count as if that had saved nothing."""
    saved_share: tuple[float, float, float] | None
    """Of that, the share that the split saved, and its interval."""


class Texts(Out):
    first: list[str]
    """In the instant reply only."""
    second: list[str]
    """In the generator's only."""


class Agreement(Out):
    similarity: float
    values: Texts
    names: Texts


class Differing(Out):
    turn_id: str
    conversation_id: str
    created_at: datetime
    intent: str | None
    model_version: int | None
    text: str
    reply: str
    reanswer: str
    generator: str | None
    answered: bool
    """False: the generator said that it does not know."""
    agreement: Agreement
    differs_in: list[str]


class Proof(Out):
    since: datetime
    until: datetime
    prices: PriceList
    share: float
    """Of the instant turns, how many are answered again."""
    instant_turns: int
    """Without those that picked an option of a question."""
    compared: int
    failed: int
    """The generator gave no answer to compare with."""
    waiting: int
    """Sampled, and not yet answered again."""
    saved: Saved
    balance: Balance
    differing: Share
    differing_in: dict[str, Share]
    """Some differ in several ways."""
    items: list[Differing]
    """Those that differ, the newest first."""
    next_cursor: str | None


@router.get("")
async def show(
    during: During,
    app: App,
    limit: Annotated[int, Query(ge=0, le=200)] = 20,
    cursor: Cursor = None,
) -> Proof:
    """From a share of the instant turns, drawn by chance, that the generator answered as well, in
    idle moments. Nobody was told its answers."""
    share = app.settings.proof_share
    sizes = await app.database.read(lambda c: reanswers.instant_turns(c, during))
    pairs, failed = await app.database.read(lambda c: reanswers.pairs(c, during))
    groups = await app.database.read(lambda c: ledger.groups(c, during))
    waiting = await app.database.read(lambda c: reanswers.waiting(c, during, share))
    items, older = await app.database.read(
        lambda c: reanswers.differing(c, during, limit=limit, after=cursor)
    )
    prices = prices_of(app.settings)
    measured = [(pair.day, found) for pair in pairs if (found := pair.saved(prices)) is not None]
    saved = {
        name: _estimate(sizes, [(day, values[name]) for day, values in measured])
        for name in MEASURES
    }
    waited = ((pair.day, pair.seconds - pair.instant_seconds) for pair in pairs)
    return Proof(
        since=datetime.fromtimestamp(during.since, UTC),
        until=datetime.fromtimestamp(during.until, UTC),
        prices=PriceList.of(app.settings),
        share=share,
        instant_turns=sum(sizes.values()),
        compared=len(pairs),
        failed=failed,
        waiting=waiting,
        saved=Saved(**saved, seconds=_estimate(sizes, waited)),
        balance=_balance(
            spent=sum(one.totals.effort.cost(prices) for one in groups),
            reading=sum(_reading(one) for one in groups) * prices.cpu_second,
            proof=sum(pair.effort.cost(prices) for pair in pairs),
            saved=saved["cost"],
        ),
        differing=Share.of_all(sum(pair.differs for pair in pairs), len(pairs)),
        differing_in={
            way: Share.of_all(sum(way in pair.differs_in for pair in pairs), len(pairs))
            for way in WAYS_TO_DIFFER
        },
        items=[Differing.model_validate(one) for one in items],
        next_cursor=older,
    )


def _estimate(sizes: Mapping[int, int], values: Iterable[tuple[int, float]]) -> Estimate | None:
    by_day: defaultdict[int, list[float]] = defaultdict(list)
    for day, value in values:
        by_day[day].append(value)
    found = estimation.estimate(estimation.strata(sizes, by_day))
    return Estimate.model_validate(found) if found else None


def _reading(group: ledger.Group) -> float:
    """CPU seconds that the split took for turns it did not answer."""
    return group.totals.classify_cpu_ms / 1000 if group.route != Route.INSTANT else 0.0


def _balance(*, spent: float, reading: float, proof: float, saved: Estimate | None) -> Balance:
    without = share = None
    if saved is not None:
        nets = [one - reading for one in (saved.total, saved.total_low, saved.total_high)]
        without = _three([spent + net for net in nets])
        share = _three([net / (spent + net) if spent + net > 0 else 0.0 for net in nets])
    return Balance(
        spent=spent, of_it_reading=reading, of_proof=proof, without=without, saved_share=share
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third
