"""The demo's own receiver of webhooks: a customer's system that believes only what is signed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

from apps.cli.local.ports import LOOPBACK


class Receiver:
    """Takes what the verifier of Standard Webhooks passes, and refuses the rest with 400."""

    def __init__(self) -> None:
        self.url = ""
        self.verified: set[str] = set()
        """Ids of the webhooks that came with a valid signature."""
        self._verifier: Webhook | None = None

    def trust(self, secret: str) -> None:
        """Verify with this secret from now on."""
        self._verifier = Webhook(secret)

    def take(self, headers: dict[str, str], body: bytes) -> HTTPStatus:
        """What to answer to a request."""
        if self._verifier is None:
            return HTTPStatus.SERVICE_UNAVAILABLE
        try:
            self._verifier.verify(body, headers)
        except WebhookVerificationError:
            return HTTPStatus.BAD_REQUEST
        self.verified.add(headers["webhook-id"])
        return HTTPStatus.NO_CONTENT


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server wants
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.take(headers, body))
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """The demo shows the count."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        receiver.url = f"http://{LOOPBACK}:{server.server_port}/orderflow"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()
