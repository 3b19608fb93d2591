"""Invoices and credit notes over HTTP, for callers who may read the order and for whoever has the link."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from apps.documents.domain import Kind
from apps.documents.mongo import MongoCatalogue
from apps.documents.store import DocumentStore
from apps.kit.access import Caller, Scope, may
from apps.kit.errors import DependencyUnavailable
from apps.kit.links import is_signature_of
from apps.kit.problems import Problem, ProblemError

MaySee = Callable[[Caller, UUID], Awaitable[bool]]
"""Whether a caller may see an order, which only the orders know."""

MEDIA_TYPE = "application/pdf"
_POLICY = "frame-ancestors 'self'"
"""A browser shows a PDF by a page of its own, which `default-src` would leave without style and content."""

router = APIRouter(prefix="/v1/orders/{order_id}", tags=["documents"])


async def document_catalogue(request: Request) -> MongoCatalogue:
    catalogue: MongoCatalogue = request.app.state.documents
    return catalogue


async def document_store(request: Request) -> DocumentStore:
    store: DocumentStore = request.app.state.document_store
    return store


async def check_reader(
    request: Request,
    order_id: UUID,
    signature: Annotated[str | None, Query(description="Of a link that was made for a customer.")] = None,
) -> None:
    """Let through who has a link to the very document, and who may read the order.

    Raises:
        ProblemError: 403, the signature is of no such link; 404, the order is none of the caller's; or what
            the caller's key lacks.
    """
    if signature is not None:
        kind = request.url.path.rpartition("/")[2]
        if not is_signature_of(signature, f"/v1/orders/{order_id}/{kind}"):
            raise ProblemError(403, "signature: it does not belong to this document")
        return
    caller = await _reader(request)
    may_see: MaySee = request.app.state.may_see_order
    if not await may_see(caller, order_id):
        raise _no_document(order_id)


Catalogue = Annotated[MongoCatalogue, Depends(document_catalogue)]
Store = Annotated[DocumentStore, Depends(document_store)]
IfNoneMatch = Annotated[str | None, Header(description="The `ETag` of the copy that you have.")]
_reader = may(Scope.ORDERS_READ)
_document: dict[str, Any] = {
    "response_class": Response,
    "dependencies": [Depends(check_reader)],
    "openapi_extra": {"security": [{"key": [Scope.ORDERS_READ]}, {}]},  # none with a signature
    "responses": {
        200: {"content": {MEDIA_TYPE: {}}, "description": "The document; it never changes."},
        304: {"description": "The copy that you have is the document."},
        403: {"model": Problem, "description": "Neither the key nor the link allows it."},
        404: {"model": Problem, "description": "The order has no such document (yet)."},
        503: {"model": Problem, "description": "The document store is out of reach; try again."},
    },
}


@router.get("/invoice.pdf", summary="The invoice as PDF", **_document)
async def show_invoice(
    request: Request, order_id: UUID, catalogue: Catalogue, store: Store, if_none_match: IfNoneMatch = None
) -> Response:
    """The invoice as it was issued, also if it was voided since."""
    return await _answer(request, order_id, Kind.INVOICE, catalogue, store, if_none_match)


@router.get("/credit-note.pdf", summary="The credit note as PDF", **_document)
async def show_credit_note(
    request: Request, order_id: UUID, catalogue: Catalogue, store: Store, if_none_match: IfNoneMatch = None
) -> Response:
    """The credit note that cancels the order's invoice."""
    return await _answer(request, order_id, Kind.CREDIT_NOTE, catalogue, store, if_none_match)


async def _answer(
    request: Request,
    order_id: UUID,
    kind: Kind,
    catalogue: MongoCatalogue,
    store: DocumentStore,
    known: str | None,
) -> Response:
    entry = await catalogue.find(order_id, kind)
    if entry is None:
        raise _no_document(order_id)
    headers = {"ETag": f'"{entry.sha256}"', "Cache-Control": "private, max-age=3600"}
    if known in ("*", headers["ETag"]):
        return Response(status_code=304, headers=headers)
    try:
        size, content = await store.get(entry.path)
    except DependencyUnavailable as error:
        raise ProblemError(503, f"{error}; try again") from error
    added = getattr(request.state, "answer_headers", {})
    request.state.answer_headers = {**added, "Content-Security-Policy": _POLICY}
    headers |= {"Content-Disposition": f'inline; filename="{entry.number}.pdf"', "Content-Length": str(size)}
    return StreamingResponse(content, media_type=MEDIA_TYPE, headers=headers)


def _no_document(order_id: UUID) -> ProblemError:
    return ProblemError(404, f"order_id: order {order_id} has no such document (yet)")
