"""Which app is ill: rate, errors and duration of every handler, and what its work consists of."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from boards.panels import Board, Limits, Query, graph, row
from boards.queries import APP, mean, per_minute, per_second, quantile


def build() -> Dashboard:
    """The dashboard."""
    processed = "faststream_received_processed_messages"
    http = "orderflow_http_request_duration_seconds"
    board = Board("services", "Services", "Every app: what it handles, how long that takes, and what fails.")
    return board.variable("app", "App", "label_values(orderflow_build_info, app)").rows(
        row(
            "Messages",
            graph(
                "Handled per second",
                "Messages by the queue that they were taken from, whatever became of them.",
                "ops",
                Query(per_second(f"{processed}_total", "handler", APP), "{{handler}}"),
            ),
            graph(
                "Failures per second",
                "Exceptions that left a handler, by queue and class. The message is tried again or becomes a "
                "dead letter.",
                "ops",
                Query(
                    per_second(f"{processed}_exceptions_total", "handler, exception_type", APP),
                    "{{handler}} {{exception_type}}",
                ),
                runbook="handler-failures",
            ),
            graph(
                "Handling time, p95",
                "From taking a message up to its outcome being published, waits for a dependency included.",
                "s",
                Query(quantile(0.95, f"{processed}_duration_seconds", "handler", APP), "{{handler}}"),
                limits=Limits(1, 5),
            ),
            graph(
                "In hand",
                "Messages whose handler is at work now; the prefetch bounds it.",
                "short",
                Query(f"sum by (handler) (faststream_received_messages_in_process{{{APP}}})", "{{handler}}"),
            ),
            graph(
                "Published per second",
                "Events by topic, and copies of failed messages by exchange.",
                "ops",
                Query(
                    per_second("faststream_published_messages_total", "destination", APP),
                    "{{destination}}",
                ),
            ),
            graph(
                "Publish time, p95",
                "Until RabbitMQ confirms that it has stored the message.",
                "s",
                Query(
                    quantile(0.95, "faststream_published_messages_duration_seconds", "app", APP),
                    "{{app}}",
                ),
                limits=Limits(0.5, 5),
            ),
        ),
        row(
            "What failed",
            graph(
                "Retries per minute",
                "Messages set aside to be tried again, by queue and reason; empty while all is well.",
                "short",
                Query(
                    f"{per_minute('orderflow_retries_total', 'queue, reason', APP)} > 0",
                    "{{queue}} {{reason}}",
                ),
                runbook="handler-failures",
            ),
            graph(
                "Dead letters per minute",
                "Messages given up, by queue and reason; empty while all is well.",
                "short",
                Query(
                    f"{per_minute('orderflow_dead_letters_total', 'queue, reason', APP)} > 0",
                    "{{queue}} {{reason}}",
                ),
                runbook="dead-letters",
            ),
            graph(
                "Waiting for a dependency",
                "Messages whose handler waits for something that is out of reach.",
                "short",
                Query(
                    f"sum by (app, dependency) (orderflow_waiting_messages{{{APP}}})",
                    "{{app}}: {{dependency}}",
                ),
                runbook="waiting-for-dependency",
            ),
        ),
        row(
            "HTTP",
            graph(
                "Requests per second",
                "Requests to the ingress by status.",
                "reqps",
                Query(per_second(f"{http}_count", "status", APP), "{{status}}"),
                stacked=True,
            ),
            graph(
                "Server errors",
                "Share of requests that were answered with 5xx.",
                "percentunit",
                Query(
                    f'(sum(rate({http}_count{{{APP}, status=~"5.."}}[$__rate_interval])) or vector(0))'
                    f" / sum(rate({http}_count{{{APP}}}[$__rate_interval]))",
                    "5xx",
                ),
                limits=Limits(0.01, 0.05),
                runbook="http-errors",
            ),
            graph(
                "Answer time, p95",
                "From a request's head to the end of its answer, by route.",
                "s",
                Query(quantile(0.95, http, "method, route", APP), "{{method}} {{route}}"),
                limits=Limits(0.5, 2),
            ),
        ),
        row(
            "Group commits and MongoDB",
            graph(
                "Items per commit",
                "Mean size of the groups that are stored together: 1 at low load, more when work piles up.",
                "short",
                Query(mean("orderflow_group_size", "store", APP), "{{store}}"),
            ),
            graph(
                "Commit time, p95",
                "Time that storing a group takes.",
                "s",
                Query(quantile(0.95, "orderflow_group_commit_seconds", "store", APP), "{{store}}"),
                limits=Limits(0.5, 2),
            ),
            graph(
                "MongoDB commands, p95",
                "Time from sending a command until its answer, by app.",
                "s",
                Query(quantile(0.95, "orderflow_mongodb_command_duration_seconds", "app", APP), "{{app}}"),
                limits=Limits(0.2, 1),
            ),
        ),
        row(
            "Processes",
            graph(
                "CPU",
                "Cores in use, by app; a process has use for one.",
                "short",
                Query(per_second("process_cpu_seconds_total", "app", APP), "{{app}}"),
            ),
            graph(
                "Memory",
                "Resident memory of the largest process of each app.",
                "bytes",
                Query(f"max by (app) (process_resident_memory_bytes{{{APP}}})", "{{app}}"),
            ),
            graph(
                "Processes by version",
                "How many processes of each app answer, and which version they run.",
                "short",
                Query(f"sum by (app, version) (orderflow_build_info{{{APP}}})", "{{app}} {{version}}"),
                runbook="target-down",
            ),
        ),
    )
