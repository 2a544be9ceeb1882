"""Is it alive, is it ready? For load balancers and people."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from app.api.admission import always
from app.api.auth import everybody
from app.api.dependencies import App
from app.errors import Unavailable

router = APIRouter(tags=["health"], dependencies=[Depends(everybody), Depends(always)])


class Alive(BaseModel):
    alive: bool = True


class Ready(BaseModel):
    ready: bool = True
    model_version: int | None
    """None: nothing is promoted yet; every turn goes to the generator."""


@router.get("/livez")
async def livez() -> Alive:
    """The process answers. Never touches the database."""
    return Alive()


@router.get("/readyz")
async def readyz(app: App) -> Ready:
    """The database answers too; 503 when it does not, or when this replica is about to go."""
    if app.turns.is_draining:
        raise Unavailable("this server is shutting down", code="shutting_down")
    await app.database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    return Ready(model_version=app.live.model_version)
