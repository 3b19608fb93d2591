"""Reads the orders of a file; prints how many there are and by how many kilobytes memory grew at its peak."""

import re
import sys
from datetime import UTC
from pathlib import Path

from apps.cli.csv_format import FormatHints, find_format
from apps.cli.order_csv import OrderTerms, read_orders


def peak_kilobytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1])


path = Path(sys.argv[1])
before = peak_kilobytes()
count = sum(1 for _ in read_orders(path, find_format(path, FormatHints()), OrderTerms("shop", "GBP", UTC)))
sys.stdout.write(f"{count} {peak_kilobytes() - before}\n")
