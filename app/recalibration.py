"""A new calibration for a version, from messages that people have labelled.

The network stays as it is; what is counted for its certificate is counted anew, at the thresholds
that were fixed when it was trained. It becomes a version of its own, so that promoting it and
rolling back are what they always are.

The messages must be drawn by chance from the traffic that the certificate is to hold for. Those
that somebody picked because they went wrong, or that an operator made examples of, are not.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.database import model_versions
from app.database.database import Database
from app.errors import Conflict
from intent.interface import OUT_OF_SCOPE


@dataclass(frozen=True, slots=True)
class Labelled:
    text: str
    intent: str
    """The right one; `OUT_OF_SCOPE` for a message that no intent is for."""


async def recalibrate(database: Database, number: int, labelled: Sequence[Labelled]) -> int:
    """Returns the number of the new version; it is not promoted. Messages that the network was
    trained on count for nothing. Raises Conflict where none is left, or the intents are others."""
    version = await database.read(lambda c: model_versions.get(c, number))
    data = await database.read(lambda c: model_versions.artifact(c, number))
    content, calibration = await asyncio.to_thread(_recounted, data, list(labelled))
    return await database.write(
        lambda c: model_versions.add(
            c,
            content,
            data_hash=version.data_hash,
            intents=version.intents,
            examples=version.examples,
            evaluation=version.evaluation,
            calibration=calibration,
            training_job_id=version.training_job_id,
        )
    )


def _recounted(data: bytes, labelled: Sequence[Labelled]) -> tuple[bytes, dict[str, object]]:
    from intent.artifact import from_bytes, to_bytes
    from intent.data import Example, training_set
    from intent.thresholds import recount

    artifact = from_bytes(data)
    unknown = {one.intent for one in labelled} - {*artifact.intents, OUT_OF_SCOPE}
    if unknown:
        raise Conflict(
            f"the version does not know {len(unknown)} of the labels; train another",
            code="unknown_intents",
        )
    told = training_set(Example(one.text, one.intent) for one in labelled)
    counted = recount(artifact, told).calibration
    assert counted is not None
    if not counted.inside:
        raise Conflict(
            "no labelled message is left that the version was not trained on; label more",
            code="nothing_unseen",
        )
    return to_bytes(replace(artifact, calibration=counted)), counted.to_json()
