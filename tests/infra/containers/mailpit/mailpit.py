#!/opt/mailpit/bin/python
"""Keeps every mail in memory and lists them as Mailpit does; `/mailpit readyz` asks whether it runs."""

import json
import sys
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

from aiosmtpd.controller import Controller

EVERYWHERE = "0.0.0.0"  # noqa: S104  # of its container

mails: list[dict[str, Any]] = []


class Inbox:
    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        to = [{"Name": "", "Address": address} for address in envelope.rcpt_tos]
        mails.append({"ID": str(len(mails)), "To": to, "Subject": mail["Subject"]})
        return "250 OK"


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path in {"/readyz", "/api/v1/messages"}
        self.send_response(200 if found else 404)
        self.end_headers()
        if self.path == "/api/v1/messages":
            self.wfile.write(json.dumps({"total": len(mails), "messages": mails[::-1]}).encode())


if sys.argv[1:] == ["readyz"]:
    urlopen("http://127.0.0.1:8025/readyz", timeout=2)
else:
    Controller(Inbox(), hostname=EVERYWHERE, port=1025).start()
    ThreadingHTTPServer((EVERYWHERE, 8025), Api).serve_forever()
