"""The terminal chat, as somebody runs it."""

import subprocess
import sys
from pathlib import Path

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
        said="how much is shipping to Austria?\ndo you sell bananas?\n\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "9.90 €" in done.stdout
    assert "(Shipping costs)" in done.stdout
    assert "human" in done.stdout or "person" in done.stdout or "someone" in done.stdout


def test_a_chat_without_a_generator_says_what_to_give() -> None:
    done = run("-m", "generator", "chat")
    assert done.returncode == 2
    assert "--documents" in done.stderr


def test_importing_the_package_and_asking_for_help_loads_no_torch() -> None:
    code = (
        "import sys, runpy\n"
        "import generator.interface, generator.local, generator.local_process\n"
        "import generator.remote, generator.fallback, generator.embedded, generator.scripted\n"
        "sys.argv = ['generator', 'chat', '--help']\n"
        "try: runpy.run_module('generator', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'app', 'intent'} & sys.modules.keys()\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--documents" in done.stdout
