"""Runs training jobs, one at a time, each as `python -m intent train` in its own process.

The process has no database and no secrets; it gets a file with the examples and leaves a file
with the artefact. It may be killed at any moment without harm to anybody else.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import structlog
from sqlalchemy import Connection

from app.database import intents, model_versions, review, training_jobs
from app.database.database import Database
from app.database.training_jobs import JobError, JobStatus, TrainingJob
from app.errors import LostFence, TwofoldError

POLL_SECONDS = 1.0
REPORT_SECONDS = 0.5
NICENESS = 10
"""Training yields the processor to the chats."""
_FOLDER = "twofold-training-"

Report = Mapping[str, Any]
OnEpoch = Callable[[Report], None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    seconds: float
    memory_mb: int
    threads: int


class TrainingRunner:
    def __init__(
        self, database: Database, limits: TrainingLimits, *, accept_suggestions: bool = False
    ) -> None:
        """`accept_suggestions`: what users chose when they were asked back becomes examples."""
        self._database = database
        self._limits = limits
        self._accept_suggestions = accept_suggestions
        self._worker = uuid4().hex
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for jobs now; there may be a new one."""
        self._wake.set()

    async def run_forever(self) -> None:
        while True:
            try:
                while await self.run_next() is not None:
                    pass
            except TwofoldError as error:
                log.warning("cannot look for training jobs", error=error.code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            self._wake.clear()

    async def run_next(self, on_epoch: OnEpoch | None = None) -> TrainingJob | None:
        """Run the oldest waiting job to its end; None when no job waits."""
        job = await self._database.write(lambda c: training_jobs.claim(c, self._worker))
        if job is None:
            return None
        log.info("training", job=job.id)
        try:
            ended = await self._run(job, on_epoch or (lambda _: None))
        except _Failed as failed:
            error = failed.error
            status = JobStatus.CANCELLED if error.code == "cancelled" else JobStatus.FAILED
            ended = await self._database.write(
                lambda c: training_jobs.close(
                    c, job, status, error=None if status is JobStatus.CANCELLED else error
                )
            )
        except LostFence:
            ended = await self._database.read(lambda c: training_jobs.get(c, job.id))
        log.info("training ended", job=job.id, status=ended.status.value)
        return ended

    async def _run(self, job: TrainingJob, on_epoch: OnEpoch) -> TrainingJob:
        if self._accept_suggestions:
            await self._take_in_suggestions()
        examples = await self._database.read(intents.training_data)
        with training_folder() as folder:
            data, artifact = folder / "examples.jsonl", folder / "artefact.safetensors"
            lines = (json.dumps({"text": text, "intent": intent}) for text, intent in examples)
            await asyncio.to_thread(data.write_text, "".join(f"{line}\n" for line in lines))
            saved = await self._train(job, data, artifact, on_epoch)
            content = await asyncio.to_thread(artifact.read_bytes)

        def store(connection: Connection) -> TrainingJob:
            number = model_versions.add(
                connection,
                content,
                data_hash=saved["data_hash"],
                intents=len(saved["intents"]),
                examples=sum(saved["intents"].values()),
                evaluation=saved["evaluation"] or {},
                calibration=saved.get("calibration"),
                training_job_id=job.id,
            )
            return training_jobs.close(connection, job, JobStatus.SUCCEEDED, model_version=number)

        return await self._database.write(store)

    async def _take_in_suggestions(self) -> None:
        found = await self._database.read(review.entries)
        for portion in review.portions(found):
            await self._database.write(partial(review.accept, portion=portion, by="setting"))

    async def _train(
        self, job: TrainingJob, data: Path, artifact: Path, on_epoch: OnEpoch
    ) -> Report:
        child = await _start(data, artifact, threads=self._limits.threads)
        watch = asyncio.create_task(self._watch(job, child, epochs := []))
        saved: Report | None = None
        failed: Report | None = None
        try:
            assert child.stdout is not None
            async for line in child.stdout:
                match report := _parsed(line):
                    case {"event": "epoch"}:
                        epochs.append(report)
                        on_epoch(report)
                    case {"event": "saved"}:
                        saved = report
                    case {"event": "failed"}:
                        failed = report
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
            watch.cancel()
            stopped = (await asyncio.gather(watch, return_exceptions=True))[0]
        if isinstance(stopped, TwofoldError):
            raise stopped
        if isinstance(stopped, JobError):
            raise _Failed(stopped)
        if failed is not None:
            # The trainer names lines of a file that only we know.
            place = re.compile(rf"{re.escape(str(data))}:\d+: ")
            problems = tuple(place.sub("", str(one)) for one in failed.get("problems", ()))
            message = "the examples cannot train a network; mend what is listed"
            raise _Failed(JobError("bad_training_data", message, problems))
        if child.returncode != 0 or saved is None:
            log.error("training process failed", job=job.id, exit_status=child.returncode)
            raise _Failed(
                JobError(
                    "training_process_failed",
                    f"the training process ended with status {child.returncode}",
                )
            )
        await self._database.write(lambda c: training_jobs.report(c, job, epochs))
        return saved

    async def _watch(
        self, job: TrainingJob, child: asyncio.subprocess.Process, epochs: list[Report]
    ) -> JobError:
        """Stores progress, and ends the child when somebody cancels or a limit is passed."""
        start = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            so_far = list(epochs)
            wanted = await self._database.write(
                partial(training_jobs.report, job=job, epochs=so_far)
            )
            error: JobError | None = None
            if not wanted:
                error = JobError("cancelled", "somebody cancelled this job")
            elif asyncio.get_running_loop().time() - start > self._limits.seconds:
                error = JobError("too_slow", f"training took over {self._limits.seconds:g} s")
            elif _memory_mb(child.pid) > self._limits.memory_mb:
                error = JobError("too_large", f"training took over {self._limits.memory_mb} MB")
            if error is not None:
                child.kill()
                return error


@contextmanager
def training_folder() -> Iterator[Path]:
    """For a training's files, which are people's words. A folder whose server was killed is
    removed by the next one that trains: nobody holds its lock any more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*/lock"):
        with suppress(OSError), lock.open() as file:  # another user's, or removed just now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name:
        folder = Path(name)
        with (folder / "unlocked").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (folder / "unlocked").rename(folder / "lock")
            yield folder


class _Failed(Exception):
    def __init__(self, error: JobError) -> None:
        self.error = error


async def _start(data: Path, artifact: Path, *, threads: int) -> asyncio.subprocess.Process:
    # Only what Python needs: no database address and no secret goes along.
    known = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in known if name in os.environ}
    environment |= {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "intent", "train", str(data), "-o", str(artifact)]
    command += ["--progress", "json", "--threads", str(threads)]
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=4 * 1024 * 1024,
    )
    with suppress(psutil.Error):
        psutil.Process(child.pid).nice(NICENESS)
    return child


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _memory_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0
