"""The operator's documents; a change is live with the next question."""

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field

from app.api.auth import admin
from app.api.dependencies import App, In, Out
from app.api.strict_json import ShortText, StrictRoute, clean
from app.database import documents
from app.errors import InvalidInput
from generator.documents import MOST_CHARACTERS, DocumentError, DocumentFormat, to_markdown

router = APIRouter(
    prefix="/admin/documents",
    tags=["documents"],
    route_class=StrictRoute,
    dependencies=[Depends(admin)],
)

Name = Annotated[str, Path(max_length=200, pattern=r"^[\w.-]+$")]


class NewDocument(In):
    text: Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(clean)]
    """Each section becomes one passage or several."""
    format: DocumentFormat = "markdown"
    """What `text` is written in; it is kept as Markdown."""
    title: ShortText | None = None


class DocumentSummary(Out):
    name: str
    title: str
    passages: int
    updated_at: datetime


class Document(DocumentSummary):
    text: str
    """Markdown."""


class DocumentList(Out):
    items: list[DocumentSummary]


@router.get("")
async def index(app: App) -> DocumentList:
    found = await app.database.read(documents.everything)
    return DocumentList(items=[DocumentSummary.model_validate(one) for one in found])


@router.get("/{name}")
async def show(name: Name, app: App) -> Document:
    return Document.model_validate(await app.database.read(lambda c: documents.get(c, name)))


@router.put("/{name}")
async def put(name: Name, new: NewDocument, app: App) -> Document:
    """Add it, or replace the document of this name. Of HTML what a reader sees is kept."""
    try:
        markdown = await asyncio.to_thread(to_markdown, new.text, new.format)
    except DocumentError as error:
        raise InvalidInput(f"the document {error}", code="bad_document") from error
    stored = await app.database.write(
        lambda c: documents.put(c, name, title=new.title or "", markdown=markdown)
    )
    return Document.model_validate(stored)


@router.delete("/{name}", status_code=204)
async def remove(name: Name, app: App) -> None:
    await app.database.write(lambda c: documents.remove(c, name))
