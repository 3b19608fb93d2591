"""Is MongoDB well, as the apps' own drivers see it: no exporter runs beside it."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from boards.panels import Board, Limits, Query, graph, number, row
from boards.queries import APP, per_second, quantile


def build() -> Dashboard:
    """The dashboard."""
    command = "orderflow_mongodb_command_duration_seconds"
    board = Board(
        "mongodb", "MongoDB", "MongoDB as the apps' drivers see it: commands, connections, servers."
    )
    return board.variable("app", "App", "label_values(orderflow_mongodb_servers, app)").rows(
        row(
            "Now",
            number(
                "Commands per second",
                "Commands of all apps that are chosen.",
                "ops",
                f"sum(rate({command}_count{{{APP}}}[$__rate_interval]))",
            ),
            number(
                "Command time, p95",
                "From sending a command until its answer.",
                "s",
                quantile(0.95, command, selector=APP),
                Limits(0.2, 1),
            ),
            number(
                "Connections in use",
                "Connections on which a command is under way.",
                "short",
                f'sum(orderflow_mongodb_connections{{{APP}, state="in_use"}})',
            ),
            number(
                "Connections idle",
                "Connections that wait in the drivers' pools.",
                "short",
                f'sum(orderflow_mongodb_connections{{{APP}, state="idle"}})',
            ),
            number(
                "Apps without a primary",
                "Apps whose driver knows no primary: they cannot write.",
                "short",
                f'count(max by (app) (orderflow_mongodb_servers{{{APP}, state="primary"}}) < 1) or vector(0)',
                Limits(1, 1),
                runbook="waiting-for-dependency",
            ),
            number(
                "Servers unknown",
                "Servers that some driver cannot reach.",
                "short",
                f'max(orderflow_mongodb_servers{{{APP}, state="unknown"}})',
                Limits(1, 2),
                runbook="waiting-for-dependency",
            ),
        ),
        row(
            "Commands",
            graph(
                "Commands per second, by kind",
                "Each command of the driver by its name.",
                "ops",
                Query(per_second(f"{command}_count", "command", APP), "{{command}}"),
                width=12,
            ),
            graph(
                "Command time by kind, p95",
                "Each command by its name, from sending it until its answer.",
                "s",
                Query(quantile(0.95, command, "command", APP), "{{command}}"),
                limits=Limits(0.2, 1),
                width=12,
            ),
            graph(
                "Commands per second by app",
                "Which app asks so much.",
                "ops",
                Query(per_second(f"{command}_count", "app", APP), "{{app}}"),
                width=12,
            ),
            graph(
                "Command time by app, p95",
                "One app alone that is slow has a query that lacks an index, or writes that collide.",
                "s",
                Query(quantile(0.95, command, "app", APP), "{{app}}"),
                limits=Limits(0.2, 1),
                width=12,
            ),
        ),
        row(
            "Connections and servers",
            graph(
                "Connections by app",
                "Connections in the drivers' pools, in use or idle.",
                "short",
                Query(f"sum by (app, state) (orderflow_mongodb_connections{{{APP}}})", "{{app}} {{state}}"),
                width=12,
            ),
            graph(
                "Servers by state",
                "Servers of the replica set, as the driver that sees most of them in a state sees them.",
                "short",
                Query(f"max by (state) (orderflow_mongodb_servers{{{APP}}})", "{{state}}"),
                width=12,
                runbook="waiting-for-dependency",
            ),
        ),
    )
