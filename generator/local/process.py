"""The process that LocalGenerator starts: JSON lines in, JSON lines out.

It ends by itself when its standard input closes, so that it never outlives its parent.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from generator.interface import ChatMessage, GeneratorError, Limits, Passage
from generator.local.engine import Engine, Progress
from generator.spoken_text import SpokenText

if TYPE_CHECKING:
    from generator.local.causal_network import CausalNetwork

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    config = json.loads(sys.argv[1])
    # Whatever a library prints must not end up between our lines.
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        with lock:
            out.write(json.dumps(message) + "\n")
            out.flush()

    def leave_with_the_parent(lines: Iterable[str], replies: "Replies") -> None:
        try:
            replies.listen(lines)
        finally:  # also when it fails: nobody could end this process any more
            os._exit(0)

    from generator.local.loading import load

    try:
        network, engine, ready = load(config)
    except GeneratorError as error:
        say({"failed": str(error)})
        os._exit(1)
    say({"ready": ready})
    replies = Replies(network, engine, say)
    threading.Thread(target=leave_with_the_parent, args=(sys.stdin, replies), daemon=True).start()
    try:
        engine.run(replies.take)
    finally:
        # The batch has a thread of its own that would keep a broken process alive.
        os._exit(1)


@dataclass(slots=True)
class Reply:
    prompt_tokens: int
    spoken: SpokenText = field(init=False)
    tokens: int = 0
    cpu_seconds: float = 0.0
    """An equal share of what the process spent while this reply was under way."""
    cancelled: bool = False

    def usage(self) -> dict[str, Any]:
        return {
            "cpu_seconds": self.cpu_seconds,
            "prompt_tokens": self.prompt_tokens,
            "reply_tokens": self.tokens,
        }


class Replies:
    """The replies under way: what is asked goes to the engine, what it makes is said."""

    def __init__(self, network: "CausalNetwork", engine: Engine, say: Say) -> None:
        self._network = network
        self._engine = engine
        self._say = say
        self._open: dict[int, Reply] = {}
        self._spent = 0.0
        self._sharing = threading.Lock()

    def listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self._begin(message)

    def _begin(self, message: dict[str, Any]) -> None:
        request_id: int = message["id"]
        limits = Limits(**message["limits"])
        try:
            task = self._network.task(
                [ChatMessage(**each) for each in message["messages"]],
                [Passage(**each) for each in message["passages"]],
                limits,
            )
            reply = Reply(len(task.prompt))
            say_text = partial(self._say_text, request_id, reply)
            reply.spoken = SpokenText(self._network.decode, say_text, task.stops)
            self._share()
            self._open[request_id] = reply
            self._engine.add(request_id, task)
        except GeneratorError as error:
            self._open.pop(request_id, None)
            self._say({"id": request_id, "error": str(error), "code": error.code})
        except Exception as error:
            self._open.pop(request_id, None)
            self._fail(request_id, type(error).__name__)

    def _cancel(self, request_id: int) -> None:
        reply = self._open.get(request_id)
        if reply is not None:
            reply.cancelled = True
            self._engine.cancel(request_id)

    def take(self, progress: Progress) -> None:
        reply = self._open.get(progress.request_id)
        if reply is None:
            return
        self._share()
        reply.tokens += len(progress.tokens)
        if progress.tokens and not reply.cancelled:
            reply.spoken.add(list(progress.tokens))
            if reply.spoken.stopped and progress.end is None:
                self._engine.cancel(progress.request_id)
        if progress.end is None:
            return
        del self._open[progress.request_id]
        if progress.end == "failed":
            self._fail(progress.request_id, progress.error)
            return
        if not reply.cancelled:
            reply.spoken.finish()
        end = "cancelled" if reply.cancelled else "done"
        usage = reply.usage()
        self._say({"id": progress.request_id, end: True, "tokens": reply.tokens, "usage": usage})

    def _share(self) -> None:
        """What the process spent since the last time, among the replies under way."""
        with self._sharing:
            spent, self._spent = self._spent, time.process_time()
            replies = list(self._open.values())
            for reply in replies:
                reply.cpu_seconds += (self._spent - spent) / len(replies)

    def _say_text(self, request_id: int, reply: Reply, text: str) -> None:
        self._say({"id": request_id, "text": text, "usage": reply.usage()})

    def _fail(self, request_id: int, name: str) -> None:
        # The text of an unknown error may quote the user; its type may not.
        reason = f"generating failed with {name}"
        self._say({"id": request_id, "error": reason, "code": GeneratorError.code})


if __name__ == "__main__":
    main()
