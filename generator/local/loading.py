"""The local generator's network, and the engine that suits its architecture."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from generator.interface import ChatMessage, GeneratorUnavailable, Limits
from generator.local.causal_network import CausalNetwork, NetworkOptions, Task, explain
from generator.local.engine import Engine, Progress

TRIALS = ("hello", "how long does delivery take?", "1 2 3 4 5 6 7")
TRIAL_TOKENS = 6


def load(config: dict[str, Any]) -> tuple[CausalNetwork, Engine, dict[str, Any]]:
    """`config` is LocalGenerator's; what its caller is told when all is ready comes last.
    Raises GeneratorUnavailable with a reason that names the remedy."""
    options = NetworkOptions(**config["network"])
    try:
        network = CausalNetwork(options)
        engine, why_not = choose(network, config)
    except Exception as error:
        raise GeneratorUnavailable(explain(error, options.model)) from error
    ready = {
        "batches": why_not is None,
        "reason": why_not or "",
        "context_tokens": network.context_tokens,
        "device": network.device,
    }
    return network, engine, ready


def choose(network: CausalNetwork, config: dict[str, Any]) -> tuple[Engine, str | None]:
    """Batching where the architecture can do it, which is tried and not looked up; else one at a
    time, with the reason."""
    from generator.local.one_at_a_time import OneAtATime, generate

    tasks = [
        network.task([ChatMessage("user", text)], (), Limits(max_tokens=TRIAL_TOKENS))
        for text in TRIALS
    ]
    expected = [generate(network, task) for task in tasks]
    if config["most_running"] == 1:
        return OneAtATime(network), "it is set to one request at a time"
    from generator.local.batching import Batching

    context_tokens = network.context_tokens
    batching: Batching | None = None
    try:
        batching = Batching(
            network, most_running=config["most_running"], cache_mb=config["cache_mb"]
        )
        made = _tokens_of(batching, tasks)
    except Exception as error:
        reason = f"its architecture cannot be batched ({type(error).__name__}: {error})"
    else:
        # One of them may differ where two tokens are equally likely.
        if sum(one == other for one, other in zip(made, expected, strict=True)) >= 2:
            return batching, None
        reason = "its architecture gives other replies in a batch"
    if batching is not None:
        batching.close()
    network.context_tokens = context_tokens
    return OneAtATime(network), reason.partition("\n")[0][:300]


def _tokens_of(engine: Engine, tasks: Sequence[Task]) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in tasks]
    open_tasks = set(range(len(tasks)))

    class Enough(Exception):
        """Ends `run`, which otherwise works for ever."""

    def take(progress: Progress) -> None:
        if progress.end == "failed":
            raise GeneratorUnavailable(progress.error.partition("\n")[0])
        made[progress.request_id].extend(progress.tokens)
        if progress.end is not None:
            open_tasks.discard(progress.request_id)
        if not open_tasks:
            raise Enough

    for number, task in enumerate(tasks):
        engine.add(number, task)
    with suppress(Enough):
        engine.run(take)
    return made
