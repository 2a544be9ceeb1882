"""The tables, for SQLite and PostgreSQL alike. Times are UTC seconds since 1970."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import JSON

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class now(FunctionElement[float]):
    """The database's own clock in seconds: replicas' clocks differ, leases must not."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def _id() -> Column[str]:
    return Column("id", String(32), primary_key=True)


conversations = Table(
    "conversations",
    metadata,
    _id(),
    Column("owner", String(64), nullable=False),
    Column("title", String(200), nullable=False),
    Column("state", JSON, nullable=False),
    Column("next_seq", Integer, nullable=False, server_default="1"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("ix_conversations_owner_updated_at", "owner", "updated_at", "id"),
)


def _worth_review(number: str) -> str:
    assurance, threshold = number.format("assurance"), number.format("threshold")
    return (
        "route <> 'instant' OR rating = 'down' OR "
        f"{assurance} * (1 - {threshold}) < 2 * {threshold} * (1 - {assurance})"
    )


WORTH_REVIEW = {
    "sqlite": _worth_review("json_extract(decision, '$.{}')"),  # it has ->> from 3.38 on only
    "postgresql": _worth_review("CAST(decision ->> '{}' AS DOUBLE PRECISION)"),
}
"""Turns that may come into the review queue: not answered instantly, disliked, or only just sure
enough (see `NEAR` in `app/dialogue/review.py`). Most turns are none of these, and then in no
index. A query has to use these very words."""

turns = Table(
    "turns",
    metadata,
    _id(),
    Column(
        "conversation_id",
        String(32),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("owner", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("status", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("reply", Text),
    Column("citations", JSON, nullable=False, server_default="[]"),
    Column("choices", JSON, nullable=False, server_default="[]"),
    Column("route", String(16)),
    Column("intent", String(200)),
    Column("decision", JSON),
    Column("model_version", Integer),
    Column("generator", String(64)),
    Column("degraded", String(32)),
    Column("skipped", JSON, nullable=False, server_default="[]"),
    Column("error_code", String(64)),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("starts", Integer, nullable=False, server_default="0"),
    Column("worker", String(64)),
    Column("lease_until", Double),
    Column("deadline_at", Double),
    Column("classify_ms", Double),
    Column("first_piece_ms", Double),
    Column("total_ms", Double),
    Column("search_ms", Double),
    Column("classify_cpu_ms", Double),
    Column("generator_cpu_ms", Double),  # and the search's; None: none asked, or none that measures
    Column("prompt_tokens", Integer),
    Column("reply_tokens", Integer),
    Column("tokens_by", String(16)),
    Column("rating", String(8)),
    Column("comment", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    UniqueConstraint("conversation_id", "seq"),
    UniqueConstraint("owner", "idempotency_key"),
    CheckConstraint(
        "status IN ('accepted', 'generating', 'done', 'failed', 'cancelled')", name="status"
    ),
    Index(
        "uq_turns_one_generating",
        "conversation_id",
        unique=True,
        sqlite_where=text("status = 'generating'"),
        postgresql_where=text("status = 'generating'"),
    ),
    Index(
        "ix_turns_open",
        "lease_until",
        sqlite_where=text("status IN ('accepted', 'generating')"),
        postgresql_where=text("status IN ('accepted', 'generating')"),
    ),
    # Is a turn of this conversation open? Without it the answer would cost more with each turn.
    Index(
        "ix_turns_open_in_conversation",
        "conversation_id",
        "seq",
        sqlite_where=text("status IN ('accepted', 'generating')"),
        postgresql_where=text("status IN ('accepted', 'generating')"),
    ),
    Index("ix_turns_created_at", "created_at", "id"),
    Index(
        "ix_turns_worth_review",
        "created_at",
        sqlite_where=text(WORTH_REVIEW["sqlite"]),
        postgresql_where=text(WORTH_REVIEW["postgresql"]),
    ),
)

reanswers = Table(
    "reanswers",
    metadata,
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("reply", Text),
    Column("generator", String(64)),
    Column("answered", Boolean, nullable=False),
    Column("agreement", JSON(none_as_null=True)),
    Column("differs", Boolean),  # None: there is nothing to compare
    Column("error_code", String(64)),
    Column("first_piece_ms", Double),
    Column("total_ms", Double, nullable=False),
    Column("generator_cpu_ms", Double),
    Column("prompt_tokens", Integer),
    Column("reply_tokens", Integer),
    Column("tokens_by", String(16)),
)
"""Instant turns that the generator answered as well, for comparison; nobody was told."""

spending = Table(
    "spending",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, in UTC
    Column("cpu_seconds", Double, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("reply_tokens", BigInteger, nullable=False),
)
"""What generating took, counted while there is a budget for it. Not a sum over turns: whoever
erases a conversation gets no money back."""

drift = Table(
    "drift",
    metadata,
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("looks", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("usual", Boolean, nullable=False),
    Column("moved", JSON, nullable=False),
    Column("found", JSON(none_as_null=True)),
    Column("alarm_since", Double),
    Column("looked_at", Double, nullable=False),
)
"""The last look at the messages of each version. `looks` is the compare-and-set."""

duties = Table(
    "duties",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("lease_until", Double, nullable=False),
)
"""What one replica does for all."""

assistant = Table(
    "assistant",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("greeting", Text, nullable=False),
    Column("suggestions", JSON, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),
)
"""One row. `revision` rises with every change of replies or variables: replicas reload then."""

intents = Table(
    "intents",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("title", String(200), nullable=False),
    Column("replies", JSON, nullable=False),
    Column("updated_at", Double, nullable=False),
)

examples = Table(
    "examples",
    metadata,
    _id(),
    Column("intent_id", String(32), ForeignKey("intents.id", ondelete="CASCADE"), nullable=False),
    Column("text", Text, nullable=False),
    Column("digest", String(64), nullable=False),  # sha256: a text can be too long to index
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE")),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("intent_id", "digest"),
    Index("ix_examples_intent_id_created_at", "intent_id", "created_at", "id"),
    Index("ix_examples_turn_id", "turn_id"),
)
"""`turn_id`: somebody said it in this turn; it goes when the turn goes. None: an operator's own."""

labels = Table(
    "labels",
    metadata,
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("intent_id", String(32), ForeignKey("intents.id", ondelete="CASCADE")),
    Column("click", String(32)),
    Column("example_id", String(32)),
    Column("given_by", String(64)),
    Column("given_at", Double, nullable=False),
    CheckConstraint("source IN ('user', 'operator')", name="source"),
    Index("ix_labels_click", "click"),
)
"""What turns were about. A user's is what they chose when the bot asked back, and only a
suggestion; an operator's decides, and None dismisses. One click decides all turns that say the
same, and makes one example, which it takes back with it."""

samples = Table(
    "samples",
    metadata,
    _id(),
    Column("network", Integer, nullable=False, unique=True),
    Column("drawn_at", Double, nullable=False),
    Column("drawn_by", String(64), nullable=False),
    Column("asked_since", Double),
    Column("asked_from", Double, nullable=False),
    Column("asked_to", Double, nullable=False),
    Column("population", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("verdict", JSON(none_as_null=True)),
)
"""A random sample of what people said to a network, for a certificate; `network` is the number of
the version that was trained. What was asked until `asked_since` has served one already."""

sampled_turns = Table(
    "sampled_turns",
    metadata,
    Column("turn_id", String(32), ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    Column("sample_id", String(32), ForeignKey("samples.id", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("label", String(16)),
    Column("intent_id", String(32), ForeignKey("intents.id", ondelete="SET NULL")),
    Column("labelled_by", String(64)),
    Column("labelled_at", Double),
    UniqueConstraint("sample_id", "place"),
    CheckConstraint("label IN ('intent', 'out_of_scope', 'cannot_tell')", name="label"),
    Index("ix_sampled_turns_intent_id", "intent_id"),
)
"""All that the sample was drawn from, in the drawn order: the first `size` of them are the sample,
so that it can grow, and what is erased is replaced by the next. A label whose intent was deleted
is none any more."""

documents = Table(
    "documents",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("title", String(300), nullable=False),
    Column("text", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
)

passages = Table(
    "passages",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column(
        "document_id", String(32), ForeignKey("documents.id", ondelete="CASCADE"), nullable=False
    ),
    Column("position", Integer, nullable=False),
    Column("title", String(300), nullable=False),
    Column("text", Text, nullable=False),
    Column("meaning", LargeBinary),
    Column("word_meanings", LargeBinary),
    Column("meaning_version", String(40)),
    UniqueConstraint("document_id", "position"),
)

training_jobs = Table(
    "training_jobs",
    metadata,
    _id(),
    Column("status", String(16), nullable=False),
    Column("progress", JSON, nullable=False),
    Column("error", JSON),
    Column("model_version", Integer),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("worker", String(64)),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_until", Double),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    CheckConstraint(
        "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"
    ),
    Index("ix_training_jobs_status_created_at", "status", "created_at"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("artifact", LargeBinary, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("data_hash", String(64), nullable=False),
    Column("intents", Integer, nullable=False),
    Column("examples", Integer, nullable=False),
    Column("evaluation", JSON, nullable=False),
    Column("calibration", JSON(none_as_null=True)),  # None: of an older release, or nothing counted
    Column("training_job_id", String(32)),
    Column("created_at", Double, nullable=False),
    Column("network_of", Integer),
    sqlite_autoincrement=True,
)
"""`network_of`: the version whose network this one serves, calibrated anew; then its own artefact
is empty, and what is said of the network stands in that row alone."""

promotions = Table(
    "promotions",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("model_version", Integer, ForeignKey("model_versions.number"), nullable=False),
    Column("promoted_at", Double, nullable=False),
    Column("promoted_by", String(64), nullable=False),
)
"""Append-only: the newest epoch is live. Its primary key is the compare-and-set."""

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("name", String(100), nullable=False),
    Column("scopes", String(100), nullable=False),  # names with a space between, as OAuth has them
    Column("prefix", String(16), nullable=False, unique=True),
    Column("hash", String(64), nullable=False),
    Column("pepper", String(16)),  # a mark of the secret that the hash was made with
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
)

key_sessions = Table(
    "key_sessions",
    metadata,
    _id(),
    Column("key_id", String(32), ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("ix_key_sessions_key_id_created_at", "key_id", "created_at"),
)
"""Who signed in with a key, in a browser, and has not signed out. Guests have no row."""

access = Table(
    "access",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("pepper", String(16)),
)
"""One row. `revision` rises whenever somebody loses a right: replicas forget what they know
of keys then. `pepper` marks the secret that all replicas must have."""
erasures = Table(
    "erasures",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),
    Column("subject", String(64)),  # sha256 of what was erased; None: what had become too old
    Column("owner_digest", String(64)),  # sha256 of whose it was
    Column("owner", String(64)),  # only until it is done
    Column("requested_by", String(16), nullable=False),
    Column("rows", JSON, nullable=False),
    Column("examples_since", Double),  # when the first example that went had been added
    Column("model_versions", JSON, nullable=False, server_default="[]"),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("sha256", String(64)),
    CheckConstraint("kind IN ('conversation', 'owner', 'retention')", name="kind"),
    Index("ix_erasures_started_at", "started_at", "id"),
    Index(
        "ix_erasures_unfinished",
        "started_at",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)
"""Receipts, and the work that is left of them: nothing that anybody said or was called."""
