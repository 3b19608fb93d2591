"""The API keeps what its OpenAPI document says, whatever is sent to it."""

import asyncio
import sys
from pathlib import Path

import pytest
from conftest import SETTINGS

from apps.cli.api_client import bearer
from apps.cli.local.stack import LocalStack

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 25
"""Random requests for each operation, and walks along the links, after some 1,000 that the document itself
asks for: the bounds of each field, what is missing, what is too much. A time instead of a count would have a
busy machine leave operations out."""


@pytest.mark.timeout(600)
async def test_no_request_breaks_the_api_or_its_document(tmp_path: Path) -> None:
    """No 5xx and no answer that the document does not describe, also along the links between operations."""
    async with LocalStack(tmp_path / "system", environment=SETTINGS) as stack:
        key = bearer(stack.api_key)["Authorization"]
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{stack.api_url}/openapi.json", "--seed", "1"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"),
            *("--max-examples", str(EXAMPLES), "--header", f"Authorization:{key}", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()[-20_000:]
