"""The OpenAPI document says what the API really answers: problems by their media type, and where to go on."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from apps.kit.problems import MEDIA_TYPE, Problem, problem_response

_JSON = "application/json"
_FIRST_ERROR = 400
_ANSWERS = {
    "security": {
        "401": "No valid key or token came with the request.",
        "403": "The caller lacks the scope that is named.",
        "429": "Too many requests; `Retry-After` tells when to go on.",
        "503": "MongoDB is out of reach, or RabbitMQ where it is needed; try again.",
    },
    "requestBody": {"400": "The body is no JSON.", "413": "The body is larger than 1 MiB."},
}
"""What every operation that has such a thing may answer, unless its route says it in words of its own."""

_ORDER = {"order_id": "$response.body#/order_id"}
_ENDPOINT = {"endpoint_id": "$response.body#/endpoint_id"}
_LINKS = {
    ("place_order", "202"): {
        name: (name, _ORDER)
        for name in ("show_order", "cancel_order", "resend_order", "show_invoice", "show_credit_note")
    },
    ("add_endpoint", "201"): {
        name: (name, _ENDPOINT)
        for name in (
            "show_endpoint",
            "change_endpoint",
            "rotate_secret",
            "test_endpoint",
            "list_deliveries",
            "delete_endpoint",
        )
    },
    ("test_endpoint", "202"): {
        "resend_delivery": ("resend_delivery", {"delivery_id": "$response.body#/delivery_id"})
    },
}


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: it is unique, and reads well in generated clients."""
    return route.name


def complete(api: FastAPI) -> None:
    """Have the API's document tell what FastAPI does not know of, and `Allow` tell what the document does."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            for path in generate()["paths"].values():
                for operation in path.values():
                    _complete(operation)
        document: dict[str, Any] = api.openapi_schema or {}
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document

    @api.exception_handler(405)
    async def not_allowed(request: Request, error: HTTPException) -> JSONResponse:
        # FastAPI names only the methods of the first route that has the path; the document lacks its pages.
        answer = problem_response(error.status_code, f"{request.method} is not one of the methods in Allow")
        answer.headers.update(error.headers or {})
        if methods := _methods_of(request.url.path, api.openapi()["paths"]):
            answer.headers["Allow"] = ", ".join(methods)
        return answer


def _methods_of(path: str, described: Mapping[str, Any]) -> list[str]:
    """The methods of a path; one without parameters counts before those that it matches too."""
    matching = [path] if path in described else [one for one in described if compile_path(one)[0].match(path)]
    return sorted({method.upper() for one in matching for method in described[one]})


def _complete(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for part, answers in _ANSWERS.items():
        if part in operation:
            for status, description in answers.items():
                responses.setdefault(status, _problem(description))
    if "parameters" not in operation and "requestBody" not in operation:
        responses.pop("422", None)
    for status, response in responses.items():
        content = response.get("content", {})
        if int(status) >= _FIRST_ERROR and _JSON in content and "$ref" in content[_JSON]["schema"]:
            response["content"] = {MEDIA_TYPE: content[_JSON]}
        links = _LINKS.get((operation["operationId"], status), {})
        if links:
            response["links"] = {
                name: {"operationId": target, "parameters": parameters}
                for name, (target, parameters) in links.items()
            }


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
