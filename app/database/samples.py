"""Random samples of what people said to a network, labelled for a certificate of its answers.

Who labels cannot choose what: the order is that of a hash of the turns' ids, which are random, and
all of the sample must be labelled before anything is counted. Like a certificate's other
utterances, its turns stand alone: picked options and follow-ups are left out, as in `drift`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from app.database import drift, model_versions
from app.database.ids import new_id
from app.database.tables import intents, now, sampled_turns, samples, turns
from app.database.tables import model_versions as versions
from app.errors import Conflict, NotFound

LOOKED_THROUGH = 10_000
"""So many of a network's newest turns at most: what a draw costs does not grow with the table."""


class Label(StrEnum):
    INTENT = "intent"
    OUT_OF_SCOPE = "out_of_scope"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Sample:
    id: str
    network: int
    """The number of the version that was trained."""
    drawn_at: datetime
    drawn_by: str
    asked_since: float | None
    """Drawn from later turns only: those until then have served another certificate."""
    asked_from: float
    asked_to: float
    """When the first and the last of the population were asked, in seconds since 1970."""
    population: int
    """What it was drawn from; fewer where some were erased since."""
    size: int
    turns: int
    """That it consists of: `size`, unless more were erased than can be replaced."""
    labelled: int
    tries: int
    """The how-manieth test of it this is, or will be."""
    verdict: Mapping[str, Any] | None
    """What came of this test; None: it was not made yet."""

    @property
    def missing(self) -> int:
        """Labels, before anything is counted."""
        return self.turns - self.labelled

    @property
    def is_closed(self) -> bool:
        """It has served: what follows is drawn anew."""
        return self.verdict is not None and bool(self.verdict["certified"])


@dataclass(frozen=True, slots=True)
class SampledTurn:
    turn_id: str
    place: int
    text: str
    asked_at: datetime
    alternatives: tuple[str, ...]
    """The network's first guesses, in no order that tells which was the first."""
    label: Label | None
    intent: str | None
    """The present name, where `label` is `intent`."""
    labelled_by: str | None


@dataclass(frozen=True, slots=True)
class _Asked:
    id: str
    created_at: float


def of_network(connection: Connection, network: int) -> Sample | None:
    row = connection.execute(select(samples).where(samples.c.network == network)).one_or_none()
    return _from_row(connection, row) if row else None


def network_of_live(connection: Connection) -> int:
    """Raises Conflict where nothing is live."""
    number = model_versions.live(connection).model_version
    if number is None:
        raise Conflict("no model version is live; train and promote one", code="nothing_live")
    return model_versions.get(connection, number).network


def population(connection: Connection, network: int, *, since: float | None, most: int) -> int:
    """How many turns there are to draw from, up to `most`."""
    return len(_newest(connection, network, since=since, most=most))


def draw(
    connection: Connection,
    network: int,
    *,
    size: int,
    most: int,
    by: str,
    replaces: str | None,
) -> Sample:
    """From the newest turns, `most` of them at the most. `replaces`: the sample that the operator
    has seen, None for none; labels of turns that are drawn again stay. Raises Conflict where
    somebody else drew meanwhile, or too few turns are there."""
    before = _locked(connection, network)
    if (before.id if before else None) != replaces:
        raise _changed()
    since, tries = goes_on(before)
    found = _newest(connection, network, since=since, most=most)
    if len(found) < size:
        raise _too_few(size, len(found))
    labels = {}
    if before is not None:
        mine = sampled_turns.c.sample_id == before.id
        rows = connection.execute(
            select(sampled_turns).where(mine, sampled_turns.c.label.is_not(None))
        )
        labels = {row.turn_id: row for row in rows}
        connection.execute(delete(samples).where(samples.c.id == before.id))
    sample_id = new_id()
    try:
        with connection.begin_nested():
            connection.execute(
                insert(samples).values(
                    id=sample_id,
                    network=network,
                    drawn_at=now(),
                    drawn_by=by,
                    asked_since=since,
                    asked_from=min(one.created_at for one in found),
                    asked_to=max(one.created_at for one in found),
                    population=len(found),
                    size=size,
                    tries=tries,
                )
            )
            connection.execute(
                insert(sampled_turns),
                [
                    {
                        "turn_id": turn_id,
                        "sample_id": sample_id,
                        "place": place,
                        **_label_of(labels.get(turn_id)),
                    }
                    for place, turn_id in enumerate(order([one.id for one in found]))
                ],
            )
    except IntegrityError:  # a network's first, drawn twice at once; or a turn was erased just now
        raise _changed() from None
    drawn = of_network(connection, network)
    assert drawn is not None
    return drawn


def order(turn_ids: Sequence[str]) -> list[str]:
    """Ids are random, and nobody chooses them; so is this order, and whoever draws again from the
    same turns gets the same."""
    return sorted(turn_ids, key=lambda one: hashlib.sha256(f"sample {one}".encode()).digest())


def enlarge(connection: Connection, network: int, *, replaces: str) -> Sample:
    """By as much as its last test said is missing. Raises Conflict where it was not tested, would
    not be helped, or has too few turns left; then a new one is drawn."""
    sample = _locked(connection, network)
    if sample is None or sample.id != replaces:
        raise _changed()
    more = sample.verdict and sample.verdict["more"]
    if not more:
        raise Conflict(
            "only a sample whose test says how much is missing can be enlarged; "
            "label all of it and recalibrate first",
            code="not_to_enlarge",
        )
    size = sample.size + more
    left = connection.scalar(select(func.count()).where(sampled_turns.c.sample_id == sample.id))
    if int(left or 0) < size:
        raise Conflict(
            f"this sample was drawn from {left:,} messages, and {size:,} are needed now; draw "
            "anew when more were said",
            code="too_few_messages",
        )
    connection.execute(
        update(samples)
        .where(samples.c.id == sample.id)
        .values(size=size, tries=sample.tries + 1, verdict=None)
    )
    enlarged = of_network(connection, network)
    assert enlarged is not None
    return enlarged


def page(
    connection: Connection, sample: Sample, *, labelled: bool, limit: int, after: int = -1
) -> list[SampledTurn]:
    """In the drawn order, from `after` this place on."""
    rows = connection.execute(
        _turns_of(sample)
        .where(_IS_LABELLED if labelled else ~_IS_LABELLED, sampled_turns.c.place > after)
        .limit(limit)
    )
    return [_sampled(row) for row in rows]


def everything(connection: Connection, sample: Sample) -> list[SampledTurn]:
    return [_sampled(row) for row in connection.execute(_turns_of(sample))]


def label(
    connection: Connection, turn_id: str, label: Label, intent: str | None, *, by: str
) -> Sample:
    """`intent`: with `Label.INTENT`. Raises NotFound, and Conflict where somebody was first or the
    sample has served."""
    sample, is_labelled = _of_turn(connection, turn_id)
    if is_labelled:
        raise Conflict(
            "somebody has labelled this message already; undo that first", code="already_labelled"
        )
    intent_id = None
    if label is Label.INTENT:
        intent_id = connection.scalar(select(intents.c.id).where(intents.c.name == intent))
        if intent_id is None:
            raise NotFound("intent")
    values = {"label": label, "intent_id": intent_id, "labelled_by": by, "labelled_at": now()}
    connection.execute(
        update(sampled_turns).where(sampled_turns.c.turn_id == turn_id).values(values)
    )
    return _again(connection, sample)


def unlabel(connection: Connection, turn_id: str) -> Sample:
    """Raises Conflict also where the labels were tested: second thoughts that come with the result
    are no labels any more."""
    sample, _ = _of_turn(connection, turn_id)
    if sample.verdict is not None:
        raise Conflict(
            "these labels were tested already; enlarge the sample, or draw anew",
            code="sample_tested",
        )
    connection.execute(
        update(sampled_turns).where(sampled_turns.c.turn_id == turn_id).values(_label_of(None))
    )
    return _again(connection, sample)


def settle(
    connection: Connection,
    sample: Sample,
    counted: Sequence[SampledTurn],
    verdict: Mapping[str, Any],
) -> None:
    """Note what came of these labels. Raises Conflict where they are others by now."""
    present = _locked(connection, sample.network)
    if present is None or present.id != sample.id or present.tries != sample.tries:
        raise _changed()
    if present.is_closed or everything(connection, present) != counted:
        raise _changed()
    connection.execute(
        update(samples).where(samples.c.id == sample.id).values(verdict=dict(verdict))
    )


def goes_on(before: Sample | None) -> tuple[float | None, int]:
    """Since when the next sample is drawn, and the how-manieth test it is for."""
    if before is None:
        return None, 1
    if before.is_closed:
        return before.asked_to, 1
    return before.asked_since, before.tries + (before.verdict is not None)


def closed() -> Conflict:
    return Conflict(
        "this sample has served a certificate already; draw another", code="sample_closed"
    )


def _too_few(size: int, found: int) -> Conflict:
    return Conflict(
        f"the promise needs a sample of about {size:,} messages that stand alone, and of this "
        f"network {found:,} are there to draw from; wait for more",
        code="too_few_messages",
    )


# Never NULL, so that it can be denied.
_IS_LABELLED = sampled_turns.c.label.is_not(None) & or_(
    sampled_turns.c.label != Label.INTENT, sampled_turns.c.intent_id.is_not(None)
)


def _changed() -> Conflict:
    return Conflict("somebody else changed the sample; look again", code="sample_changed")


def _newest(
    connection: Connection, network: int, *, since: float | None, most: int
) -> list[_Asked]:
    numbers = connection.scalars(
        select(versions.c.number).where(
            (versions.c.number == network) | (versions.c.network_of == network)
        )
    ).all()
    query = (
        select(turns.c.id, turns.c.created_at, turns.c.decision)
        .where(drift.read_by(*numbers))
        .order_by(turns.c.created_at.desc(), turns.c.id.desc())
        .limit(LOOKED_THROUGH)
    )
    if since is not None:
        query = query.where(turns.c.created_at > since)
    rows = connection.execute(query)
    found = (_Asked(row.id, row.created_at) for row in rows if drift.stands_alone(row.decision))
    return list(islice(found, most))


def _places(sample_id: str, size: int) -> Any:
    """The places of the sample itself: what was erased has none."""
    return (
        select(sampled_turns.c.place)
        .where(sampled_turns.c.sample_id == sample_id)
        .order_by(sampled_turns.c.place)
        .limit(size)
    )


def _turns_of(sample: Sample) -> Any:
    last = select(func.max(_places(sample.id, sample.size).subquery().c.place)).scalar_subquery()
    return (
        select(
            sampled_turns,
            turns.c.text,
            turns.c.created_at,
            turns.c.decision,
            intents.c.name.label("intent_name"),
        )
        .join(turns, turns.c.id == sampled_turns.c.turn_id)
        .outerjoin(intents, intents.c.id == sampled_turns.c.intent_id)
        .where(sampled_turns.c.sample_id == sample.id, sampled_turns.c.place <= last)
        .order_by(sampled_turns.c.place)
    )


def _of_turn(connection: Connection, turn_id: str) -> tuple[Sample, bool]:
    """Locks the sample, so that nothing is counted while a label changes."""
    mine: ColumnElement[bool] = sampled_turns.c.turn_id == turn_id
    network = connection.scalar(select(samples.c.network).join(sampled_turns).where(mine))
    sample = None if network is None else _locked(connection, network)
    row = connection.execute(
        select(sampled_turns.c.place, _IS_LABELLED.label("is_labelled")).where(mine)
    ).one_or_none()
    places = connection.scalars(_places(sample.id, sample.size)).all() if sample else []
    if sample is None or row is None or row.place not in places:
        raise NotFound("turn in the sample")
    if sample.is_closed:
        raise closed()
    return sample, bool(row.is_labelled)


def _locked(connection: Connection, network: int) -> Sample | None:
    row = connection.execute(
        select(samples).where(samples.c.network == network).with_for_update()
    ).one_or_none()
    return _from_row(connection, row) if row else None


def _again(connection: Connection, sample: Sample) -> Sample:
    found = of_network(connection, sample.network)
    assert found is not None
    return found


def _from_row(connection: Connection, row: Row[Any]) -> Sample:
    places = _places(row.id, row.size).add_columns(_IS_LABELLED.label("is_labelled")).subquery()
    there, labelled = connection.execute(
        select(func.count(), func.count().filter(places.c.is_labelled)).select_from(places)
    ).one()
    return Sample(
        id=row.id,
        network=row.network,
        drawn_at=datetime.fromtimestamp(row.drawn_at, UTC),
        drawn_by=row.drawn_by,
        asked_since=row.asked_since,
        asked_from=row.asked_from,
        asked_to=row.asked_to,
        population=row.population,
        size=row.size,
        turns=there,
        labelled=labelled,
        tries=row.tries,
        verdict=row.verdict,
    )


def _sampled(row: Row[Any]) -> SampledTurn:
    label = Label(row.label) if row.label else None
    if label is Label.INTENT and row.intent_name is None:
        label = None  # that intent was deleted
    return SampledTurn(
        turn_id=row.turn_id,
        place=row.place,
        text=row.text,
        asked_at=datetime.fromtimestamp(row.created_at, UTC),
        alternatives=tuple(sorted(intent for intent, _ in row.decision.get("alternatives", ()))),
        label=label,
        intent=row.intent_name if label is Label.INTENT else None,
        labelled_by=row.labelled_by if label else None,
    )


def _label_of(row: Row[Any] | None) -> dict[str, Any]:
    names = ("label", "intent_id", "labelled_by", "labelled_at")
    return {name: getattr(row, name, None) for name in names}
