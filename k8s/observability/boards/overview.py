"""Is the shop served: the way of orders from placing to telling the customer."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from boards.panels import Board, Limits, Query, funnel, graph, number, row
from boards.queries import (
    NO_RETRY_QUEUES,
    QUEUE_DEPTH,
    RETRY_QUEUES,
    STAGE_P95,
    per_minute,
    quantile,
)

SLOW_SECONDS = Limits(10, 60)
FEW = Limits(1, 10)


def rate(status: str) -> str:
    """Orders per second that reach a status."""
    return f'sum(rate(orderflow_orders_total{{status="{status}"}}[$__rate_interval]))'


def reached(status: str) -> str:
    """Orders that reached a status in the time that is shown."""
    return f'sum(increase(orderflow_orders_total{{status="{status}"}}[$__range]))'


def build() -> Dashboard:
    """The dashboard."""
    latency, notified = "orderflow_stage_latency_seconds", 'stage="notified"'
    return Board(
        "overview", "Overview", "Orders from placing to telling the customer, and what is behind."
    ).rows(
        row(
            "Now",
            number(
                "Orders per minute",
                "Orders that were placed, over HTTP, from files or over RabbitMQ.",
                "short",
                f"{rate('created')} * 60",
                runbook="no-orders",
            ),
            number(
                "Placed to notified, p95",
                "Of 20 orders, 19 customers were told within this time; over the last 5 minutes.",
                "s",
                f"{STAGE_P95}{{{notified}}}",
                SLOW_SECONDS,
                runbook="slow-orders",
            ),
            number(
                "Messages waiting",
                "In all queues but those of the retry levels, with those that workers have in hand.",
                "short",
                f"sum({QUEUE_DEPTH}{{{NO_RETRY_QUEUES}}})",
                Limits(200, 500),
                runbook="backlog-growing",
            ),
            number(
                "Oldest unpublished order",
                "For how long RabbitMQ has not confirmed the oldest accepted order.",
                "s",
                "max(orderflow_oldest_unpublished_seconds)",
                SLOW_SECONDS,
                runbook="unpublished-orders",
            ),
            number(
                "Open dead letters",
                "Messages that could not be handled and wait for an operator.",
                "short",
                "max(orderflow_open_dead_letters)",
                FEW,
                runbook="dead-letters",
            ),
            number(
                "Stuck orders",
                "Orders that await something and have had no news for 15 minutes.",
                "short",
                "max(orderflow_stuck_orders)",
                FEW,
                runbook="stuck-orders",
            ),
        ),
        row(
            "Orders",
            graph(
                "Orders per minute, by status",
                "Orders by the status that they reached, each once per status: `received` those over "
                "HTTP, `created` those from anywhere.",
                "short",
                Query(per_minute("orderflow_orders_total", "status"), "{{status}}"),
                width=12,
            ),
            graph(
                "Placed to notified, by share",
                "Time from placing an order until its customer is told.",
                "s",
                *(
                    Query(quantile(share, latency, selector=notified), f"p{share * 100:.0f}")
                    for share in (0.5, 0.95, 0.99)
                ),
                limits=SLOW_SECONDS,
                width=12,
                runbook="slow-orders",
            ),
            funnel(
                "From received to notified",
                "Orders that reached each status in the time that is shown. Those from RabbitMQ or a file "
                "begin at created; what is missing at the end is rejected, cancelled or under way.",
                Query(reached("received"), "received over HTTP"),
                *(
                    Query(reached(status), status)
                    for status in ("created", "validated", "invoiced", "notified")
                ),
            ),
            graph(
                "Rejected and cancelled",
                "Their share of the orders that were placed.",
                "percentunit",
                *(
                    Query(f"{rate(status)} / {rate('created')}", status)
                    for status in ("rejected", "cancelled")
                ),
            ),
            graph(
                "Time to each stage, p95",
                "From placing an order until it reached a stage: the widest gap between lines costs most.",
                "s",
                Query(quantile(0.95, latency, "stage"), "{{stage}}"),
                runbook="slow-orders",
            ),
        ),
        row(
            "Behind",
            graph(
                "Messages by queue",
                "What waits in each queue, with what its consumers have in hand.",
                "short",
                Query(f"{QUEUE_DEPTH}{{{NO_RETRY_QUEUES}}}", "{{queue}}"),
                runbook="backlog-growing",
            ),
            graph(
                "Set aside",
                "Messages that failed and come back after a pause, by the length of the pause, and messages "
                "whose handler waits for something that is out of reach.",
                "short",
                Query(f"{QUEUE_DEPTH}{{{RETRY_QUEUES}}}", "{{queue}}"),
                Query("sum by (dependency) (orderflow_waiting_messages)", "waits for {{dependency}}"),
                runbook="waiting-for-dependency",
            ),
            graph(
                "Stuck, dead, unpublished",
                "What waits for somebody: stuck orders, open dead letters, and the age of the oldest order "
                "that RabbitMQ does not have.",
                "short",
                Query("max(orderflow_stuck_orders)", "stuck orders"),
                Query("max(orderflow_open_dead_letters)", "open dead letters"),
                Query("max(orderflow_oldest_unpublished_seconds)", "seconds unpublished"),
            ),
        ),
        row(
            "Customers and alerts",
            graph(
                "Notifications per minute",
                "Messages to customers by channel and by what became of them.",
                "short",
                Query(
                    per_minute("orderflow_notifications_total", "channel, outcome"),
                    "{{channel}} {{outcome}}",
                ),
            ),
            graph(
                "Webhook attempts per minute",
                "Attempts at deliveries to other systems, and endpoints by state.",
                "short",
                Query(per_minute("orderflow_webhook_attempts_total", "outcome"), "{{outcome}}"),
                Query("max by (state) (orderflow_webhook_endpoints)", "endpoints {{state}}"),
                runbook="webhook-endpoint-failing",
            ),
            graph(
                "Alerts",
                "Alerts that fire, or will if nothing changes; the line is missing while none does.",
                "short",
                Query("sum by (alertname, alertstate) (ALERTS)", "{{alertname}} {{alertstate}}"),
                stacked=True,
            ),
        ),
    )
