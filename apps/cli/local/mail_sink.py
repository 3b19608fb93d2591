"""A mail server for one machine: takes every mail, keeps it as an `.eml` file, delivers none."""

import argparse
import asyncio
import re
import signal
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from apps.cli.local.ports import LOOPBACK

LARGEST_MAIL_BYTES = 32 * 1024 * 1024


class MailFolder:
    """aiosmtpd's handler: a mail is acknowledged once its file is complete."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_DATA(  # noqa: N802 - aiosmtpd finds it by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep one mail; what is printed names no person."""
        content = envelope.original_content or b""
        name = file_name(content, datetime.now(UTC))
        part = self._directory / f"{name}.part"
        part.write_bytes(content)
        part.rename(self._directory / name)  # whoever lists the folder never sees half a mail
        print(f"mail kept: {len(content)} bytes", flush=True)  # noqa: T201 - the log of this program
        return "250 Message accepted for delivery"


def file_name(content: bytes, now: datetime) -> str:
    """Sorts by arrival and says which message it is, in characters that every file system takes."""
    message_id = BytesHeaderParser().parsebytes(content).get("Message-ID", "")
    safe_id = re.sub(r"[^A-Za-z0-9.@-]+", "_", str(message_id).strip(" <>"))[:100].strip("._")
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{safe_id or 'without-id'}.eml"


async def serve(port: int, directory: Path) -> None:
    """Take mails until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    folder = MailFolder(directory)
    server = await loop.create_server(
        lambda: SMTP(folder, data_size_limit=LARGEST_MAIL_BYTES, enable_SMTPUTF8=True, loop=loop),
        LOOPBACK,
        port,
    )
    async with server:
        print(f"keeping mails in {directory}", flush=True)  # noqa: T201
        await stopping.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(arguments.port, arguments.directory))


if __name__ == "__main__":
    main()
