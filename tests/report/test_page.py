"""Content of the page: sections, charts, tables, embedded data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
import pytest

from elc_composer.report.__main__ import main
from elc_composer.report.distributions import measured_units
from elc_composer.report.page import all_charts, render
from elc_composer.report.pair_accuracies import accuracies
from elc_composer.report.run_reader import RunFolder, read_run, read_runs
from elc_composer.report.sections import TITLES
from elc_composer.report.theme import THEMES
from elc_composer.report.training_charts import whole_gradient
from tests.report.page_parser import Page, section, without_plotly
from tests.report.synthetic import layers_at, metrics_at, shares, write_lines, write_run


def test_one_file_contains_all_data_and_loads_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert main([str(run)]) == 0
    text = (run / "report.html").read_text()
    assert text.count(plotly.offline.get_plotlyjs()) == 1
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert set(TITLES) <= set(page.ids)
    assert all(address.startswith("#") for address in page.addresses)
    own = without_plotly(text)
    assert "http" not in own.replace("http-equiv", "")
    assert "default-src 'none'" in own
    assert not re.search(r"@import|url\((?!#)", own)
    assert {"loss", "dev-accuracy", "tokens", "gradient", "learning-rate", "pairs-metrics-toy-overall"} <= set(
        page.data["charts"]
    )
    train, dev = page.curves("loss")
    assert (train["meta"]["label"], dev["meta"]["label"]) == ("made up, train", "made up, dev")
    assert train["x"] == list(range(100))
    assert train["y"][20] == 2.5
    assert dev["line"]["dash"] == "dash"
    assert len(page.curves("learning-rate")) == 1
    heatmap = page.data["heatmaps"]["weights"][0]
    assert heatmap["steps"] == list(range(0, 100, 10))
    assert heatmap["frames"][3][2] == pytest.approx(shares(3, 30), abs=1e-4)
    assert page.data["heatmaps"]["mixed"][0]["frames"][0][1] == [0.5, 0.5]
    assert page.data["histograms"][0]["units"] == ["embedding", "layer 1"]
    assert "1,234" in section(text, "data")
    assert "aochildes" in section(text, "data")
    assert "run_name: made up" in section(text, "config")


def test_every_figure_is_valid_for_plotly(tmp_path: Path) -> None:
    """Plotly's script ignores misspelt keys silently; its Python classes reject them."""
    runs = [write_run(tmp_path / name, name=name, steps=steps) for name, steps in (("one", 100), ("<b>two</b>", 400))]
    data = Page(render(read_runs(runs))).data
    assert len(data["charts"]) > 30
    for chart in data["charts"].values():
        go.Figure(data=chart["data"], layout=chart["layout"])
    for key in ("weights", "mixed"):
        go.Figure(layout=data["heatmaps"][key][0]["layout"])
    go.Figure(layout=data["histogramLayout"])
    for theme in THEMES.values():
        go.Figure(layout={"template": theme.template()})
        go.Heatmap(colorscale=theme.colorscale())


def test_names_reach_plotly_as_text(tmp_path: Path) -> None:
    """Plotly's labels understand a subset of HTML, links included."""
    run = write_run(tmp_path / "run", name='<a href="x">R&D</a>')
    first = Page(render(read_runs([run]))).curves("loss")[0]
    assert first["name"] == '&lt;a href="x"&gt;R&amp;D&lt;/a&gt;, train'
    assert first["meta"]["label"] == '<a href="x">R&D</a>, train'


def test_phenomena_and_paradigms_are_distinguished(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    kinds = {entry.name: (entry.kind, entry.group) for entry in accuracies(run, "toy")}
    assert kinds["overall"][0] == "average"
    assert kinds["agreement"] == ("phenomenon", "agreement")
    assert kinds["regular_agreement"] == ("paradigm", "agreement")
    assert kinds["npi_scope"] == ("paradigm", "npi_licensing")
    text = render([run])
    grid = section(text, "pairs")
    order = [grid.index(f">{name}<") for name in ("agreement", "regular agreement", "irregular agreement", "npi scope")]
    assert order == sorted(order)
    titles = re.findall("<figcaption>(.*?)</figcaption>", grid)
    assert titles == ["toy: mean over paradigms", "toy: agreement", "toy: npi licensing"]


def test_cells_of_paradigms_hold_per_cents(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    row = metrics_at(0) | {"metrics/toy/npi_scope": 0.25, "metrics/toy/regular_agreement": 1.0}
    write_lines(run / "metrics.jsonl", [row])
    grid = section(render(read_runs([run])), "pairs")
    assert re.search(r'<td class="low" style="--strength: 45.0%">25</td>', grid)
    assert re.search(r'<td class="heat strong-light strong-dark" style="--strength: 90.0%">100</td>', grid)


def test_a_section_without_data_names_the_option_that_enables_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", monitors=False)
    write_lines(run / "metrics.jsonl", [{"step": step, "loss/train/total": 1.0} for step in range(5)])
    (run / "layer_weights.jsonl").unlink()
    (run / "config.yaml").unlink()
    text = render(read_runs([run]))
    assert "callbacks.layer_weight_monitor" in section(text, "weights")
    assert "callbacks.mixed_input_monitor.interval" in section(text, "mixed")
    assert "callbacks.weight_distribution_monitor.interval" in section(text, "distributions")
    assert "callbacks.gradient_norm" in section(text, "gradients")
    assert "evaluators.minimal_pairs" in section(text, "pairs")
    assert "config.yaml" in section(text, "config")
    assert "hint" not in section(text, "loss")


def test_a_config_of_another_project_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    foreign = {"checkpoints": "here", "stages": [1, 2], "max_steps": 9, "data": ["x"], "evaluators": 3, "model": "bert"}
    (run / "config.yaml").write_text(json.dumps(foreign))
    text = render(read_runs([run]))
    assert "bert" in section(text, "config")
    assert "Training of run" in text


def test_units_are_in_the_order_of_the_deepest_run(tmp_path: Path) -> None:
    def measured(name: str, layers: int) -> RunFolder:
        run = write_run(tmp_path / name, name=name)
        parts = ["embedding", *(f"layers.{n}" for n in range(layers)), "group_0"]
        write_lines(run / "metrics.jsonl", [{"step": 1, **{f"weight_distribution/{p}/norm": 1.0 for p in parts}}])
        return read_run(run)

    runs = [measured("shallow", 1), measured("deep", 3)]
    assert measured_units(runs) == ["embedding", "layers.0", "layers.1", "layers.2", "group_0"]


def test_a_run_without_steps_gives_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    assert "no loss is logged yet" in section(render(read_runs([run])), "loss")


def test_several_runs_share_charts_and_list_config_differences(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", name="same")
    two = write_run(tmp_path / "two", name="same", seed=7)
    runs = read_runs([one, two])
    assert [run.name for run in runs] == ["one", "two"]
    text = render(runs)
    page = Page(text)
    assert {trace["meta"]["run"] for trace in page.curves("loss")} == {0, 1}
    assert {trace["meta"]["colour"] for trace in page.curves("loss")} == {0, 1}
    assert page.data["heatmaps"]["weights"][1]
    assert page.data["heatmaps"]["mixed"][1]
    assert page.data["histograms"][1]
    differences = section(text, "config").split("<details>")[0]
    assert "seed" in differences
    assert "max_steps" not in differences


def test_names_in_a_run_cannot_inject_html(tmp_path: Path) -> None:
    bad = "</script><script>alert(1)</script><!--{{ 7 * 7 }}&"
    run = write_run(tmp_path / "run", name=bad)
    write_lines(run / "metrics.jsonl", [{"step": 0, f"metrics/{bad}/overall".replace("</", "<"): 0.5, "loss/x": 1.0}])
    text = render(read_runs([run]))
    page = Page(text)
    assert page.scripts == 3
    assert page.data["runs"][0]["name"] == bad
    own = without_plotly(text)
    assert "<script>alert" not in own
    assert "{{ 7 * 7 }}" in own
    embedded = re.search(r'id="report-data">(.*?)</script>', own, re.DOTALL)
    assert embedded
    assert not set("<>&") & set(embedded[1])


def test_a_long_run_stays_small_and_keeps_its_spikes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    count = 50_000
    rows = [{"step": step, "loss/train/total": 100.0 if step == 31_234 else 2.0} for step in range(count)]
    write_lines(run / "metrics.jsonl", rows)
    write_lines(run / "layer_weights.jsonl", [layers_at(step) for step in range(0, count, 10)])
    text = render(read_runs([run]))
    assert len(without_plotly(text)) < 1_000_000
    page = Page(text)
    faint = page.curves("loss")[0]
    assert faint["hoverinfo"] == "skip"
    assert len(faint["x"]) <= 2000
    assert (faint["x"][0], faint["x"][-1], max(faint["y"])) == (0, count - 1, 100)
    assert faint["x"][faint["y"].index(100)] == 31_234
    axis = page.data["charts"]["loss"]["layout"]["yaxis"]
    assert axis["autorangeoptions"]["clipmax"] < 3, "one spike does not flatten the curve"
    assert page.data["heatmaps"]["weights"][0]["steps"][-1] == count - 10


def test_the_gradient_norm_before_clipping_is_preferred(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [metrics_at(step) | {"gradient/norm": 7.0 + step} for step in range(20)])
    charts = {chart.id: chart for chart in all_charts([read_run(run)])}
    assert charts["gradient"].lines[0].y == [7 + step for step in range(20)]


def test_the_whole_gradient_is_computed_from_the_groups(tmp_path: Path) -> None:
    found = whole_gradient(read_run(write_run(tmp_path / "run")))
    assert found is not None
    assert found.values[0] == pytest.approx((3.0**2 + 3.0**2) ** 0.5)


def test_quantile_bands_enclose_the_median(tmp_path: Path) -> None:
    page = Page(render(read_runs([write_run(tmp_path / "run")])))
    lower, upper, median = page.data["charts"]["distributions-quantiles-embedding"]["data"]
    assert (lower["y"][0], median["y"][0], upper["y"][0]) == (-0.3, 0, 0.3)
    assert (lower["fill"], upper["fill"]) == ("none", "tonexty")


def test_metrics_with_similar_names_have_charts_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    row = {"step": 0, "weight_distribution/a b/norm": 1.0, "weight_distribution/a-b/norm": 2.0}
    write_lines(run / "metrics.jsonl", [row])
    page = Page(render(read_runs([run])))
    assert [page.curves(chart)[0]["y"] for chart in page.charts_of("distributions")] == [[1], [2]]
    assert len(set(page.ids)) == len(page.ids)
