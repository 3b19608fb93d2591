"""Dashboards are what the code draws, can be read, and ask what Prometheus understands."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.conftest import Need

OBSERVABILITY = Path(__file__).parents[2] / "k8s" / "observability"
RUNBOOKS = OBSERVABILITY.parents[1] / "docs" / "runbooks"
FILES = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
COLUMNS = 24

each_dashboard = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something; rows are headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def collisions(panels: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of panels that cover the same place."""
    places: dict[tuple[int, int], str] = {}
    found = []
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if other := places.get((x, y)):
                    found.append((other, panel["title"]))
                places[x, y] = panel["title"]
    return found


def test_committed_dashboards_are_the_generated(tmp_path: Path) -> None:
    """Nobody has changed a dashboard by hand, or its code without writing it anew."""
    program = OBSERVABILITY / "dashboards.py"
    subprocess.run([sys.executable, str(program), str(tmp_path)], check=True)  # noqa: S603

    generated = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert generated == {file.name: file.read_text() for file in FILES}


@each_dashboard
def test_panel_explains_itself(file: Path) -> None:
    """A panel has a title of its own, a sentence on what it shows, a unit, and a name for each series."""
    panels = panels_of(load(file))
    for panel in panels:
        assert re.fullmatch(r"[A-Z].*[.]", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"]), panel["title"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)


@each_dashboard
def test_panels_do_not_overlap(file: Path) -> None:
    """Every panel has its place, within the width, and each row of them is full."""
    panels = load(file)["panels"]

    assert collisions(panels) == []
    widths: Counter[int] = Counter()
    for panel in panels:
        widths[panel["gridPos"]["y"]] += panel["gridPos"]["w"]
    assert set(widths.values()) == {COLUMNS}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_overlap_is_seen() -> None:
    """The check above sees two panels that share one column."""
    left = {"title": "left", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 2}}
    right = {"title": "right", "gridPos": {"x": 7, "y": 1, "w": 8, "h": 2}}

    assert collisions([left, right]) == [("left", "right")]


@each_dashboard
def test_any_prometheus_can_be_chosen(file: Path) -> None:
    """Panels and variables ask the data source that the reader has chosen, and none by its own name."""
    dashboard = load(file)
    chosen = {"type": "prometheus", "uid": "${datasource}"}

    asked = [panel["datasource"] for panel in panels_of(dashboard)]
    asked += [target["datasource"] for panel in panels_of(dashboard) for target in panel["targets"]]
    asked += [one["datasource"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert all(source == chosen for source in asked)
    assert dashboard["templating"]["list"][0]["type"] == "datasource"


@each_dashboard
def test_links_lead_to_runbooks_that_exist(file: Path) -> None:
    """A panel that shows something ill leads to what to do, and each dashboard to the others."""
    dashboard = load(file)
    links = [link["url"] for panel in panels_of(dashboard) for link in panel.get("links", ())]

    assert links
    for link in links:
        assert (RUNBOOKS / link.removeprefix("${runbooks}/")).is_file(), link
    (at,) = [one["query"] for one in dashboard["templating"]["list"] if one["name"] == "runbooks"]
    assert at == "https://github.com/orderflow/orderflow/blob/main/docs/runbooks"
    assert [link["tags"] for link in dashboard["links"] if link["type"] == "dashboards"] == [["orderflow"]]
    assert "orderflow" in dashboard["tags"]


def test_dashboards_have_names_of_their_own() -> None:
    """Links and bookmarks go by the uid, and Grafana replaces one dashboard by another of the same."""
    assert {load(file)["uid"] for file in FILES} == {f"orderflow-{file.stem}" for file in FILES}


def test_queries_are_understood_by_prometheus(need: Need, tmp_path: Path) -> None:
    """Every query is valid PromQL; that it finds something is tested on a real run."""
    expressions = {
        concrete(target["expr"])
        for file in FILES
        for panel in panels_of(load(file))
        for target in panel["targets"]
    }
    rules = [{"record": f"query_{number}", "expr": expr} for number, expr in enumerate(sorted(expressions))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))

    check = [need("promtool", "apt-get install prometheus"), "check", "rules", str(file)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stdout + checked.stderr


def concrete(expr: str) -> str:
    """The query as Grafana would send it, for all apps and the last five minutes."""
    for variable, value in {"$__rate_interval": "1m", "$__range": "5m", "$app": ".+"}.items():
        expr = expr.replace(variable, value)
    return expr


def test_grafana_is_provisioned_with_what_is_here() -> None:
    """Grafana finds a Prometheus as its default, and dashboards that nobody edits in the browser."""
    provisioning = OBSERVABILITY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "orderflow.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "orderflow.yaml").read_text())["providers"]

    assert [one["type"] for one in sources if one.get("isDefault")] == ["prometheus"]
    assert len({one["uid"] for one in sources}) == len(sources)
    assert provider["allowUiUpdates"] is False
    assert provider["type"] == "file"
