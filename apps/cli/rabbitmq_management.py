"""RabbitMQ's management HTTP API as commands see it: JSON in and out, and its refusals as one line."""

from typing import Any
from urllib.parse import quote

import httpx
from yarl import URL

from apps.cli.errors import UsageError
from apps.kit.errors import DependencyUnavailable

_DEFAULT_PORTS = {"amqp": ("http", 15672), "amqps": ("https", 15671)}


class ManagementApi:
    """Calls the API as an administrator; a path is given by its parts, which may hold any character."""

    def __init__(self, rabbitmq_url: str, management_url: str | None = None) -> None:
        """Prepare without calling anything.

        Args:
            rabbitmq_url: the broker's; names the virtual host, and the login unless `management_url` does.
            management_url: of the API; the usual port on the broker's host if not given.

        Raises:
            UsageError: one of them is not the URL of what it should be.
        """
        self.rabbitmq_url = _url(rabbitmq_url, "ORDERFLOW_RABBITMQ_URL", *_DEFAULT_PORTS)
        if management_url is None:
            scheme, port = _DEFAULT_PORTS[self.rabbitmq_url.scheme]
            url = URL.build(scheme=scheme, host=self.rabbitmq_url.host or "", port=port)
        else:
            url = _url(management_url, "--management-url", "http", "https")
        self.vhost = self.rabbitmq_url.path.removeprefix("/") or "/"
        login = url if url.user else self.rabbitmq_url
        self._url = str(url.with_user(None)).rstrip("/")
        self._http = httpx.Client(auth=(login.user or "guest", login.password or "guest"), timeout=10)

    def get(self, *path: str) -> Any:
        """The JSON at a path, None if nothing is there.

        Raises:
            UsageError: RabbitMQ refuses, with its reason.
            DependencyUnavailable: it does not answer.
        """
        answer = self._answer("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        try:
            return answer.json()
        except ValueError:
            raise self._is_something_else() from None

    def put(self, body: Any, *path: str) -> None:
        """Put JSON at a path; raises as `get` does."""
        self._require(self._answer("PUT", path, body))

    def post(self, body: Any, *path: str) -> None:
        """Post JSON to a path; raises as `get` does."""
        self._require(self._answer("POST", path, body))

    def delete(self, *path: str) -> None:
        """Delete what is at a path, if anything is; raises as `get` does."""
        self._answer("DELETE", path)

    def _answer(self, method: str, path: tuple[str, ...], body: Any = None) -> httpx.Response:
        url = "/".join((self._url, "api", *(quote(part, safe="") for part in path)))
        try:
            answer = self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise DependencyUnavailable(
                f"no answer from RabbitMQ's management API at {self._url} ({type(error).__name__}):"
                " --management-url says where it is"
            ) from error
        if answer.is_success:
            return answer
        reason = _reason(answer)
        if answer.is_server_error:
            raise DependencyUnavailable(f"{self._url} answers {answer.status_code}: {reason or 'no reason'}")
        if reason is None:
            raise self._is_something_else()
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise UsageError(f"{self._url} refuses the login, it must be an administrator's: {reason}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            raise UsageError(f"{self._url}: {reason}")
        return answer

    def _is_something_else(self) -> UsageError:
        return UsageError(f"{self._url}: what answers there is not RabbitMQ's management API")

    def _require(self, answer: httpx.Response) -> None:
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise UsageError(f"{self._url}: there is no {answer.request.url.path}")


def _url(text: str, name: str, *schemes: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in schemes or not url.host:
        raise UsageError(f"{name}: must be the URL of a host, by {' or '.join(schemes)}")
    return url


def _reason(answer: httpx.Response) -> str | None:
    """What RabbitMQ gives as the reason of a refusal; none if somebody else answers."""
    try:
        return str(answer.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return None
