"""How panels look: one function for each kind of panel, so that the dashboards contain only titles and queries.

Every panel has a title, a description that helps to interpret it, a unit, and queries with legends.
"""

from grafana_foundation_sdk.builders import bargauge, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Selectors that restrict a query to the selection in the variables of a dashboard.
CLUSTER = 'cluster="$cluster"'
QUEUE = f'{CLUSTER}, queue=~"$queue"'
LANE = f'{QUEUE}, kind=~"$kind"'
WINDOW = "$__rate_interval"
# Widths of panels; the whole screen has 24 columns.
WHOLE, HALF, THIRD, QUARTER, EIGHTH = 24, 12, 8, 6, 3


def steps(*pairs):
    """Thresholds: the first colour, then pairs (value, colour) for values from `value` on."""
    first, *rest = pairs
    thresholds = [models.Threshold(value=None, color=first)]
    thresholds += [models.Threshold(value=value, color=color) for value, color in rest]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


def says(**values):
    """Texts and colours for numbers: `says(_0=("no leader", RED))`."""
    results = {
        key.removeprefix("_"): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(values.items())
    }
    return [models.ValueMap(options=results)]


def _query(ref, expr, legend):
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref)


def _queries(panel, queries, prepare):
    for ref, (expr, legend) in zip("ABCDEFGHIJ", queries, strict=False):
        panel.with_target(prepare(_query(ref, expr, legend)))
    return panel


def _dressed(panel, title, description, unit, width, height):
    return panel.title(title).description(description).datasource(DATASOURCE).unit(unit).span(width).height(height)


def to(uid, label, *variables):
    """A link to another dashboard that keeps the time range and these variables."""
    kept = "&".join(["${cluster:queryparam}", "${datasource:queryparam}", *variables])
    url = f"/d/{uid}?{kept}&${{__url_time_range}}"
    return builders.DashboardLink(label).type(models.DashboardLinkType.LINK).url(url)


def stat(
    title, description, expr, unit="short", colors=None, mapping=None, link=None, legend="", width=EIGHTH, named=False
):
    """The current value of one number. With `named`, show its legend in the colour of the number."""
    panel = _dressed(stat_builders.Panel(), title, description, unit, width, 4)
    panel = _queries(panel, [(expr, legend)], lambda query: query.instant())
    panel = panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = panel.graph_mode(common.BigValueGraphMode.NONE)
    panel = panel.color_mode(common.BigValueColorMode.VALUE).thresholds(colors or steps(GREY))
    if named:
        panel = panel.text_mode(common.BigValueTextMode.NAME)
    if mapping:
        panel = panel.mappings(mapping)
    return panel.links([link]) if link else panel


def graph(title, description, *queries, unit="short", width=THIRD, stacked=False, colors=None, least=0, link=None):
    """Lines over time."""
    panel = _dressed(timeseries.Panel(), title, description, unit, width, 8)
    panel = _queries(panel, queries, lambda query: query.range())
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE)
    legend = legend.placement(common.LegendPlacement.BOTTOM).show_legend(True).calcs(["lastNotNull", "max"])
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel = panel.legend(legend).tooltip(tooltip.sort(common.SortOrder.DESCENDING))
    panel = panel.show_points(common.VisibilityMode.NEVER).line_width(1).fill_opacity(30 if stacked else 8)
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if colors:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(colors).thresholds_style(style)
    if least is not None:
        panel = panel.min(least)
    return panel.links([link]) if link else panel


def bars(title, description, expr, legend, unit, colors, width=QUARTER, link=None):
    """Bars for the largest current values."""
    panel = _dressed(bargauge.Panel(), title, description, unit, width, 8)
    panel = _queries(panel, [(expr, legend)], lambda query: query.instant())
    panel = panel.orientation(common.VizOrientation.HORIZONTAL).thresholds(colors).min(0)
    panel = panel.display_mode(common.BarGaugeDisplayMode.BASIC)
    return panel.data_links([link]) if link else panel


def timeline(title, description, expr, legend, mapping, width=HALF):
    """States over time."""
    panel = _dressed(statetimeline.Panel(), title, description, "short", width, 6)
    panel = _queries(panel, [(expr, legend)], lambda query: query.range())
    panel = panel.mappings(mapping).show_value(common.VisibilityMode.NEVER).row_height(0.8)
    return panel.thresholds(steps(GREY)).color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))


def heatmap(title, description, bucket, unit="s", width=HALF):
    """Counts for each bucket of a histogram over time. `bucket` is the metric with its selectors."""
    panel = _dressed(heatmap_builders.Panel(), title, description, unit, width, 8)
    expr = f"sum by (le) (increase({bucket}[{WINDOW}]))"
    panel = _queries(panel, [(expr, "{{le}}")], lambda query: query.range().format(PromQueryFormat.HEATMAP))
    color = heatmap_builders.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME)
    panel = panel.color(color.scheme("Oranges")).calculate(False)
    return panel.y_axis(heatmap_builders.YAxisConfig().unit(unit))


def table(title, description, key, columns, width=WHOLE):
    """One row for each value of the label `key`; `columns` are (name, unit, expression)."""
    panel = _dressed(table_builders.Panel(), title, description, "short", width, 9)
    for ref, (_, _, expr) in zip("ABCDEFGHIJ", columns, strict=False):
        panel = panel.with_target(_query(ref, expr, "").instant().format(PromQueryFormat.TABLE))
    # Grafana numbers the value fields if there are several.
    fields = [f"Value #{ref}" for ref in "ABCDEFGHIJ"[: len(columns)]] if len(columns) > 1 else ["Value"]
    names = {field: name for field, (name, _, _) in zip(fields, columns, strict=True)}
    for name, unit, _ in columns:
        panel = panel.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=unit)])
    return panel.transformations(
        [
            models.DataTransformerConfig(id_val="merge", options={}),
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {key: 0} | {value: at + 1 for at, value in enumerate(names)},
                    "renameByName": names,
                },
            ),
        ]
    )


def quantiles(bucket, *shares, by="", label=""):
    """Queries for quantiles of a histogram, such as 0.5 and 0.99. `by` is a label to group by."""
    labels = ", ".join(["le", by] if by else ["le"])
    return [
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({bucket}[{WINDOW}])))",
            f"{label}p{share * 100:g}",
        )
        for share in shares
    ]


def total(what, selectors=LANE, level="cluster_queue_kind"):
    """The recorded total of tasks, independent of the leader."""
    return f"{level}:rota_tasks_{what}_total:max{{{selectors}}}"


def speed(what, by="", selectors=LANE, level="cluster_queue_kind"):
    """Tasks per second."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({total(what, selectors, level)}[{WINDOW}]))"


def failing(by="", selectors=LANE):
    """Tasks per second that fail."""
    return speed("failed", by, selectors, "cluster_queue_kind_reason")


def failing_attempts(by="", selectors=LANE):
    """Failed attempts per second, with or without a retry. A lost attempt counts only as lost."""
    last = failing(by, f'{selectors}, reason!="worker_lost"')
    return f"{speed('retried', by, selectors)} + {speed('lost', by, selectors)} + {last}"


def row(title):
    """A heading."""
    return builders.Row(title)


class _LeaderChanges(models.AnnotationQuery):
    """Adds the texts of the mark, which the type of the SDK lacks."""

    def to_json(self):
        return super().to_json() | {
            "titleFormat": "New leader",
            "textFormat": "{{instance}} leads",
            "step": "15s",
        }


class _Annotation(builders.AnnotationQuery):
    def __init__(self):
        super().__init__()
        self._internal = _LeaderChanges()


def _variable(name, label, query, several):
    variable = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable = variable.sort(models.VariableSort.ALPHABETICAL_ASC)
    if several:
        everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
        variable = variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable


VARIABLES = {
    "queue": (
        "Queue",
        f"label_values(cluster_queue_kind:rota_tasks_submitted_total:max{{{CLUSTER}}}, queue)",
    ),
    "kind": ("Kind", f"label_values(cluster_queue_kind:rota_tasks_submitted_total:max{{{CLUSTER}}}, kind)"),
    "worker": ("Worker", f"label_values(rota_session_slots{{{CLUSTER}}}, worker)"),
    "node": ("Node", f"label_values(rota_leader{{{CLUSTER}}}, instance)"),
}


def board(uid, title, description, *variables):
    """An empty dashboard with the common parts: data source, cluster, links, marks for changes of leader."""
    made = (
        builders.Dashboard(f"Rota / {title}")
        .uid(uid)
        .description(description)
        .tags(["rota"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("cluster", "Cluster", "label_values(rota_build_info, cluster)", False))
    )
    for name in variables:
        label, query = VARIABLES[name]
        made = made.with_variable(_variable(name, label, query, True))
    links = builders.DashboardLink("Rota").type(models.DashboardLinkType.DASHBOARDS).tags(["rota"])
    # The mark is one minute long. It also appears if no node could be scraped for up to an hour.
    epoch = f"cluster:rota_leader_epoch:max{{{CLUSTER}}}"
    changed = f"({epoch} > max_over_time({epoch}[1h] offset 1m))"
    mark = _Annotation().name("Changes of leader").datasource(DATASOURCE).enable(True).icon_color("orange")
    return made.link(links.include_vars(True).keep_time(True)).annotation(
        mark.expr(f"rota_leader{{{CLUSTER}}} == 1 and on (cluster) {changed}")
    )


def finished(made):
    """The finished dashboard. Panels get fixed numbers, so that links to them stay valid."""
    built = made.build()
    for number, panel in enumerate(built.panels, 1):
        panel.id_val = number
    return built
