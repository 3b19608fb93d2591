"""The dashboards, as code: `python k8s/observability/dashboards.py` writes them as JSON for Grafana."""

import json
import sys
from pathlib import Path

from boards import mongodb, overview, rabbitmq, services
from grafana_foundation_sdk.cog.encoder import JSONEncoder

DIRECTORY = Path(__file__).parent / "dashboards"
BOARDS = {"overview": overview, "services": services, "rabbitmq": rabbitmq, "mongodb": mongodb}


def main(directory: Path) -> None:
    """Write every dashboard."""
    for name, board in BOARDS.items():
        text = json.dumps(board.build(), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True)
        (directory / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY)
