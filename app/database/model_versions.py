"""Model versions: trained networks as rows, and which one is live."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.database.tables import model_versions, now, promotions
from app.errors import Conflict, NotFound
from intent.certificate import Calibration


@dataclass(frozen=True, slots=True)
class ModelVersion:
    number: int
    sha256: str
    size_bytes: int
    data_hash: str
    intents: int
    examples: int
    evaluation: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    """What was counted on utterances that the network never saw."""
    training_job_id: str | None
    created_at: datetime
    network_of: int | None
    """The version whose network this one serves, with a calibration of its own; what is said of
    the network is that version's."""

    @property
    def network(self) -> int:
        """The number of the version that was trained."""
        return self.network_of or self.number


@dataclass(frozen=True, slots=True)
class Live:
    """Which version answers; `epoch` counts promotions and rollbacks, 0 is before the first."""

    model_version: int | None
    epoch: int


class DamagedArtifact(Conflict):
    code = "damaged_artifact"


def add(
    connection: Connection,
    artifact: bytes,
    *,
    data_hash: str,
    intents: int,
    examples: int,
    evaluation: Mapping[str, Any],
    calibration: Mapping[str, Any] | None = None,
    training_job_id: str | None,
) -> int:
    """Returns the number of the new version."""
    added = connection.execute(
        insert(model_versions).values(
            artifact=artifact,
            sha256=hashlib.sha256(artifact).hexdigest(),
            size_bytes=len(artifact),
            data_hash=data_hash,
            intents=intents,
            examples=examples,
            evaluation=dict(evaluation),
            calibration=calibration,
            training_job_id=training_job_id,
            created_at=now(),
        )
    )
    key = added.inserted_primary_key
    assert key is not None
    return int(key[0])


def add_recalibrated(
    connection: Connection, network: int, *, calibration: Mapping[str, Any]
) -> int:
    """The network of another version, whose artefact is not copied: an erasure rewrites only
    that. Returns the number of the new version."""
    added = connection.execute(
        insert(model_versions).values(
            artifact=b"",
            sha256="",
            size_bytes=0,
            data_hash="",
            intents=0,
            examples=0,
            evaluation={},
            calibration=calibration,
            created_at=now(),
            network_of=network,
        )
    )
    key = added.inserted_primary_key
    assert key is not None
    return int(key[0])


def everything(connection: Connection) -> list[ModelVersion]:
    """Newest first."""
    rows = connection.execute(_SELECT.order_by(_OWN.c.number.desc()))
    return [_from_row(row) for row in rows]


def get(connection: Connection, number: int) -> ModelVersion:
    row = connection.execute(_SELECT.where(_OWN.c.number == number)).one_or_none()
    if row is None:
        raise NotFound("model version")
    return _from_row(row)


def artifact(connection: Connection, number: int) -> bytes:
    row = connection.execute(
        select(_NETWORK.c.artifact, _NETWORK.c.sha256)
        .select_from(_WITH_NETWORK)
        .where(_OWN.c.number == number)
    ).one_or_none()
    if row is None:
        raise NotFound("model version")
    if hashlib.sha256(row.artifact).hexdigest() != row.sha256:
        raise DamagedArtifact(f"the artefact of model version {number} is damaged; train again")
    return bytes(row.artifact)


def replace_artifact(
    connection: Connection,
    number: int,
    *,
    old: bytes,
    new: bytes,
    evaluation: Mapping[str, Any],
) -> None:
    """The same network with fewer of its examples' words; nothing happens if it is not `old`."""
    connection.execute(
        update(model_versions)
        .where(
            model_versions.c.number == number,
            model_versions.c.sha256 == hashlib.sha256(old).hexdigest(),
        )
        .values(
            artifact=new,
            sha256=hashlib.sha256(new).hexdigest(),
            size_bytes=len(new),
            evaluation=dict(evaluation),
        )
    )


def counted(version: ModelVersion) -> Calibration | None:
    """None where nothing was counted, or by an older release, or what is stored is damaged."""
    with suppress(ValueError):
        return Calibration.from_json(version.calibration)
    return None


def live(connection: Connection) -> Live:
    row = connection.execute(
        select(promotions.c.model_version, promotions.c.epoch)
        .order_by(promotions.c.epoch.desc())
        .limit(1)
    ).one_or_none()
    return Live(row.model_version, row.epoch) if row else Live(None, 0)


def promote(
    connection: Connection, number: int, *, by: str, expected_epoch: int | None = None
) -> Live:
    """Make a version live. `expected_epoch`: refuse if somebody promoted since then."""
    get(connection, number)
    current = live(connection)
    if expected_epoch is not None and expected_epoch != current.epoch:
        raise _outrun()
    if current.model_version == number:
        return current
    try:
        with connection.begin_nested():
            connection.execute(
                insert(promotions).values(
                    epoch=current.epoch + 1,
                    model_version=number,
                    promoted_at=now(),
                    promoted_by=by,
                )
            )
    except IntegrityError:
        raise _outrun() from None
    return Live(number, current.epoch + 1)


def roll_back(connection: Connection, *, by: str, expected_epoch: int | None = None) -> Live:
    """Make the version live that was live before the present one."""
    current = live(connection)
    before = connection.scalar(
        select(promotions.c.model_version)
        .where(promotions.c.model_version != current.model_version)
        .order_by(promotions.c.epoch.desc())
        .limit(1)
    )
    if before is None:
        raise Conflict("no other version was live before", code="nothing_to_roll_back_to")
    return promote(connection, before, by=by, expected_epoch=expected_epoch)


def _outrun() -> Conflict:
    return Conflict("somebody else promoted a version; look again", code="epoch_changed")


_OWN, _NETWORK = model_versions.alias("own"), model_versions.alias("network")
_WITH_NETWORK = _OWN.join(
    _NETWORK, _NETWORK.c.number == func.coalesce(_OWN.c.network_of, _OWN.c.number)
)
_OF_ITS_OWN = ("number", "calibration", "created_at", "network_of")
_SELECT = select(
    *(_OWN.c[name] for name in _OF_ITS_OWN),
    *(one for one in _NETWORK.c if one.name not in (*_OF_ITS_OWN, "artifact")),
).select_from(_WITH_NETWORK)


def _from_row(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        number=row.number,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        data_hash=row.data_hash,
        intents=row.intents,
        examples=row.examples,
        evaluation=row.evaluation,
        calibration=row.calibration,
        training_job_id=row.training_job_id,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        network_of=row.network_of,
    )
