"""How Orderflow draws: every panel has a unit, a sentence, and a colour that means the same everywhere."""

from collections.abc import Sequence
from itertools import count
from typing import Literal, NamedTuple, Self

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS = "https://github.com/orderflow/orderflow/blob/main/docs/runbooks"
"""Where they are read unless the variable of that name says otherwise."""
TAG = "orderflow"

Panel = stat.Panel | timeseries.Panel | bargauge.Panel


class Query(NamedTuple):
    """What is asked, and what its series are called."""

    expr: str
    legend: str


class Row(NamedTuple):
    """Panels under a heading, side by side from the left."""

    title: str
    panels: Sequence[Panel]


def row(title: str, *panels: Panel) -> Row:
    """Panels under a heading."""
    return Row(title, panels)


class Limits(NamedTuple):
    """From which value on something deserves a look, and from which it is bad."""

    warning: float
    bad: float

    def build(self) -> dashboard.ThresholdsConfig:
        """Green below, orange between, red above."""
        steps = [
            model.Threshold(value=None, color="green"),
            model.Threshold(value=self.warning, color="orange"),
            model.Threshold(value=self.bad, color="red"),
        ]
        return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


class Board:
    """A dashboard whose panels are numbered and placed in the order in which they are given."""

    def __init__(self, name: str, title: str, description: str) -> None:
        self._numbers = count(1)
        self._dashboard = (
            dashboard.Dashboard(f"Orderflow / {title}")
            .uid(f"orderflow-{name}")
            .description(description)
            .tags([TAG])
            .readonly()
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .link(
                dashboard.DashboardLink("Dashboards")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .keep_time(keep_time=True)
            )
            .link(
                dashboard.DashboardLink("Runbooks")
                .type(model.DashboardLinkType.LINK)
                .icon("doc")
                .url("${runbooks}")
                .target_blank(target_blank=True)
            )
            .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        )

    def variable(self, name: str, label: str, query: str) -> Self:
        """A choice of one or several values of a label, all of them at first."""
        everything = model.VariableOption(selected=True, text="All", value="$__all")
        self._dashboard.with_variable(
            dashboard.QueryVariable(name)
            .label(label)
            .query(query)
            .datasource(DATASOURCE)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".+")
            .current(everything)
        )
        return self

    def rows(self, *rows: Row) -> model.Dashboard:
        """The finished dashboard."""
        self._dashboard.with_variable(
            dashboard.TextBoxVariable("runbooks").label("Runbooks at").default_value(RUNBOOKS)
        )
        for title, panels in rows:
            self._dashboard.with_row(dashboard.Row(title).id(next(self._numbers)))
            for panel in panels:
                self._dashboard.with_panel(panel.id(next(self._numbers)))
        return self._dashboard.build()


def number(
    title: str, description: str, unit: str, query: str, limits: Limits | None = None, runbook: str = ""
) -> stat.Panel:
    """One figure as it is now, with its course behind it; a sixth of the width."""
    panel = (
        stat.Panel()
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(Query(query, title)))
        .no_value("–")  # noqa: RUF001  # a dash, as people read it
    )
    _common(panel, title, description, unit, runbook)
    panel.span(4).height(5)
    if limits:
        panel.thresholds(limits.build())
        panel.color_mode(common_model.BigValueColorMode.VALUE)
    else:
        panel.color_mode(common_model.BigValueColorMode.NONE)
    return panel


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    width: Literal[8, 12, 24] = 8,
    stacked: bool = False,
    runbook: str = "",
) -> timeseries.Panel:
    """Courses over time, the largest first in the legend."""
    panel = timeseries.Panel()
    for ref_id, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(_target(query).ref_id(ref_id))
    _common(panel, title, description, unit, runbook)
    panel.span(width).height(8).min(0).line_width(1).fill_opacity(30 if stacked else 8)
    panel.show_points(common_model.VisibilityMode.NEVER)
    panel.tooltip(
        common.VizTooltipOptions()
        .mode(common_model.TooltipDisplayMode.MULTI)
        .sort(common_model.SortOrder.DESCENDING)
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.TABLE)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
        .sort_by("Last *")
        .sort_desc(sort_desc=True)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    if limits:
        panel.thresholds(limits.build())
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def funnel(title: str, description: str, *queries: Query) -> bargauge.Panel:
    """Steps one below the other, each as long as its count over the time that is shown."""
    panel = (
        bargauge.Panel()
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for ref_id, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(_target(query).ref_id(ref_id).instant())
    _common(panel, title, description, "short", "")
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color("blue"))
    panel.span(8).height(8).min(0).decimals(0)
    return panel


def _target(query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .expr(query.expr)
        .legend_format(query.legend)
        .range()
    )


def _common(panel: Panel, title: str, description: str, unit: str, runbook: str) -> None:
    panel.title(title).description(description).unit(unit).datasource(DATASOURCE)
    if runbook:
        link = dashboard.DashboardLink("Runbook").type(model.DashboardLinkType.LINK)
        panel.links([link.url(f"${{runbooks}}/{runbook}.md").target_blank(target_blank=True)])
