"""What must work, and stay quick, without torch."""

import subprocess
import sys
import textwrap

import pytest

COMMANDS = ("serve", "worker", "chat", "import", "export", "keys", "doctor", "version")


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["app.dialogue.chatbot", "app.api.turns", "app.cli"])
def test_deciding_a_turn_needs_no_torch(module: str) -> None:
    said = python(
        """
        import importlib, sys

        class NotInstalled:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "transformers"}:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, NotInstalled())
        importlib.import_module(sys.argv[1])
        print("imported")
        """,
        module,
    )
    assert said == "imported\n"


def test_a_route_is_decided_without_torch() -> None:
    said = python(
        """
        import asyncio, sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        from app.dialogue.chatbot import Chatbot, Reading
        from app.dialogue.responses import IntentReplies, ReplyBook
        from app.dialogue.routing import RoutingPolicy
        from app.dialogue.state import DialogueState
        from generator.scripted import ScriptedGenerator
        from tests.fakes import prediction

        class Reader:
            async def read(self, text):
                book = ReplyBook({"greet": IntentReplies("", ("Hello!",))})
                return Reading(prediction(("greet", 0.9)), 1, book, 0.0)

        async def no_passages(question):
            return ()

        bot = Chatbot(Reader(), RoutingPolicy(), ScriptedGenerator([]), no_passages)
        print(asyncio.run(bot.explain("hello", DialogueState()))[1].route)
        """
    )
    assert said == "instant\n"


def test_help_names_every_command_and_imports_neither_torch_nor_fastapi() -> None:
    said = python(
        """
        import sys
        from app import cli
        sys.argv = ["twofold", "--help"]
        try:
            cli.main()
        except SystemExit as done:
            assert not done.code
        heavy = {"torch", "transformers", "fastapi", "sqlalchemy", "uvicorn"} & set(sys.modules)
        print("imported:", sorted(heavy))
        """
    )
    assert all(f" {command} " in said for command in COMMANDS)
    assert said.rstrip().endswith("imported: []")


@pytest.mark.parametrize(("told", "threads"), [(None, 1), ("2", 2)])
def test_a_command_leaves_other_cores_to_other_turns(
    told: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", told)
    said = python(
        """
        import sys
        from contextlib import suppress
        from app.cli import main

        sys.argv = ["twofold", "version"]
        with suppress(SystemExit):
            main()
        import numpy
        from threadpoolctl import threadpool_info
        print({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"})
        """
    )
    assert said.endswith(f"{{{threads}}}\n")
