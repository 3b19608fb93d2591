"""`orderflow asyncapi site`: the documentation site as files, for any web server."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.errors import UsageError
from apps.cli.output import result


def site(
    output: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("site"),
) -> None:
    """Write the documentation site, drawn from the committed AsyncAPI documents.

    Its links are relative: it works under any path of any web server.

    Example: orderflow asyncapi site --output site
    """
    from apps.site.documents import DocumentsMissingError  # noqa: PLC0415  # only this command needs the site
    from apps.site.pages import build  # noqa: PLC0415  # as above

    try:
        pages = build()
    except DocumentsMissingError as error:
        raise UsageError(str(error)) from None
    for path, content in pages.items():
        file = output / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    result.print(f"{output / 'index.html'}: {len(pages)} files")
