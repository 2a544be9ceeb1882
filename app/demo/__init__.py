"""The bundled assistant: Juno, the help desk of an online shop for outdoors and home."""

from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection

from app import exchange
from app.database import assistant, intents

FOLDER = Path(__file__).parent


def load(connection: Connection) -> exchange.Imported | None:
    """Fills an empty database; leaves one that has intents as it is, and returns None."""
    if intents.everything(connection):
        return None
    files = [FOLDER / name for name in ("nlu.yml", "out_of_scope.yml", "responses.yml")]
    found = exchange.read([*files, FOLDER / "documents"])
    loaded = exchange.store(connection, found, titles=_yaml("titles.yml"))
    assistant.put(connection, assistant.Assistant(**_yaml("assistant.yml")))
    return loaded


def _yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))
