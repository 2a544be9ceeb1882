"""Many requests in one batch: the one place that knows transformers' continuous batching.

Its names change between releases; what we need of them stands here and nowhere else. Imported
only where torch is loaded.
"""

import math
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from generator.interface import GeneratorUnavailable
from generator.local.causal_network import CausalNetwork, Task
from generator.local.engine import OnProgress, Progress
from generator.local.sampling import Sampling, TokenChooser

PAGE_TOKENS = 64
STEP_TOKENS = 256
"""A longer prompt is read in several steps, so that nobody waits long for one."""
LOOK_SECONDS = 0.05
LOOK_SECONDS_FOR_A_CANCEL = 0.002
ATTENTION = SCHEDULER = "twofold"


class Batching:
    def __init__(self, network: CausalNetwork, *, most_running: int, cache_mb: int) -> None:
        """Raises GeneratorUnavailable, or whatever transformers raises, where the architecture
        cannot be batched. `cache_mb` bounds the memory for attention keys and values."""
        self._network = network
        self._attention = network.network.config._attn_implementation
        if self._attention != "sdpa":
            raise GeneratorUnavailable(f"its attention is {self._attention}, not sdpa")
        pages = _pages(network, most_running, cache_mb)
        self._choosing = _Choosing()
        self._leaving: set[int] = set()
        self._seen: dict[int, int] = {}
        self._closed = False
        self._manager = network.network.init_continuous_batching(
            generation_config=network.network.generation_config,
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=pages,
                max_batch_tokens=STEP_TOKENS,
                max_requests_per_batch=most_running,
                scheduler_type=SCHEDULER,
                safety_margin=0.0,
                # What a request gets must not depend on what was asked before it.
                allow_block_sharing=False,
                # A captured graph would not ask _Choosing.
                use_cuda_graph=False,
                use_async_batching=False,
                auto_switch_to_flash=False,
                max_queue_size=0,  # add_request never waits; Admission bounds what comes in
            ),
        )
        self._manager.logit_processor = self._choosing
        network.network.set_attn_implementation(ATTENTION)
        self._manager.start()

    def add(self, request_id: int, task: Task) -> None:
        self._seen[request_id] = 0
        self._choosing.add(str(request_id), task.sampling)
        added = self._manager.add_request(
            task.prompt,
            request_id=str(request_id),
            max_new_tokens=task.max_new_tokens,
            streaming=True,
            eos_token_id=self._network.ends or -1,
        )
        if added is None:
            raise GeneratorUnavailable(f"the batch has ended: {self._fatal_error()}")

    def cancel(self, request_id: int) -> None:
        self._leaving.add(request_id)
        self._manager.cancel_request(str(request_id))

    def close(self) -> None:
        self._closed = True
        self._manager.stop(hard_stop=True)
        self._network.network.set_attn_implementation(self._attention)

    def run(self, on_progress: OnProgress) -> None:
        while not self._closed:
            # A cancelled request gets no last event from the manager. What it had said before
            # it was dropped is in the queue by then.
            dropped = [one for one in list(self._leaving) if self._is_dropped(one)]
            seconds = LOOK_SECONDS_FOR_A_CANCEL if self._leaving else LOOK_SECONDS
            output = self._manager.get_result(timeout=seconds)
            while output is not None:
                self._tell(output, on_progress)
                output = self._manager.get_result(timeout=0)
            for request_id in dropped:
                if request_id not in self._seen:  # it ended when it was cancelled
                    self._leaving.discard(request_id)
                else:
                    self._end(request_id)
                    on_progress(Progress(request_id, end="cancelled"))
            if not self._manager.is_running() and not self._closed:
                raise GeneratorUnavailable(f"the batch has ended: {self._fatal_error()}")

    def _tell(self, output: Any, on_progress: OnProgress) -> None:
        request_id = int(output.request_id)
        if request_id not in self._seen:
            return
        tokens = tuple(output.generated_tokens[self._seen[request_id] :])
        self._seen[request_id] += len(tokens)
        if not output.is_finished():
            on_progress(Progress(request_id, tokens))
            return
        self._end(request_id)
        failed = output.error is not None
        on_progress(
            Progress(request_id, tokens, "failed" if failed else "finished", output.error or "")
        )

    def _end(self, request_id: int) -> None:
        del self._seen[request_id]
        self._leaving.discard(request_id)
        self._choosing.forget(str(request_id))

    def _is_dropped(self, request_id: int) -> bool:
        processor = self._manager.batch_processor
        return processor is not None and bool(
            processor.scheduler.request_is_cancelled(str(request_id))
        )

    def _fatal_error(self) -> str:
        # Its words may quote a prompt; its type does not.
        return type(self._manager.background_thread_status.fatal_error).__name__


def _pages(network: CausalNetwork, most_running: int, cache_mb: int) -> int:
    """As many as the requests can use at most, or as fit; lowers the network's context when
    not even one request of that length fits."""
    config = network.network.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * head_size * network.network.dtype.itemsize
    fitting = cache_mb * 1024 * 1024 // (token_bytes * PAGE_TOKENS)
    if fitting < 2:
        raise GeneratorUnavailable(f"a cache of {cache_mb} MB is too small; give it more")
    # One page stays free, because a reply may begin in the middle of one.
    network.context_tokens = min(network.context_tokens, (fitting - 1) * PAGE_TOKENS)
    wanted = most_running * (math.ceil(network.context_tokens / PAGE_TOKENS) + 1)
    return int(min(wanted, fitting))


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """A step reads one prompt, alone, or makes one token for each running request.

    So matrices have the shapes that `generate` gives them, and replies in bfloat16 are the same
    to the last bit: a mixed batch rounds otherwise. After STEP_TOKENS of prompts the running
    requests get a token. A request begins when its longest reply fits into the cache, so that
    none is thrown out half-way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_since = 0

    def schedule_batch(self, token_budget: int, cache_budget: int) -> tuple[Any, bool, int, int]:
        active = self.active_requests.values()
        replying = [state for state in active if state.status == RequestStatus.DECODING]
        prompt = self._next_prompt()
        if prompt is not None and (self._read_since < token_budget or not replying):
            self._read_since += len(prompt.remaining_prefill_tokens)
            candidates = [prompt]
        else:
            self._read_since = 0
            candidates = replying
        begun: set[str] = set()
        scheduled, full, is_fast, query_tokens, read_tokens = self._process_candidates(
            candidates, token_budget, cache_budget, begun
        )
        self._cleanup_waiting_queue(begun)
        return (None if full and not scheduled else scheduled), is_fast, query_tokens, read_tokens

    def _next_prompt(self) -> Any:
        reading = [
            state
            for state in self.active_requests.values()
            if state.status == RequestStatus.PREFILLING
        ]
        if reading:
            return reading[0]
        if not self.waiting_requests_order or (
            len(self.active_requests) >= self.max_requests_per_batch
        ):
            return None
        first = self.waiting_requests[self.waiting_requests_order[0]]
        pages = sum(map(_most_pages, [*self.active_requests.values(), first]))
        return first if pages <= self.cache.num_blocks or not self.active_requests else None


def _most_pages(state: Any) -> int:
    tokens: int = len(state.initial_tokens) + state.max_new_tokens
    return math.ceil(tokens / PAGE_TOKENS) + 1


class _Choosing(ContinuousBatchingLogitsProcessorList):  # type: ignore[misc]
    """A TokenChooser for each request. The manager's own processors share one seed, and know
    temperature, top k and top p only where the configuration sets them for all."""

    def __init__(self) -> None:
        super().__init__(transformers.LogitsProcessorList())
        self.do_processing = True
        self._choosers: dict[str, TokenChooser] = {}
        self._rows: list[Any] = []

    def add(self, request_id: str, sampling: Sampling) -> None:
        chooser = TokenChooser(sampling)
        if not chooser.changes_nothing:
            self._choosers[request_id] = chooser

    def forget(self, request_id: str) -> None:
        self._choosers.pop(request_id, None)

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: Tensor) -> Tensor:
        self._rows = [one.state for one in requests_in_batch if one.has_new_token]
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, logits_processor_args: Tensor) -> Tensor:
        for row, state in enumerate(self._rows):
            chooser = self._choosers.get(state.request_id)
            if chooser is not None:
                tokens = state.initial_tokens + state.generated_tokens
                scores[row] = chooser.scores(tokens, scores[row])
        return scores


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cache: Any = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Each request with its own keys. The manager's way, one mask over all of them, multiplies
    everybody's queries with everybody's keys."""
    queries = kwargs["cu_seq_lens_q"].tolist()
    key, value = cache.update(
        key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs
    )
    keys = kwargs["cu_seq_lens_k"].tolist()  # of this layer, since the update
    outputs = []
    for q0, q1, k0, k1 in zip(queries, queries[1:], keys, keys[1:], strict=False):
        output, _ = sdpa_attention_forward(
            module,
            query[:, :, q0:q1],
            key[:, :, k0:k1],
            value[:, :, k0:k1],
            _mask(q1 - q0, k1 - k0, sliding_window, query.device),
            scaling=scaling,
            is_causal=True,
            **{name: kwargs[name] for name in ("softcap",) if name in kwargs},
        )
        outputs.append(output)
    return torch.cat(outputs, dim=1), None


def _mask(
    queries: int, keys: int, sliding_window: int | None, device: torch.device
) -> Tensor | None:
    """[1, 1, queries, keys]; none where sdpa's own causal one is right."""
    if queries == 1 or (queries == keys and (sliding_window is None or keys <= sliding_window)):
        return None
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    if sliding_window is not None:
        mask = mask.triu(keys - queries - sliding_window + 1)
    return mask[None, None]


SCHEDULER_MAPPING[SCHEDULER] = _Scheduler
transformers.AttentionInterface.register(ATTENTION, _attend)
transformers.AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
