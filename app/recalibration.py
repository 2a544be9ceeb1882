"""A new certificate for the live network, from a random sample of turns that operators labelled.

The network stays as it is; what is counted for its certificate is counted anew, at the thresholds
that were fixed when it was trained. It becomes a version of its own, which shares the network, so
that promoting it, rolling back and watching for drift are what they always are.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection

from app.classifying import LARGEST_BATCH, LoadClassifier
from app.database import drift, model_versions, samples
from app.database.database import Database
from app.database.model_versions import Live, ModelVersion
from app.database.samples import Label, Sample, SampledTurn
from app.errors import Conflict
from intent.certificate import Calibration, certify, messages_needed
from intent.interface import Certificate, IntentClassifier, IntentError, Prediction, Promise

if TYPE_CHECKING:
    from intent.thresholds import ThresholdPlan

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prospect:
    """Where no sample is being labelled."""

    needed: int | None
    """Messages; None: more than anybody would label."""
    available: int
    """Messages to draw from, up to those that are needed."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    certificate: Certificate
    model_version: int | None
    """That serves it now; None: nothing was changed."""
    epoch: int
    more: int | None
    """Where too few were labelled: how many more would do, if they turn out as these."""
    unknown: int
    """Labels of intents that the network does not know, counted as out of scope."""


class Recalibrator:
    def __init__(self, database: Database, load: LoadClassifier, promise: Promise) -> None:
        self._database = database
        self._load = load
        self._promise = promise

    async def sample(self) -> Sample | None:
        """Of the live network. Raises Conflict where nothing is live."""
        return await self._database.read(_present)

    async def prospect(self) -> Prospect:
        network, before = await self._database.read(_network_and_sample)
        since, tries = samples.goes_on(before)
        needed = await self._needed(network, tries)
        available = await self._database.read(
            lambda c: samples.population(c, network.number, since=since, most=needed or 0)
        )
        return Prospect(needed, available)

    async def draw(self, *, by: str, replaces: str | None) -> Sample:
        """`replaces`: the sample that the operator has seen, if any. Raises Conflict."""
        network, before = await self._database.read(_network_and_sample)
        size = await self._needed(network, samples.goes_on(before)[1])
        if size is None:
            raise Conflict(
                "this promise would take more labels than anybody gives; allow more wrong answers "
                "(TWOFOLD_MAX_WRONG_INSTANT) or train on more examples",
                code="promise_out_of_reach",
            )
        # As much as drift looks at, and room to enlarge it.
        most = max(drift.WINDOW, 2 * size)
        return await self._database.write(
            lambda c: samples.draw(
                c, network.number, size=size, most=most, by=by, replaces=replaces
            )
        )

    async def enlarge(self, *, replaces: str) -> Sample:
        network, _ = await self._database.read(_network_and_sample)
        return await self._database.write(
            lambda c: samples.enlarge(c, network.number, replaces=replaces)
        )

    async def recalibrate(
        self, *, by: str, expected_epoch: int | None = None, even_uncertified: bool = False
    ) -> Recalibrated:
        """Test the labelled sample, and serve its certificate; one that certifies nothing only if
        `even_uncertified`. Raises Conflict where labels are missing, or somebody was first."""
        network, sample, turns, epoch = await self._database.read(_labelled)
        if expected_epoch is not None:
            epoch = expected_epoch
        data = await self._database.read(lambda c: model_versions.artifact(c, network.number))
        counted, unknown = await asyncio.to_thread(self._count, network, data, sample, turns)
        certificate = certify(counted, self._promise)
        more = _more(certificate, counted)
        serves = certificate.certified or even_uncertified

        def store(connection: Connection) -> Live:
            found = {
                "certified": certificate.certified,
                "doubt": certificate.doubt,
                "more": more,
                "by": by,
            }
            live = model_versions.live(connection)
            if serves:
                number = model_versions.add_recalibrated(
                    connection, network.number, calibration=counted.to_json()
                )
                live = model_versions.promote(connection, number, by=by, expected_epoch=epoch)
                found["model_version"] = number
            samples.settle(connection, sample, turns, found)
            return live

        live = await self._database.write(store)
        log.info(
            "recalibrated",
            network=network.number,
            turns=len(turns),
            tries=sample.tries,
            certified=certificate.certified,
            serves=serves,
        )
        number = live.model_version if serves else None
        return Recalibrated(certificate, number, live.epoch, more, unknown)

    async def _needed(self, network: ModelVersion, tries: int) -> int | None:
        plan = await asyncio.to_thread(_plan, network)
        return await asyncio.to_thread(messages_needed, plan.expected, self._promise, tries=tries)

    def _count(
        self, network: ModelVersion, data: bytes, sample: Sample, turns: Sequence[SampledTurn]
    ) -> tuple[Calibration, int]:
        from intent.data import Example, TrainingSet

        try:
            classifier = self._load(data)
        except IntentError as error:
            raise model_versions.DamagedArtifact(
                f"model version {network.number} cannot be loaded; train again"
            ) from error
        known = set(classifier.intents)
        inside = [one for one in turns if one.label is Label.INTENT and one.intent in known]
        unclear = [one for one in turns if one.label is Label.CANNOT_TELL]
        unknown = [one for one in turns if one.label is Label.INTENT and one.intent not in known]
        outside = [one for one in turns if one.label is Label.OUT_OF_SCOPE] + unknown
        labelled = TrainingSet(
            tuple(Example(one.text, one.intent or "") for one in inside),
            tuple(Example(one.text, "") for one in outside),
        )
        days = sorted(one.asked_at.date().isoformat() for one in turns)
        counted = _plan(network).count_sample(
            (labelled, _read(classifier, inside), _read(classifier, outside)),
            _read(classifier, unclear),
            period=(days[0], days[-1]),
            tries=sample.tries,
        )
        return counted, len(unknown)


def _plan(network: ModelVersion) -> "ThresholdPlan":
    """What was fixed when the network was trained."""
    from intent.thresholds import ThresholdPlan

    before = model_versions.counted(network)
    if before is None:
        return ThresholdPlan()
    return ThresholdPlan(before.thresholds, before.expected, dict(before.floors))


def _read(classifier: IntentClassifier, turns: Sequence[SampledTurn]) -> list[Prediction]:
    texts = [one.text for one in turns]
    starts = range(0, len(texts), LARGEST_BATCH)
    portions = (texts[start : start + LARGEST_BATCH] for start in starts)
    return [one for portion in portions for one in classifier.classify_batch(portion)]


def _more(certificate: Certificate, counted: Calibration) -> int | None:
    """Messages of the same mixture that hold what is missing on either side."""
    inside, outside = certificate.missing_inside, certificate.missing_outside
    if inside is None or outside is None:
        return None
    strange = max(counted.outside, counted.utterances * (1 - certificate.promise.least_in_scope))
    growths = [inside / counted.inside if inside else 0.0, outside / strange if outside else 0.0]
    return math.ceil(max(growths) * counted.utterances) or None


def _present(connection: Connection) -> Sample | None:
    return samples.of_network(connection, samples.network_of_live(connection))


def _network_and_sample(connection: Connection) -> tuple[ModelVersion, Sample | None]:
    network = samples.network_of_live(connection)
    return model_versions.get(connection, network), samples.of_network(connection, network)


def _labelled(connection: Connection) -> tuple[ModelVersion, Sample, list[SampledTurn], int]:
    network, sample = _network_and_sample(connection)
    if sample is None:
        raise Conflict("draw a sample and label it first", code="no_sample")
    if sample.is_closed:
        raise samples.closed()
    if sample.missing or not sample.turns:
        raise Conflict(
            f"label the whole sample first: {sample.missing:,} of {sample.turns:,} messages have "
            "no label yet",
            code="labels_missing",
        )
    epoch = model_versions.live(connection).epoch
    return network, sample, samples.everything(connection, sample), epoch
