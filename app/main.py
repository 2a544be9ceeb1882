"""The server, put together. This module and `worker` alone load networks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import cache, partial

import structlog
from fastapi import FastAPI

from app.api import (
    assistant,
    conversations,
    documents,
    drift,
    erasure,
    errors,
    health,
    intents,
    keys,
    ledger,
    metrics,
    model_versions,
    proof,
    review,
    samples,
    sessions,
    training_jobs,
    turns,
)
from app.api.admission import Admission
from app.api.dependencies import Services
from app.api.door import Door, declared_routes
from app.api.key_ring import KeyRing
from app.api.middleware import BodyLimitMiddleware, RequestIdMiddleware
from app.classifying import LoadClassifier
from app.database import api_keys
from app.database.database import Database, sqlite_has_wal_reset_bug
from app.database.erasure import Retention
from app.database.migration import migrate
from app.dialogue.chatbot import Chatbot
from app.dialogue.routing import RoutingPolicy
from app.dialogue.wording import APOLOGY
from app.drift_watch import DriftWatch
from app.eraser import Eraser
from app.errors import ConfigurationError, TwofoldError
from app.lanes import PeopleFirst
from app.live import LiveAssistant
from app.pages import routes as pages
from app.passage_index import PassageIndex
from app.reanswering import Reanswerer
from app.recalibration import Recalibrator
from app.secret import accepted_secrets
from app.settings import Settings
from app.spending import Spending
from app.training_runner import TrainingLimits, TrainingRunner
from app.turn_places import TurnLimits, TurnPlaces
from app.turn_runner import TurnRunner
from generator.agreement import agreement
from generator.embedded import EmbeddedGenerator
from generator.fallback import FallbackGenerator, FixedGenerator, Link
from generator.interface import Generator, GeneratorError, Limits
from generator.reader import Reader
from intent.interface import IntentClassifier

VERSION = "0.1.0"

ROUTERS = (
    sessions.router,
    conversations.router,
    turns.router,
    assistant.router,
    intents.router,
    review.router,
    samples.router,
    training_jobs.router,
    model_versions.router,
    documents.router,
    ledger.router,
    proof.router,
    keys.router,
    erasure.router,
    drift.router,
    metrics.router,
    health.router,
    pages.router,
)

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    generator: Generator | None = None,
    load: LoadClassifier | None = None,
) -> FastAPI:
    """`generator` replaces the configured chain, and `load` what makes a classifier of an
    artefact. Raises ConfigurationError."""
    chain = generator or build_generator(settings)
    check_budget(settings)
    secrets = accepted_secrets(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, secrets, chain, load or load_classifier) as services:
            app.state.services = services
            app.state.declared = declared_routes(app)  # what comes later is behind no door
            yield

    app = FastAPI(
        title="Twofold",
        version=VERSION,
        summary="A hybrid chatbot: what it knows it answers at once, the rest is generated.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # pages.router has it: a route like any other
        redirect_slashes=False,  # an address is right or absent
    )
    for router in ROUTERS:
        app.include_router(router)
    pages.mount_static(app)
    declared_routes(app)  # deny by default: a route that declares no scope does not start
    app.add_middleware(Door, most_waiting_bytes=settings.max_waiting_body_mb * 1_000_000)
    app.add_middleware(
        BodyLimitMiddleware,
        most_bytes=settings.max_body_bytes,
        most_seconds=settings.body_seconds,
    )
    app.add_middleware(RequestIdMiddleware)
    errors.install(app)
    return app


@asynccontextmanager
async def running(
    settings: Settings, secrets: tuple[bytes, ...], generator: Generator, load: LoadClassifier
) -> AsyncIterator[Services]:
    """Everything that lives while the server does, started and stopped in order."""
    database = open_database(settings)
    if settings.is_sqlite and sqlite_has_wal_reset_bug():
        log.info("this SQLite has the WAL-reset bug: we write through one connection")
    live = LiveAssistant(database, load, settings.promise, settings.promise_under_pressure)
    index = PassageIndex(database, passage_reader())
    lane = PeopleFirst(generator)
    places = TurnPlaces(turn_limits(settings))
    spending = Spending(database, places, ledger.prices_of(settings), settings.generation_budget)
    chatbot = Chatbot(
        reader=live,
        policy=RoutingPolicy(instant_threshold=settings.instant_threshold),
        generator=lane,
        find_passages=index.find,
        limits=Limits(max_tokens=settings.generation_tokens, seconds=settings.generation_seconds),
        system_prompt=settings.system_prompt,
        press=spending.pressure,
        spend=spending.spend,
    )
    turn_runner = TurnRunner(database, chatbot, places=places)
    keys = KeyRing(database, secrets)
    admission = Admission(settings, database, places)
    training = training_runner(database, settings) if settings.embedded_worker else None
    eraser = Eraser(database, retention(settings), stop=turn_runner.stop)
    reanswerer = Reanswerer(
        database,
        chatbot,
        lane,
        partial(agreement, passage_reader()),
        share=settings.proof_share,
    )
    tasks: list[asyncio.Task[None]] = []
    try:
        await database.write(lambda c: api_keys.check_pepper(c, secrets))
        await keys.start()
        await spending.exchange()
        await live.start()
        await index.start()
        await turn_runner.start()
        tasks.append(asyncio.create_task(eraser.run_forever()))
        tasks.append(asyncio.create_task(DriftWatch(database, settings.promise).run_forever()))
        tasks.append(asyncio.create_task(spending.run_forever()))
        tasks.append(asyncio.create_task(reanswerer.run_forever()))
        if isinstance(generator, FallbackGenerator):
            # Not awaited: until a network is loaded, the chain's next link answers.
            tasks.append(asyncio.create_task(generator.start()))
        if training is not None:
            tasks.append(asyncio.create_task(training.run_forever()))
        yield Services(
            settings,
            secrets,
            database,
            chatbot,
            live,
            turn_runner,
            training,
            eraser,
            keys,
            admission,
            Recalibrator(database, load, settings.promise),
            spending,
        )
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await reanswerer.release()
        await turn_runner.close(settings.finish_seconds)
        with suppress(TwofoldError):
            await spending.exchange()
        await generator.aclose()
        await live.close()
        await index.close()
        await keys.close()
        await asyncio.to_thread(database.close)


def open_database(settings: Settings) -> Database:
    """Connected and migrated. Raises ConfigurationError or Unavailable."""
    if settings.is_sqlite:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    try:
        database.write_now(migrate)
    except BaseException:
        database.close()
        raise
    return database


def load_classifier(artifact: bytes) -> IntentClassifier:
    from intent.classifier import GRUClassifier

    return GRUClassifier.load(artifact)


@cache
def passage_reader() -> Reader:
    """One for the search and for the embedded generator, and for all servers of a process."""
    return Reader()


def turn_limits(settings: Settings) -> TurnLimits:
    def open_of(owner: str) -> int:
        if owner.startswith("guest:"):
            return settings.max_open_turns_per_guest
        return settings.max_open_turns_per_key

    return TurnLimits(
        open=settings.max_open_turns,
        generating=settings.max_generating_turns,
        arriving=settings.max_arriving_turns,
        open_of=open_of,
    )


def retention(settings: Settings) -> Retention:
    return Retention(days=settings.retention_days, guest_days=settings.guest_retention_days)


def training_runner(database: Database, settings: Settings) -> TrainingRunner:
    return TrainingRunner(
        database,
        TrainingLimits(
            seconds=settings.training_seconds,
            memory_mb=settings.training_memory_mb,
            threads=settings.training_threads,
        ),
        accept_suggestions=settings.accept_suggestions,
    )


def build_generator(settings: Settings) -> Generator:
    """The configured chain, with an apology as its last link."""
    links = [Link(one, settings.first_piece_seconds) for one in configured_generators(settings)]
    return FallbackGenerator(
        [*links, Link(FixedGenerator(APOLOGY))],
        on_failure=_tell_failure,
        on_start_failure=_tell_start_failure,
    )


def check_budget(settings: Settings) -> None:
    """A budget for what costs nothing would never be spent. Raises ConfigurationError."""
    if not settings.generation_budget:
        return
    names = {part.strip() for part in settings.generators.split(",")}
    tokens = settings.price_per_1000_prompt_tokens or settings.price_per_1000_reply_tokens
    if "remote" in names and not tokens:
        raise ConfigurationError(
            "TWOFOLD_GENERATION_BUDGET: the remote generator's tokens have no price, so that it "
            "would never be spent; set TWOFOLD_PRICE_PER_1000_PROMPT_TOKENS and …_REPLY_TOKENS"
        )
    if names - {"remote"} and not settings.price_per_cpu_second:
        raise ConfigurationError(
            "TWOFOLD_GENERATION_BUDGET: what is generated here has no price, so that it would "
            "never be spent; set TWOFOLD_PRICE_PER_CPU_SECOND"
        )


def configured_generators(settings: Settings) -> list[Generator]:
    """First choice first. Raises ConfigurationError."""
    generators: list[Generator] = []
    for name in (part.strip() for part in settings.generators.split(",") if part.strip()):
        make = _GENERATORS.get(name)
        if make is None:
            raise ConfigurationError(
                f"TWOFOLD_GENERATORS: there is no generator of this name; "
                f"choose from {', '.join(_GENERATORS)}"
            )
        generators.append(make(settings))
    return generators


def _embedded(_: Settings) -> Generator:
    return EmbeddedGenerator.load(passage_reader())


def _remote(settings: Settings) -> Generator:
    from generator.remote import RemoteGenerator, RemoteLimits

    if not settings.remote_url or not settings.remote_model:
        raise ConfigurationError(
            "the remote generator needs TWOFOLD_REMOTE_URL and TWOFOLD_REMOTE_MODEL"
        )
    key = settings.remote_key.get_secret_value() if settings.remote_key else None
    # A little sooner than the chain gives it up, so that it knows itself that it was late.
    limits = RemoteLimits(first_piece_seconds=0.9 * settings.first_piece_seconds)
    try:
        return RemoteGenerator(
            settings.remote_url,
            settings.remote_model,
            api_key=key,
            ca_file=settings.remote_ca_file,
            remote_limits=limits,
            context_tokens=settings.remote_context_tokens,
        )
    except ValueError as error:
        names = "TWOFOLD_REMOTE_URL, TWOFOLD_REMOTE_KEY, TWOFOLD_REMOTE_CA_FILE"
        raise ConfigurationError(f"{names}: {error}") from error


def _local(settings: Settings) -> Generator:
    from generator.local.generator import LocalGenerator

    if not settings.local_model:
        raise ConfigurationError("the local generator needs TWOFOLD_LOCAL_MODEL")
    return LocalGenerator(
        settings.local_model,
        precision=settings.local_precision,
        threads=settings.local_threads or None,
        context_tokens=settings.local_context_tokens or None,
        most_running=settings.local_batch,
        # What is more never comes: max_generating_turns of all are let in.
        waiting=max(0, settings.max_generating_turns - settings.local_batch),
        cache_mb=settings.local_cache_mb,
        plain_chat=settings.local_plain_chat,
        on_ready=lambda ready: log.info("local generator ready", **asdict(ready)),
    )


def _seq2seq(settings: Settings) -> Generator:
    from generator.seq2seq.generator import Seq2SeqGenerator

    if settings.seq2seq_folder is None:
        raise ConfigurationError("the seq2seq generator needs TWOFOLD_SEQ2SEQ_FOLDER")
    return Seq2SeqGenerator(settings.seq2seq_folder)


_GENERATORS: dict[str, Callable[[Settings], Generator]] = {
    "embedded": _embedded,
    "remote": _remote,
    "local": _local,
    "seq2seq": _seq2seq,
}


def _tell_failure(name: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, GeneratorError) else ""  # others may quote people
    log.warning("generator failed", generator=name, error=type(error).__name__, reason=reason)


def _tell_start_failure(name: str, error: Exception) -> None:
    # No user has said anything yet, so that its text quotes nobody.
    log.warning("generator not ready", generator=name, reason=str(error))
