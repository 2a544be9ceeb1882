"""The terminal chat, as somebody runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .shop_help import PLANT_SHOP


def run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], input=said, capture_output=True, text=True, check=False
    )


def test_a_chat_over_documents_answers_cites_and_admits_what_it_does_not_know(
    tmp_path: Path,
) -> None:
    (tmp_path / "help.md").write_text(PLANT_SHOP, "utf-8")
    done = run(
        "-m", "generator", "chat", "--documents", str(tmp_path),
        said="do you sell bananas?\nhow much is shipping to Austria?\n\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "9.90 €" in done.stdout
    assert "(Shipping costs)" in done.stdout
    assert "human" in done.stdout or "person" in done.stdout or "someone" in done.stdout


def test_a_chat_without_a_generator_says_what_to_give() -> None:
    done = run("-m", "generator", "chat")
    assert done.returncode == 2
    assert "--documents" in done.stderr


def test_a_bench_without_a_generator_says_what_to_give() -> None:
    done = run("-m", "generator", "bench")
    assert done.returncode == 2
    assert "give --model (a folder or a hub name), --url or --random" in done.stderr
    done = run("-m", "generator", "bench", "--random", "huge")
    assert done.returncode == 2
    assert "--random takes a size" in done.stderr


@pytest.mark.timeout(900)  # loads torch three times, which takes minutes on a busy machine
def test_a_bench_measures_a_network_of_random_weights() -> None:
    done = run(
        "-m", "generator", "bench", "--random", "1m", "--requests", "2",
        "--max-tokens", "8", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ready"]["batches"] is True
    assert [row["concurrent"] for row in report["rows"]] == [1, 1, 4, 16]
    assert [row["identical"] for row in report["rows"]] == [None, 2, 2, 2]
    assert all(row["per_second"] > 0 for row in report["rows"])
    assert report["cancel_worst_ms"] >= report["cancel_p50_ms"] > 0


def test_importing_the_package_and_asking_for_help_loads_no_torch() -> None:
    code = (
        "import sys, runpy\n"
        "import generator.interface, generator.local.generator, generator.local.process\n"
        "import generator.bench, generator.local.random_network, generator.local.engine\n"
        "import generator.remote, generator.fallback, generator.embedded, generator.scripted\n"
        "sys.argv = ['generator', 'chat', '--help']\n"
        "try: runpy.run_module('generator', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'app', 'intent'} & sys.modules.keys()\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--documents" in done.stdout
