"""`python -m generator train`: conversations to a folder that a Seq2SeqGenerator serves."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, so the command does it when it needs it
    from rich.progress import Progress as ProgressBar

    from generator.seq2seq.config import TrainingConfig
    from generator.seq2seq.conversations import Split
    from generator.seq2seq.training import Epoch, Progress, Trained

    Show = Callable[[Progress | Epoch], None]

CHECKPOINT = "checkpoint.pt"
REPORT = "report.html"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser("train", help="a small network from your own conversations")
    train.add_argument(
        "--conversations",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help='JSON lines: {"messages": [{"role", "content"}]}, pages of turns as the API gives '
        "them, or Rasa's tracker events",
    )
    train.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="an interrupted run goes on here"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--epochs", type=_positive, help="at most (default 20)")
    train.add_argument("--hidden", type=_positive, help="units of the decoder (default 256)")
    train.add_argument("--threads", type=_positive, default=1, help="CPU threads (default 1)")
    train.add_argument("--progress", choices=["auto", "plain"], default="auto")


def run(options: argparse.Namespace) -> int:
    from generator.seq2seq.conversations import ConversationError

    try:
        _train(options)
    except ConversationError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return 2
    except KeyboardInterrupt:
        if (options.out / CHECKPOINT).exists():
            sys.stderr.write("interrupted; the same command goes on after the last whole epoch\n")
        return 130
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("must be from 1 to 100000")
    return number


def _train(options: argparse.Namespace) -> None:
    from generator.seq2seq.config import TrainingConfig
    from generator.seq2seq.conversations import ConversationError, read, split

    given = {name: getattr(options, name) for name in ("epochs", "hidden", "seed")}
    config = TrainingConfig(**{name: one for name, one in given.items() if one is not None})
    if config.hidden % 2:
        raise ConversationError(["--hidden must be even: the encoder reads in two directions"])
    data = split(
        read(options.conversations),
        valid=config.valid_share,
        test=config.test_share,
        seed=config.seed,
    )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "failed"
        raise ConversationError(
            [f"{options.out}: cannot be made ({reason}); choose another folder"]
        ) from error

    import torch

    from generator.seq2seq.training import Trained, train

    torch.set_num_threads(options.threads)
    checkpoint = options.out / CHECKPOINT
    with _progress(options.progress) as show:
        for step in train(data, config, checkpoint=checkpoint):
            if isinstance(step, Trained):
                trained = step
            else:
                show(step)
    _finish(trained, data, config, options.out)
    checkpoint.unlink(missing_ok=True)


def _finish(trained: "Trained", data: "Split", config: "TrainingConfig", folder: Path) -> None:
    """Measures the network on the test part, as it will be served, and writes the folder."""
    from generator.seq2seq import artifact
    from generator.seq2seq.conversations import exchanges
    from generator.seq2seq.evaluation import evaluate, picture_attention
    from generator.seq2seq.report import render
    from generator.seq2seq.training import perplexity, served

    network = served(trained)
    test = [exchange for one in data.test for exchange in exchanges(one)]
    with _counting("evaluating") as on_progress:
        evaluation = evaluate(
            network,
            test,
            perplexity=perplexity(trained, data.test),
            seed=config.seed,
            on_progress=on_progress,
        )
    sizes = (len(data.train), len(data.valid), len(data.test))
    network.card.update(
        config=asdict(config),
        conversations=dict(zip(("train", "valid", "test"), sizes, strict=True)),
        epochs=[asdict(epoch) for epoch in trained.epochs],
        # The report has the samples: this file is no place for what people said.
        evaluation={**evaluation.to_json(), "samples": []},
    )
    page = render(
        evaluation,
        trained.epochs,
        picture_attention(network, test),
        title=folder.absolute().name,
        conversations=sizes,
    )
    artifact.write(folder / REPORT, page.encode("utf-8", "replace"))
    artifact.save(network, folder)
    sys.stdout.write(
        f"perplexity {evaluation.perplexity:.1f}  BLEU {evaluation.bleu:.1f}  "
        f"ROUGE-L {evaluation.rouge_l:.1f}  of {evaluation.replies} replies; "
        f"{evaluation.tokens_per_second:,.0f} tokens a CPU-second\n"
        f"saved {folder}, and {folder / REPORT}\n"
    )


@contextmanager
def _progress(how: str) -> "Iterator[Show]":
    from generator.seq2seq.training import Epoch

    def plain(step: "Progress | Epoch") -> None:
        if isinstance(step, Epoch):
            sys.stderr.write(f"epoch {step.number}/{step.of}  {_figures(step)}\n")

    if how == "plain" or not sys.stderr.isatty():
        yield plain
        return
    with _bar("training") as bar:
        task = bar.add_task("", total=None)

        def show(step: "Progress | Epoch") -> None:
            if isinstance(step, Epoch):
                bar.update(task, description=f"epoch {step.number}  {_figures(step)}")
            else:
                bar.update(task, total=step.of, completed=step.step)

        yield show


@contextmanager
def _counting(what: str) -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    with _bar(what) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, of: bar.update(task, total=of, completed=done)


def _bar(what: str) -> "ProgressBar":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )


def _figures(epoch: "Epoch") -> str:
    return (
        f"loss {epoch.train_loss:.3f}  validation {epoch.valid_loss:.3f}, "
        f"perplexity {epoch.valid_perplexity:.1f}"
    )
