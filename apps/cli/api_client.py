"""The ingress as commands see it: JSON in and out, and its problems as one line."""

import os
from typing import Any
from urllib.parse import quote

import httpx

from apps.cli.errors import UsageError
from apps.kit.errors import DependencyUnavailable

DEFAULT_API_URL = "http://127.0.0.1:8000"


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def path_of(collection: str, *parts: str) -> str:
    """The path of something in a collection; what an id holds, such as `?` or `/`, is sent as text."""
    return "/".join([collection, *(quote(part, safe="") for part in parts)])


class ApiClient:
    """Calls the API at ORDERFLOW_API_URL, with the key in ORDERFLOW_API_KEY."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or os.environ.get("ORDERFLOW_API_URL", DEFAULT_API_URL)
        key = os.environ.get("ORDERFLOW_API_KEY")
        self._http = httpx.Client(base_url=self.url, headers=bearer(key) if key else {}, timeout=10)

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at a path; parameters that are None are left out.

        Raises:
            UsageError: the API refuses, with its reason.
            DependencyUnavailable: it does not answer.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._json("GET", path, params=given)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """Post JSON, and return the answer's; raises as `get` does."""
        return self._json("POST", path, json=body, headers=headers)

    def patch(self, path: str, body: Any) -> Any:
        """Change what is at a path, and return it as it is then; raises as `get` does."""
        return self._json("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """Delete what is at a path; raises as `get` does."""
        self._answer("DELETE", path)

    def download(self, path: str) -> bytes:
        """The bytes at a path; raises as `get` does."""
        return self._answer("GET", path).content

    def _json(self, method: str, path: str, **request: Any) -> Any:
        return self._answer(method, path, **request).json()

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise DependencyUnavailable(
                f"no answer from {self.url}: is `orderflow up` running? ({type(error).__name__})"
            ) from error
        if answer.is_server_error:
            raise DependencyUnavailable(f"{self.url} answers {answer.status_code}: {_detail(answer)}")
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise UsageError(f"ORDERFLOW_API_KEY: {_detail(answer).removeprefix('Authorization: ')}")
        if not answer.is_success:
            raise UsageError(_detail(answer))
        return answer


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text or f"{answer.url} answers {answer.status_code}"
