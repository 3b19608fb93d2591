"""Errors over HTTP as problem+json (RFC 9457): what is wrong, and in which field."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.stdlib import get_logger

from apps.kit.answers import answer_headers
from apps.kit.validation import field_problems

log = get_logger()

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]
"""What an operation may answer, by status, as FastAPI takes it."""


class InvalidField(BaseModel):
    """One thing that is wrong in a request."""

    field: str = Field(
        description="Path of the field, dots between its parts.", examples=["lines.0.quantity"]
    )
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(default="about:blank", description="Kind of problem.")
    title: str = Field(description="The status in words.", examples=["Unprocessable Content"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(description="What is wrong, for a person.")
    errors: list[InvalidField] = Field(default=[], description="Every field that is wrong.")


class ProblemError(HTTPException):
    """A refusal that says which fields are wrong."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[InvalidField] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = errors or []


def invalid(field: str, message: str) -> ProblemError:
    """The refusal of a request in which one field is wrong."""
    return ProblemError(422, f"{field}: {message}", [InvalidField(field=field, message=message)])


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def problem_response(status: int, detail: str, errors: list[InvalidField] | None = None) -> JSONResponse:
    """An answer that says what is wrong."""
    problem = Problem(title=_TITLES.get(status, "Error"), status=status, detail=detail, errors=errors or [])
    return JSONResponse(problem.model_dump(), status, media_type=MEDIA_TYPE)


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every error of the API as problem+json."""

    @api.exception_handler(RequestValidationError)
    async def not_valid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = error.errors()
        if any(problem["type"] == "json_invalid" for problem in problems):
            return problem_response(400, f"The body is no JSON: {problems[0]['ctx']['error']}.")
        errors = [
            # `body.lines.0.sku` is `lines.0.sku` to who wrote the body.
            InvalidField(field=path.partition(".")[2] or path, message=message)
            for path, message in field_problems(problems)
        ]
        detail = "; ".join(f"{one.field}: {one.message}" for one in errors[:3])
        return problem_response(422, detail, errors)

    @api.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        answer = problem_response(error.status_code, error.detail, getattr(error, "errors", None))
        answer.headers.update(error.headers or {})  # such as `Allow`, which a 405 must carry
        return answer

    @api.exception_handler(PyMongoError)
    async def store_unavailable(_request: Request, error: PyMongoError) -> JSONResponse:
        log.warning("MongoDB did not serve a request", error=type(error).__name__)
        return problem_response(
            503, "MongoDB is out of reach; try again, an order with the same Idempotency-Key."
        )

    @api.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        # This answer passes no middleware.
        headers = answer_headers(request.scope.get("state", {}))
        log.error(
            "request failed",
            request_id=headers["X-Request-Id"],
            method=request.method,
            path=request.url.path,
            exc_info=error,
        )
        answer = problem_response(500, "The server failed; whether the request took effect is not known.")
        answer.headers.update(headers)
        return answer


class BodyLimit:
    """Refuses request bodies over a limit with 413, whether or not they state their length.

    FastAPI's own `max_body_size` answers in plain text where the length is stated.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        body: list[Message] = []
        size = int(stated) if stated.isdigit() else 0
        received = 0
        while size <= self.limit_bytes and received <= self.limit_bytes:
            message = await receive()
            body.append(message)
            received += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if max(size, received) > self.limit_bytes:
            answer = problem_response(413, f"The body is larger than {self.limit_bytes:,} bytes.")
            await answer(scope, receive, send)
            return
        messages = iter(body)

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self.app(scope, replay, send)
