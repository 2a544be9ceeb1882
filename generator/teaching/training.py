"""The way of a training: steps, and checkpoints that it goes on from as if nothing had been."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from generator.teaching.lesson import TeachingError

SMOOTHED_OVER = 33
"""Steps that a shown loss looks back on."""

Figures = dict[str, float]


class Pupil(Protocol):
    @property
    def steps(self) -> int:
        """In all."""
        ...

    @property
    def checkpoint_every(self) -> int: ...

    def learn(self, step: int) -> Figures:
        """The losses of one step."""
        ...

    def examine(self) -> Figures:
        """How good it is on the validation fields; nothing where there are none."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    of: int
    losses: Figures
    """Smoothed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """After this step the file holds the training."""

    step: Step
    validation: Figures


def saved_state(checkpoint: Path) -> dict[str, Any] | None:
    """None where there is no such file. Raises TeachingError."""
    if not checkpoint.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)  # no code is run
        if "pupil" not in state:
            raise RuntimeError("it holds something else")
    except (OSError, RuntimeError, EOFError, TypeError, UnpicklingError) as error:
        raise TeachingError(
            f"{checkpoint} is no checkpoint ({error}); remove it to begin anew"
        ) from error
    return state


def teach(
    pupil: Pupil, checkpoint: Path, *, minutes: float | None = None
) -> Iterator[Step | Checkpoint]:
    """Goes on from the checkpoint where there is one. After so many minutes it stops, too, at a
    checkpoint. Raises TeachingError."""
    step, losses = _resume(pupil, checkpoint)
    end = None if minutes is None else time.monotonic() + 60 * minutes
    while step < pupil.steps:
        losses = _smoothed(losses, pupil.learn(step))
        step += 1
        progress = Step(step, pupil.steps, losses)
        yield progress
        is_late = end is not None and time.monotonic() >= end
        if is_late or step == pupil.steps or step % pupil.checkpoint_every == 0:
            _keep(pupil, checkpoint, step, losses)
            yield Checkpoint(progress, pupil.examine())
        if is_late:
            return


def _smoothed(before: Figures, now: Figures) -> Figures:
    share = 1 / SMOOTHED_OVER
    return {name: before.get(name, loss) * (1 - share) + loss * share for name, loss in now.items()}


def _keep(pupil: Pupil, checkpoint: Path, step: int, losses: Figures) -> None:
    state = {
        "step": step,
        "losses": losses,
        "torch": torch.get_rng_state(),
        "pupil": pupil.state(),
    }
    draft = checkpoint.with_suffix(".part")
    torch.save(state, draft)
    draft.replace(checkpoint)


def _resume(pupil: Pupil, checkpoint: Path) -> tuple[int, Figures]:
    state = saved_state(checkpoint)
    if state is None:
        return 0, {}
    try:
        pupil.restore(state["pupil"])
        torch.set_rng_state(state["torch"])
        return int(state["step"]), state["losses"]
    except (KeyError, ValueError, RuntimeError) as error:
        raise TeachingError(
            f"{checkpoint} is the checkpoint of another network ({error}); name another file, or "
            "remove it to begin anew"
        ) from error
