"""The vocabulary of metrics: each one of ours is defined here, labels and buckets included, and nowhere else.

They belong to the process, as the process belongs to one app: whoever has something to count imports the
metric, and no adapter needs one handed in. Labels take values that the code knows, never a message's or a
client's own words, so that nobody outside can make new series.
"""

import platform
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# They would be a third of all series, and `process_start_time_seconds` says the same.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no type for it

REGISTRY = CollectorRegistry()
"""What this process shows at `/metrics`; FastStream adds its own to it."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

BUILD_INFO = Gauge(
    "orderflow_build_info",
    "1, with the version of Orderflow and of Python.",
    ["version", "python"],
    registry=REGISTRY,
)
BUILD_INFO.labels(version("orderflow"), platform.python_version()).set(1)

# Orders

ORDERS = Counter(
    "orderflow_orders",
    "Orders that reached a status, each once: received counts those over HTTP, created those from anywhere.",
    ["status"],
    registry=REGISTRY,
)
STAGE_LATENCY = Histogram(
    "orderflow_stage_latency_seconds",
    "Time from placing an order until it reached a stage, once per order; from 0 to a day.",
    ["stage"],
    registry=REGISTRY,
    # From an idle system, by the retry levels of 2, 15, 60 and 600 s, to an order that somebody had to mend.
    buckets=(
        *(0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10),
        *(15, 20, 30, 60, 120, 300, 600, 1200, 3600),
    ),
)
STUCK_ORDERS = Gauge(
    "orderflow_stuck_orders",
    "Orders that await something without news for long, counted up to 10,000.",
    registry=None,  # of the ingress, which reads it at each scrape; elsewhere a 0 would be a lie
)
OLDEST_UNPUBLISHED = Gauge(
    "orderflow_oldest_unpublished_seconds",
    "For how long RabbitMQ has not confirmed the oldest accepted order; 0 if it has confirmed all.",
    registry=None,  # likewise
)

# Messages

RETRIES = Counter(
    "orderflow_retries",
    "Messages set aside to be tried again: error, or waited-too-long for something out of reach.",
    ["queue", "reason"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "orderflow_dead_letters",
    "Messages given up: undecodable, contract, permanent or exhausted by the worker of that queue; "
    "crash-loop, unrouted or unknown as recovery found them.",
    ["queue", "reason"],
    registry=REGISTRY,
)
OPEN_DEAD_LETTERS = Gauge(
    "orderflow_open_dead_letters",
    "Dead letters that wait for an operator, counted up to 10,000.",
    registry=None,  # of the ingress, as above
)
WAITING_MESSAGES = Gauge(
    "orderflow_waiting_messages",
    "Messages whose handlers wait for something that is out of reach.",
    ["dependency"],
    registry=REGISTRY,
)

# What customers are told, and their systems

NOTIFICATIONS = Counter(
    "orderflow_notifications",
    "Messages to customers by channel (email, sms, none) and by what came of them (sent, failed, skipped).",
    ["channel", "outcome"],
    registry=REGISTRY,
)
WEBHOOK_ATTEMPTS = Counter(
    "orderflow_webhook_attempts",
    "Attempts at webhook deliveries: delivered or failed.",
    ["outcome"],
    registry=REGISTRY,
)
WEBHOOK_ENDPOINTS = Gauge(
    "orderflow_webhook_endpoints",
    "Webhook endpoints by state: enabled, failing (and still tried), disabled.",
    ["state"],
    registry=None,  # of the ingress, as above
)

# HTTP

HTTP_REQUEST_DURATION = Histogram(
    "orderflow_http_request_duration_seconds",
    "Time from the request's head to the end of its answer; of an event stream, to its beginning.",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)

# MongoDB

GROUP_SIZE = Histogram(
    "orderflow_group_size",
    "Items that were committed together.",
    ["store"],
    registry=REGISTRY,
    buckets=(1, 2, 5, 10, 20, 50, 100),
)
GROUP_COMMIT_DURATION = Histogram(
    "orderflow_group_commit_seconds",
    "Time that one commit of a group took, failed ones included.",
    ["store"],
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20),
)
MONGODB_COMMAND_DURATION = Histogram(
    "orderflow_mongodb_command_duration_seconds",
    "Time from sending a command to MongoDB until its answer, failed ones included.",
    ["command"],
    registry=REGISTRY,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20),
)
MONGODB_CONNECTIONS = Gauge(
    "orderflow_mongodb_connections",
    "Connections of the driver's pools: in_use or idle.",
    ["state"],
    registry=REGISTRY,
)
MONGODB_SERVERS = Gauge(
    "orderflow_mongodb_servers",
    "Servers of the replica set as the driver sees them: primary, secondary, other, unknown.",
    ["state"],
    registry=REGISTRY,
)
