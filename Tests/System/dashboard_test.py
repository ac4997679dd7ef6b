# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard in docs/monitoring: it fits Grafana's schema of dashboards, and each metric and label that it asks for exists. On any
/dev/kvm."""

import copy
import json
import os
import re

import vmm
from exporter import OPENMETRICS, Exporter, ExporterTest

DASHBOARD = os.path.join(vmm.ROOT, "docs", "monitoring", "symvmm-dashboard.json")

# Grafana's schema of a classic dashboard (kinds/dashboard/dashboard_kind.cue in Grafana's sources), as far as a dashboard of Prometheus queries
# needs it: fields and their types. A field that is not listed is a fault, since Grafana ignores it without a word.
STRING, WHOLE, NUMBER, FLAG, LIST, OBJECT = str, int, (int, float), bool, list, dict
FIELDS = {
    "dashboard": {
        "__inputs": LIST, "__requires": LIST, "id": type(None), "uid": STRING, "title": STRING, "description": STRING, "tags": LIST,
        "schemaVersion": WHOLE, "version": WHOLE, "editable": FLAG, "graphTooltip": WHOLE, "timezone": STRING, "weekStart": STRING,
        "fiscalYearStartMonth": WHOLE, "liveNow": FLAG, "refresh": STRING, "time": OBJECT, "timepicker": OBJECT, "links": LIST,
        "annotations": OBJECT, "templating": OBJECT, "panels": LIST,
    },
    "row": {"id": WHOLE, "type": STRING, "title": STRING, "collapsed": FLAG, "gridPos": OBJECT, "panels": LIST},
    "panel": {
        "id": WHOLE, "type": STRING, "title": STRING, "description": STRING, "datasource": OBJECT, "gridPos": OBJECT, "fieldConfig": OBJECT,
        "options": OBJECT, "targets": LIST, "repeat": STRING, "repeatDirection": STRING, "maxPerRow": WHOLE,
    },
    "target": {"datasource": OBJECT, "expr": STRING, "legendFormat": STRING, "range": FLAG, "refId": STRING},
    "variable": {
        "name": STRING, "label": STRING, "type": STRING, "datasource": OBJECT, "definition": STRING, "query": (str, dict), "refresh": WHOLE,
        "sort": WHOLE, "hide": WHOLE, "includeAll": FLAG, "multi": FLAG, "options": LIST, "regex": STRING, "skipUrlSync": FLAG,
        "current": OBJECT,
    },
}
OPTIONAL = {"sort", "datasource", "definition", "repeat", "repeatDirection", "maxPerRow"}
# Units of Grafana that the dashboard uses.
UNITS = {"none", "ops", "percentunit", "s", "bytes", "Bps"}
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Words of PromQL that are no metric.
PROMQL = {"sum", "by", "rate", "increase", "histogram_quantile", "clamp_min", "label_values"}


def fields(kind, value, place):
    """Faults of an object's fields."""
    if not isinstance(value, dict):
        return [f"{place}: is no object"]
    known = FIELDS[kind]
    faults = [f"{place}: unknown field {name}" for name in value if name not in known]
    faults += [f"{place}: no {name}" for name in known if name not in value and name not in OPTIONAL]
    for name in value.keys() & known.keys():
        wanted = known[name]
        is_flag = isinstance(value[name], bool)
        if not isinstance(value[name], wanted) or is_flag != (wanted is FLAG):
            faults.append(f"{place}: {name} has the wrong type")
    return faults


def panel_faults(panel, names):
    kind = panel.get("type")
    place = f"panel {panel.get('id')} ({panel.get('title')})"
    faults = fields("row" if kind == "row" else "panel", panel, place)
    grid = panel.get("gridPos", {})
    if sorted(grid) != ["h", "w", "x", "y"] or not all(isinstance(value, int) and value >= 0 for value in grid.values()):
        faults.append(f"{place}: gridPos is not x, y, w, h")
    elif not (grid["w"] > 0 and grid["h"] > 0 and grid["x"] + grid["w"] <= COLUMNS):
        faults.append(f"{place}: does not fit in {COLUMNS} columns")
    if kind == "row":
        return faults
    if kind not in ("timeseries", "stat"):
        faults.append(f"{place}: type {kind}")
    if panel.get("datasource") != DATASOURCE:
        faults.append(f"{place}: not the data source of the variable")
    if panel.get("fieldConfig", {}).get("defaults", {}).get("unit") not in UNITS or not isinstance(panel["fieldConfig"].get("overrides"), list):
        faults.append(f"{place}: fieldConfig has no known unit, or no overrides")
    if "repeat" in panel and panel["repeat"] not in names:
        faults.append(f"{place}: repeats for an unknown variable")
    targets = panel.get("targets", [])
    if not targets:
        faults.append(f"{place}: no targets")
    for target in targets:
        faults += fields("target", target, f"{place}, target")
        if not target.get("expr", "").strip() or not target.get("legendFormat"):
            faults.append(f"{place}: a target without expression or legend")
        if target.get("datasource") != DATASOURCE:
            faults.append(f"{place}: a target has another data source")
    references = [target.get("refId") for target in targets]
    if len(references) != len(set(references)):
        faults.append(f"{place}: two targets with the same refId")
    return faults


def overlaps(first, second):
    return (
        first["x"] < second["x"] + second["w"] and second["x"] < first["x"] + first["w"]
        and first["y"] < second["y"] + second["h"] and second["y"] < first["y"] + first["h"])


def schema_faults(dashboard):
    """What Grafana would refuse, or show wrongly."""
    faults = fields("dashboard", dashboard, "dashboard")
    if faults:
        return faults
    variables = dashboard["templating"].get("list", [])
    names = [variable.get("name") for variable in variables]
    for variable in variables:
        faults += fields("variable", variable, f"variable {variable.get('name')}")
        if variable.get("type") == "query" and variable.get("datasource") != DATASOURCE:
            faults.append(f"variable {variable.get('name')}: another data source")
    if len(names) != len(set(names)):
        faults.append("two variables with the same name")
    if [variable.get("query") for variable in variables if variable.get("type") == "datasource" and variable.get("name") == "datasource"] != ["prometheus"]:
        faults.append("no variable for a data source of Prometheus")
    if not isinstance(dashboard["annotations"].get("list"), list) or sorted(dashboard["time"]) != ["from", "to"]:
        faults.append("annotations or time")
    # The id is the saved dashboard's, of the one Grafana where it was made.
    if not 16 <= dashboard["schemaVersion"] <= 41:
        faults.append("schemaVersion: no classic dashboard with gridPos")
    panels = dashboard["panels"]
    for panel in panels:
        faults += panel_faults(panel, names)
    identities = [panel.get("id") for panel in panels]
    if len(identities) != len(set(identities)) or any(not isinstance(number, int) or number < 1 for number in identities):
        faults.append("ids of panels are not unique numbers from 1")
    if not faults:
        for index, panel in enumerate(panels):
            for other in panels[:index]:
                if overlaps(panel["gridPos"], other["gridPos"]):
                    faults.append(f"panels {other['id']} and {panel['id']} overlap")
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    faults += [f"variable ${name} is used and not defined" for name in sorted(used - set(names)) if not name.startswith("__")]
    return faults


def expressions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def selectors(expression):
    """The metrics of a PromQL expression with their label matchers."""
    without = re.sub(r'"[^"]*"', '""', expression)
    if without.count("(") != without.count(")") or without.count("{") != without.count("}"):
        raise ValueError(f"brackets: {expression}")
    expression = re.sub(r"\bby \([\w, ]*\)", "", expression)
    for match in re.finditer(r'(\w+)(\{(?:\w+=~?"[^"]*",?)*\})?', re.sub(r"\[\$__rate_interval\]", "", expression)):
        word = match[1]
        if word not in PROMQL and not re.fullmatch(r"[\d.]+|vm|vcpu", word):
            yield word, re.findall(r'(\w+)(=~?)"([^"]*)"', match[2] or "")


def metric_faults(dashboard, families):
    """Metrics, labels and label values that no VM has."""
    samples = {}
    for family in families.values():
        suffixes = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}.get(family["type"], [""])
        for suffix in suffixes:
            samples[family["name"] + suffix] = [labels for name, labels, _ in family["samples"] if name == family["name"] + suffix]
    faults = []
    found = 0
    for expression in expressions(dashboard):
        for name, matchers in selectors(expression):
            found += 1
            if name not in samples:
                faults.append(f"no metric {name}: {expression}")
                continue
            for label, operator, value in matchers:
                # A family without samples cannot be compared.
                known = {labels.get(label) for labels in samples[name]}
                if not samples[name] or value.startswith("$"):
                    continue
                wanted = value.split("|") if operator == "=~" else [value]
                faults += [f"{name} has no {label}=\"{word}\"" for word in wanted if word not in known]
    if not found:
        faults.append("no metric at all")
    return faults


class Dashboard(ExporterTest):
    def setUp(self):
        super().setUp()
        with open(DASHBOARD, encoding="utf-8") as file:
            self.dashboard = json.load(file)

    def test_it_fits_the_schema(self):
        self.assertEqual(schema_faults(self.dashboard), [])
        self.assertGreater(len([panel for panel in self.dashboard["panels"] if panel["type"] != "row"]), 10)

    def broken(self, *path, value=None):
        """A copy of the dashboard with another value at a place; without the place if there is no value."""
        dashboard = copy.deepcopy(self.dashboard)
        item = dashboard
        for step in path[:-1]:
            item = item[step]
        if value is None:
            del item[path[-1]]
        else:
            item[path[-1]] = value
        return dashboard

    def test_the_rules_find_faults(self):
        for path, value in (
            (("title",), None), (("title",), 5), (("colour",), "red"), (("schemaVersion",), True), (("schemaVersion",), 1),
            (("panels", 2, "id"), 1), (("panels", 2, "id"), 0), (("panels", 2, "gridPos", "x"), 20), (("panels", 2, "gridPos", "h"), 0),
            (("panels", 2, "gridPos", "y"), -1), (("panels", 2, "gridPos", "w"), "5"), (("panels", 2, "gridPos", "x"), None),
            (("panels", 2, "gridPos", "h"), 30), (("panels", 2, "targets"), []), (("panels", 2, "targets", 0, "expr"), " "),
            (("panels", 2, "targets", 0, "expr"), None), (("panels", 5, "targets", 1, "refId"), "A"),
            (("panels", 2, "datasource", "uid"), "P1234"), (("panels", 2, "targets", 0, "datasource"), {"type": "loki", "uid": "${datasource}"}),
            (("panels", 2, "fieldConfig", "defaults", "unit"), "parsecs"), (("panels", 2, "type"), "graph"),
            (("panels", 5, "repeat"), "nothing"), (("templating", "list", 0), None), (("templating", "list", 1, "name"), "vcpu"),
            (("templating", "list", 1, "datasource", "uid"), "P1234"), (("templating", "list", 0, "query"), "loki"),
            (("panels", 2, "targets", 0, "expr"), "symvmm_vcpus{vm=\"$unknown\"}"), (("time", "to"), None),
        ):
            self.assertNotEqual(schema_faults(self.broken(*path, value=value)), [], (path, value))

    def test_each_metric_is_one_that_a_vm_with_everything_exports(self):
        words = ["--cpus", "2", "--swap", "8M,budget=4M,path=" + self.path("swap"), "--disk", self.write("disk.img", bytes(1 << 20))]
        tap = self.tap()
        self.start("whole", *words, *(["--net", f"tap={tap}"] if tap else []))
        exporter = Exporter(self)
        families = self.families(exporter.get(accept=OPENMETRICS)[0], OPENMETRICS)
        faults = metric_faults(self.dashboard, families)
        if not tap:
            # Only a network interface has these.
            faults = [fault for fault in faults if not re.search('="(rx|tx)', fault)]
        self.assertEqual(faults, [])
        for expression in ("symvmm_nothing", "sum(rate(symvmm_exits[$__rate_interval]))", 'symvmm_vcpu_time_seconds_total{kind="lost"}',
                           'symvmm_device_events_total{event=~"reads|thoughts"}', 'symvmm_vcpus{nature="kind"}', "1"):
            broken = {"panels": [{"targets": [{"expr": expression}]}], "templating": {"list": []}}
            self.assertNotEqual(metric_faults(broken, families), [], expression)
        self.end("whole")

    def tap(self):
        """The name of a new tap device; nothing where this process cannot make one."""
        name = f"symt{os.getpid() % 100_000_000}"
        if vmm.command("ip", "tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr").returncode != 0:
            return None
        self.addCleanup(vmm.command, "ip", "link", "delete", name)
        return name
