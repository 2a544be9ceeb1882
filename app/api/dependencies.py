"""What routes work with: the server's parts, and schemas they share."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict

from app.api.admission import Admission
from app.api.key_ring import KeyRing
from app.database.database import Database
from app.dialogue.chatbot import Chatbot
from app.eraser import Eraser
from app.live import LiveAssistant
from app.recalibration import Recalibrator
from app.settings import Settings
from app.spending import Spending
from app.training_runner import TrainingRunner
from app.turn_runner import TurnRunner


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    secrets: tuple[bytes, ...]
    """The present one first; a second while it is being changed."""
    database: Database
    chatbot: Chatbot
    live: LiveAssistant
    turns: TurnRunner
    training: TrainingRunner | None
    """None where separate workers train."""
    eraser: Eraser
    keys: KeyRing
    admission: Admission
    recalibrator: Recalibrator
    spending: Spending

    @property
    def secret(self) -> bytes:
        return self.secrets[0]


async def _services(request: Request) -> Services:
    # Not a plain function: FastAPI would run it in a thread of its own, for each request.
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


App = Annotated[Services, Depends(_services)]


class In(BaseModel):
    """A request body: unknown fields are refused, so that a typing error cannot pass unseen."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=100, pattern="^[0-9a-z._+-]+$")]
