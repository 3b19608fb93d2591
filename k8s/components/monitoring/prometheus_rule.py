"""Writes prometheus-rule.yaml: the alerts that promtool tests, as the Prometheus Operator takes them."""

from pathlib import Path
from textwrap import indent

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "observability" / "rules" / "orderflow.yaml"
WRITTEN = HERE / "prometheus-rule.yaml"
HEAD = """\
# Written by prometheus_rule.py from k8s/observability/rules/orderflow.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: orderflow
  namespace: orderflow
spec:
"""


def prometheus_rule() -> str:
    """The content of prometheus-rule.yaml."""
    return HEAD + indent(RULES.read_text(), "  ")


if __name__ == "__main__":
    WRITTEN.write_text(prometheus_rule())
