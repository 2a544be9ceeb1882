"""The training worker, put together: runs training jobs beside the servers, on PostgreSQL."""

import asyncio
import signal
from contextlib import suppress

from app.errors import ConfigurationError
from app.main import open_database, training_runner
from app.settings import Settings


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; a job that is cut off is taken up again by another worker."""
    if settings.is_sqlite:
        raise ConfigurationError(
            "SQLite is for one process, and its server trains by itself; "
            "for a separate worker set TWOFOLD_DATABASE_URL to a PostgreSQL database"
        )
    database = open_database(settings)
    work = asyncio.create_task(training_runner(database, settings).run_forever())
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, work.cancel)
    with suppress(asyncio.CancelledError):
        await work
    database.close()
