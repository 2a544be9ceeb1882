"""transformers' plain `generate`, one request after another; works with every architecture.

Imported only where torch is loaded.
"""

import queue
from typing import Any

import torch
import transformers
from torch import Tensor

from generator.local.causal_network import CausalNetwork, Task
from generator.local.engine import OnProgress, Progress
from generator.local.sampling import TokenChooser


class OneAtATime:
    def __init__(self, network: CausalNetwork) -> None:
        self._network = network
        self._waiting: queue.SimpleQueue[tuple[int, Task] | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._closed = False

    def add(self, request_id: int, task: Task) -> None:
        self._waiting.put((request_id, task))

    def cancel(self, request_id: int) -> None:
        self._cancelled.add(request_id)

    def close(self) -> None:
        self._closed = True
        self._waiting.put(None)

    def run(self, on_progress: OnProgress) -> None:
        while (next_one := self._waiting.get()) is not None and not self._closed:
            request_id, task = next_one
            if request_id not in self._cancelled:
                self._generate(request_id, task, on_progress)
            cancelled = request_id in self._cancelled
            self._cancelled.discard(request_id)
            on_progress(Progress(request_id, end="cancelled" if cancelled else "finished"))

    def _generate(self, request_id: int, task: Task, on_progress: OnProgress) -> None:
        def leave() -> bool:
            return self._closed or request_id in self._cancelled

        generate(
            self._network,
            task,
            on_token=lambda token: on_progress(Progress(request_id, (token,))),
            leave=leave,
        )


def generate(
    network: CausalNetwork,
    task: Task,
    *,
    on_token: Any = lambda _: None,
    leave: Any = lambda: False,
) -> list[int]:
    """The new tokens. `leave` is asked after each."""
    chooser = TokenChooser(task.sampling)
    made: list[int] = []

    class Choose(transformers.LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            return chooser.scores(input_ids[0].tolist(), scores[0]).unsqueeze(0)

    class Streamer(transformers.generation.streamers.BaseStreamer):  # type: ignore[misc]
        prompt_seen = False

        def put(self, value: Tensor) -> None:
            if self.prompt_seen:
                made.append(int(value))
                on_token(made[-1])
            self.prompt_seen = True

        def end(self) -> None:
            pass

    class Stop(transformers.StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
            return torch.full((input_ids.shape[0],), leave(), device=input_ids.device)

    prompt = torch.tensor([task.prompt], device=network.device)
    with torch.inference_mode():
        network.network.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=task.max_new_tokens,
            streamer=Streamer(),
            stopping_criteria=transformers.StoppingCriteriaList([Stop()]),
            logits_processor=None if chooser.changes_nothing else [Choose()],
        )
    return made
