"""Checks PromQL against the list of metrics: names, labels and their values, and which labels a result has."""

import re
from collections.abc import Mapping

import promql_parser as promql

from shared.observability.metrics import CATALOGUE, Metric

SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus adds to everything it scrapes."""
FOREIGN = {
    "up": "gauge",
    "process_start_time_seconds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
}
"""Metrics of Prometheus itself, and of prometheus_client, that are used."""
RATES = {"rate", "increase"}
METRICS = {metric.name: metric for metric in CATALOGUE}


class WrongQueryError(AssertionError):
    """The query names a metric or label that does not exist, or is invalid."""


def labels_of(query: str, recorded: Mapping[str, str] | None = None) -> frozenset[str]:
    """Labels of a query's result. `recorded` maps names of recording rules to their queries. Raises WrongQueryError."""
    return _Checker(recorded or {}).labels(promql.parse(query))


class _Checker:
    def __init__(self, recorded: Mapping[str, str]) -> None:
        self._recorded = recorded

    def labels(self, node: promql.Expr) -> frozenset[str]:
        match node:
            case promql.VectorSelector():
                return self._selector(node)
            case promql.MatrixSelector():
                return self._selector(node.vector_selector)
            case promql.SubqueryExpr() | promql.ParenExpr() | promql.UnaryExpr():
                return self.labels(node.expr)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.BinaryExpr():
                return self._binary(node)
            case promql.Call():
                return self._call(node)
        return frozenset()

    def _selector(self, node: promql.VectorSelector) -> frozenset[str]:
        name = node.name or ""
        if name in self._recorded:
            found, metric = labels_of(self._recorded[name]), None
        else:
            found, metric = _declared(name)
        for matcher in node.matchers.matchers:
            _require({matcher.name}, found, name)
            if metric is not None and metric.values and matcher.name == metric.labels[0]:
                unknown = set(matcher.value.split("|")) - set(metric.values)
                if unknown:
                    raise WrongQueryError(f"{name} has no {matcher.name} {', '.join(unknown)}")
        return found

    def _aggregate(self, node: promql.AggregateExpr) -> frozenset[str]:
        inner = self.labels(node.expr)
        if node.modifier is None:
            return frozenset()
        if node.modifier.type is not promql.AggModifierType.By:
            raise WrongQueryError("say what is kept, with by (...)")
        return _require(set(node.modifier.labels), inner, str(node))

    def _binary(self, node: promql.BinaryExpr) -> frozenset[str]:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        matching = node.modifier.matching if node.modifier else None
        if matching is not None:
            _require(set(matching.labels), left, str(node.lhs))
            _require(set(matching.labels), right, str(node.rhs))
        return left if left or not right else right

    def _call(self, node: promql.Call) -> frozenset[str]:
        found = [self.labels(argument) for argument in node.args]
        if node.func.name == "histogram_quantile":
            return _require({"le"}, found[1], "histogram_quantile") and found[1] - {"le"}
        if node.func.name in RATES:
            [argument] = node.args
            name = argument.vector_selector.name
            if FOREIGN.get(name) != "counter" and not re.search(r"_(total|bucket|sum|count)$", name):
                raise WrongQueryError(f"{name} does not only grow: {node.func.name} says nothing of it")
        return frozenset().union(*found)


def _declared(name: str) -> tuple[frozenset[str], Metric | None]:
    if name in FOREIGN:
        return SCRAPED, None
    series = re.fullmatch(r"(?P<name>\w+?)(?P<part>_bucket|_sum|_count)?", name)
    histogram = METRICS.get(series["name"]) if series and series["part"] else None
    if series and histogram is not None and histogram.kind == "histogram":
        extra = {"le"} if series["part"] == "_bucket" else set()
        return SCRAPED | set(histogram.labels) | extra, histogram
    metric = METRICS.get(name)
    if metric is None or metric.kind == "histogram":
        raise WrongQueryError(f"there is no metric {name}")
    return SCRAPED | set(metric.labels), metric


def _require(wanted: set[str], found: frozenset[str], where: str) -> frozenset[str]:
    if missing := wanted - found:
        raise WrongQueryError(f"no label {', '.join(sorted(missing))} in {where}")
    return frozenset(wanted)
