"""PromQL as the dashboards write it; rates look at what Grafana takes for four scrapes or more."""

QUEUE_DEPTH = "queue:rabbitmq_detailed_queue_messages:sum"
QUEUE_CONSUMERS = "queue:rabbitmq_detailed_queue_consumers:sum"
STAGE_P95 = "stage:orderflow_stage_latency_seconds:p95_rate5m"
RETRY_QUEUES = 'queue=~"retry[.].+"'
NO_RETRY_QUEUES = 'queue!~"retry[.].+"'
APP = 'app=~"$app"'
"""What a dashboard with a choice of apps shows."""


def per_second(metric: str, by: str, selector: str = "") -> str:
    """How fast counters grow, by the labels that are named."""
    of = f"{metric}{{{selector}}}" if selector else metric
    return f"sum by ({by}) (rate({of}[$__rate_interval]))"


def per_minute(metric: str, by: str, selector: str = "") -> str:
    """The same per minute, for what is too rare for seconds."""
    return f"{per_second(metric, by, selector)} * 60"


def quantile(share: float, histogram: str, by: str = "", selector: str = "") -> str:
    """The value that so large a share of observations stays below, by the labels that are named."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {per_second(f'{histogram}_bucket', labels, selector)})"


def mean(histogram: str, by: str, selector: str = "") -> str:
    """The mean of what was observed."""
    return (
        f"{per_second(f'{histogram}_sum', by, selector)} / {per_second(f'{histogram}_count', by, selector)}"
    )
