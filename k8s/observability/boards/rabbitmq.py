"""Is RabbitMQ well: queues, rates, and what its nodes have left."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from boards.panels import Board, Limits, Query, graph, number, row
from boards.queries import NO_RETRY_QUEUES, QUEUE_CONSUMERS, QUEUE_DEPTH, RETRY_QUEUES


def build() -> Dashboard:
    """The dashboard."""
    count = "rabbitmq_global_messages"
    return Board("rabbitmq", "RabbitMQ", "Queues, rates, and what the nodes have left.").rows(
        row(
            "Now",
            number(
                "Alarms",
                "Memory or disk alarms. While there is one, RabbitMQ takes no message from any publisher.",
                "short",
                "sum(rabbitmq_alarms_memory_used_watermark) + sum(rabbitmq_alarms_free_disk_space_watermark)",
                Limits(1, 1),
                runbook="rabbitmq-alarm",
            ),
            number(
                "Memory",
                "Of the node that is nearest to its limit, the share of the limit that is in use.",
                "percentunit",
                "max(rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)",
                Limits(0.7, 0.9),
                runbook="rabbitmq-alarm",
            ),
            number(
                "Disk left",
                "Of the node that has least, how many times the limit at which it raises an alarm is free.",
                "short",
                "min(rabbitmq_disk_space_available_bytes / rabbitmq_disk_space_available_limit_bytes)",
                runbook="rabbitmq-alarm",
            ),
            number(
                "Connections",
                "Open connections, ours and those of others.",
                "short",
                "sum(rabbitmq_connections)",
            ),
            number("Consumers", "Consumers of all queues.", "short", "sum(rabbitmq_consumers)"),
            number("Queues", "Queues on all nodes.", "short", "sum(rabbitmq_queues)"),
        ),
        row(
            "Queues",
            graph(
                "Ready",
                "Messages that no consumer has yet.",
                "short",
                Query("sum by (queue) (rabbitmq_detailed_queue_messages_ready)", "{{queue}}"),
                width=12,
                runbook="backlog-growing",
            ),
            graph(
                "In hand",
                "Messages that a consumer has and has not acknowledged.",
                "short",
                Query("sum by (queue) (rabbitmq_detailed_queue_messages_unacked)", "{{queue}}"),
                width=12,
            ),
            graph(
                "Consumers by queue",
                "A queue of an app with none stands still. Retry queues need none: time empties them.",
                "short",
                Query(f"{QUEUE_CONSUMERS}{{{NO_RETRY_QUEUES}}}", "{{queue}}"),
                width=12,
                runbook="no-consumer",
            ),
            graph(
                "Retry queues",
                "Messages that failed and wait for their next attempt, by the length of the pause.",
                "short",
                Query(f"{QUEUE_DEPTH}{{{RETRY_QUEUES}}}", "{{queue}}"),
                width=12,
                runbook="handler-failures",
            ),
        ),
        row(
            "Rates",
            graph(
                "In and out per second",
                "Messages that were published, delivered and acknowledged, on all nodes.",
                "ops",
                Query(f"sum(rate({count}_received_total[$__rate_interval]))", "published"),
                Query(f"sum(rate({count}_delivered_total[$__rate_interval]))", "delivered"),
                Query(f"sum(rate({count}_acknowledged_total[$__rate_interval]))", "acknowledged"),
            ),
            graph(
                "Trouble per second",
                "Messages that were delivered again, and those that no queue took and no exchange caught.",
                "ops",
                Query(f"sum(rate({count}_redelivered_total[$__rate_interval]))", "delivered again"),
                Query(f"sum(rate({count}_unroutable_returned_total[$__rate_interval]))", "returned"),
                Query(f"sum(rate({count}_unroutable_dropped_total[$__rate_interval]))", "dropped"),
            ),
            graph(
                "Connections opened per minute",
                "Orderflow keeps its connections for as long as it lives: many new ones mean that something "
                "cannot stay connected.",
                "short",
                Query("sum(rate(rabbitmq_connections_opened_total[$__rate_interval])) * 60", "opened"),
                Query("sum(rate(rabbitmq_connections_closed_total[$__rate_interval])) * 60", "closed"),
            ),
        ),
        row(
            "Nodes",
            graph(
                "Memory by node",
                "Resident memory, and the limit at which publishers are stopped.",
                "bytes",
                Query("rabbitmq_process_resident_memory_bytes", "{{instance}}"),
                Query("rabbitmq_resident_memory_limit_bytes", "{{instance}} limit"),
                runbook="rabbitmq-alarm",
            ),
            graph(
                "Disk by node",
                "Free space, and the limit below which publishers are stopped.",
                "bytes",
                Query("rabbitmq_disk_space_available_bytes", "{{instance}}"),
                Query("rabbitmq_disk_space_available_limit_bytes", "{{instance}} limit"),
                runbook="rabbitmq-alarm",
            ),
            graph(
                "Processes by node",
                "Erlang processes: they grow with connections, channels and queues.",
                "short",
                Query("erlang_vm_process_count", "{{instance}}"),
            ),
        ),
    )
