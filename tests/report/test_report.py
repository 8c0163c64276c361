"""What the page holds, for runs that are finished, running, broken or several."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from elc_composer.report.__main__ import main
from elc_composer.report.charts import whole_gradient
from elc_composer.report.distributions import units
from elc_composer.report.events import find_events
from elc_composer.report.files import RunFolder, read_run, read_runs
from elc_composer.report.page import SECTIONS, all_panels, embed, payload, render
from elc_composer.report.pairs import accuracies
from elc_composer.report.thin import short, spread_out, thin
from tests.report.synthetic import layers_at, metrics_at, shares, write_lines, write_run


class Page(HTMLParser):
    """Section ids, links, sources and the data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0
        self.inside = ""
        self.data: Any = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.addresses += [str(values[key]) for key in ("src", "href") if key in values]
        self.scripts += tag == "script"
        self.inside = "data" if values.get("id") == "report-data" else ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data, self.inside = json.loads(data), ""


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)
    assert found
    return found[0]


def events_of(run: RunFolder, kind: str) -> list[tuple[int, str]]:
    return [(event.step, event.text) for event in find_events(run) if event.kind == kind]


def test_one_page_holds_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert main([str(run)]) == 0
    text = (run / "report.html").read_text()
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert set(SECTIONS) <= set(page.ids)
    assert all(address.startswith("#") for address in page.addresses)
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", text)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)", text)
    panels = {panel["id"]: panel for panel in page.data["panels"]}
    assert {"loss", "dev-accuracy", "tokens", "gradient", "learning-rate", "pairs-metrics-toy-overall"} <= panels.keys()
    assert [line["label"] for line in panels["loss"]["lines"]] == ["made up, train", "made up, dev"]
    assert panels["loss"]["lines"][0]["x"] == list(range(100))
    assert panels["loss"]["lines"][0]["y"][20] == 2.5
    assert len(panels["learning-rate"]["lines"]) == 1
    assert page.data["weights"][0]["steps"] == list(range(0, 100, 10))
    assert page.data["weights"][0]["frames"][3][2] == pytest.approx(shares(3, 30), abs=1e-4)
    assert page.data["mixed"][0]["frames"][0][1] == [0.5, 0.5]
    assert page.data["histograms"][0]["units"] == ["embedding", "layer 1"]
    assert "1,234" in section(text, "data")
    assert "aochildes" in section(text, "data")
    assert "run_name: made up" in section(text, "config")


def test_phenomena_and_paradigms_are_told_apart(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    found = {entry.name: (entry.kind, entry.group) for entry in accuracies(run, "toy")}
    assert found["overall"] == ("average", "overall")
    assert found["agreement"] == ("phenomenon", "agreement")
    assert found["irregular_agreement"] == ("paradigm", "agreement")
    assert found["npi_scope"] == ("paradigm", "npi_licensing")
    data = payload([run], [[]])
    assert [row["group"] for row in data["grids"][0]["rows"]] == ["agreement", "agreement", "npi_licensing"]
    titles = [panel["title"] for panel in data["panels"] if panel["section"] == "pairs"]
    assert titles == ["toy: mean over paradigms", "toy: agreement", "toy: npi licensing"]


def test_a_section_without_files_says_what_to_switch_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", monitors=False)
    rows = [{"step": step, "loss/train/total": 1.0} for step in range(5)]
    write_lines(run / "metrics.jsonl", rows)
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


def test_a_running_run_with_a_torn_line_is_shown_up_to_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=60)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "loss/train/to')
    with (run / "layer_weights.jsonl").open("a") as file:
        file.write('{"step": 60, "layers": {"1": [1.')
    found = read_run(run)
    assert found.step == 59
    assert found.layer_weights[-1]["step"] == 50
    text = render([found])
    assert "not finished" in section(text, "overview")
    assert "not whole" in section(text, "events")


def test_a_config_of_another_project_is_shown_all_the_same(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    foreign = {"checkpoints": "here", "stages": [1, 2], "max_steps": 9, "data": ["x"], "evaluators": 3, "model": "bert"}
    (run / "config.yaml").write_text(json.dumps(foreign))
    text = render(read_runs([run]))
    assert "bert" in section(text, "config")
    assert "Training of run" in text


@pytest.mark.parametrize("fraction", ["${half}", None, [1]])
def test_stages_of_another_project_are_not_taken_for_ours(fraction: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stages=[{"fraction": fraction, "seq_length": 8}])
    assert events_of(read_run(run), "stage") == []
    assert "seq_length" in section(render(read_runs([run])), "config")


def test_records_of_another_shape_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    odd = {
        "layer_weights.jsonl": [{"1": 5}, {}, {"1": []}, {"1": ["x"]}, 3],
        "mixed_inputs.jsonl": [{"1": [1.0]}, {"1": {"norm": 2.0}}, {"1": {"contributions": []}}],
        "weight_histograms.jsonl": [{"a": {}}, {"a": {"low": 0, "high": None, "counts": [1]}}, {"a": [1]}, {}],
    }
    whole = render(read_runs([run]))
    for name, rows in odd.items():
        key = "units" if name.startswith("weight") else "layers"
        with (run / name).open("a") as file:
            file.writelines(json.dumps({"step": 95, key: row}) + "\n" for row in rows)
    assert Page(render(read_runs([run]))).data == Page(whole).data
    assert main([str(run), "--png", str(tmp_path / "png"), "--csv", str(tmp_path / "csv")]) == 0


def test_a_step_that_no_browser_can_count_to_is_no_step(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for step in ("100000000000000000000", "true", "-1"):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": {step}, "loss/train/total": 3}}\n')
    found = read_run(run)
    assert found.step == 99
    assert found.unreadable == 3


def test_parts_are_in_the_order_of_the_deepest_run(tmp_path: Path) -> None:
    def measured(name: str, layers: int) -> RunFolder:
        run = write_run(tmp_path / name, name=name)
        parts = ["embedding", *(f"layers.{n}" for n in range(layers)), "group_0"]
        write_lines(run / "metrics.jsonl", [{"step": 1, **{f"weight_distribution/{p}/norm": 1.0 for p in parts}}])
        return read_run(run)

    assert units([measured("shallow", 1), measured("deep", 3)]) == [
        "embedding",
        "layers.0",
        "layers.1",
        "layers.2",
        "group_0",
    ]


def test_a_run_that_has_just_begun_is_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    assert "no loss is logged yet" in section(render(read_runs([run])), "loss")


def test_restarts_show_as_a_gap_in_the_rates_or_a_step_back(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert events_of(read_run(run), "restart") == []
    rows = [metrics_at(step) for step in range(100)]
    for row in rows[40:45]:
        for key in [key for key in row if key.startswith("throughput")]:
            del row[key]
    write_lines(run / "metrics.jsonl", rows)
    assert [step for step, _ in events_of(read_run(run), "restart")] == [40]
    write_lines(run / "metrics.jsonl", [metrics_at(s) for s in (*range(50), *range(30, 80))])
    found = read_run(run)
    assert [step for step, _ in events_of(found, "restart")] == [30]
    assert found.metrics["loss/train/total"].steps == list(range(80))


def test_what_the_run_noted_itself_is_shown_instead_of_guesses(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    lines = [
        {"event": "started", "step": 0, "text": "on 1 rank"},
        {"event": "saved", "step": 20, "text": "checkpoint ba20-rank0.pt"},
        {"event": "preempted", "step": 25, "text": "after 25 of 100 steps"},
        {"event": "fell_back", "step": 20, "text": "a newer checkpoint is damaged: ba25-rank0.pt: it is cut off"},
        {"event": "resumed", "step": 20, "text": "from ba20-rank0.pt on 2 ranks"},
        {"event": "bad_loss", "step": 60, "text": "the loss of step 59 is nan"},
    ]
    write_lines(run / "events.jsonl", [{"time": "2026-01-01T10:00:00+00:00", "ranks": 1, **line} for line in lines])
    with (run / "events.jsonl").open("a") as file:
        file.write('{"event": "torn')
    found = read_run(run)
    assert [step for step, _ in events_of(found, "restart")] == [20, 25]
    assert events_of(found, "restart")[0][1] == "resumed from ba20-rank0.pt on 2 ranks (2026-01-01 10:00 UTC)"
    assert [step for step, _ in events_of(found, "fault")] == [20, 60]
    assert events_of(found, "fault")[1][1].startswith("bad loss: the loss of step 59 is nan")
    assert events_of(found, "note") == [(0, "started on 1 rank (2026-01-01 10:00 UTC)")]
    assert "1 saved by now" in dict(events_of(found, "checkpoint"))[20]
    text = render([found])
    assert "resumed from ba20-rank0.pt" in section(text, "events")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 70, "loss/train/total": 1.0}')
    assert "metrics go back from step 99" in dict(events_of(read_run(run), "restart"))[70]
    marks = {(event["step"], event["kind"]) for event in Page(text).data["events"][0]}
    assert {(20, "restart"), (60, "fault"), (20, "fault")} <= marks


@pytest.mark.parametrize(
    ("last", "state"),
    [("finished", "finished"), ("preempted", "pre-empted"), ("stopped", "stopped"), ("resumed", "not finished")],
)
def test_a_run_says_itself_how_it_ended(last: str, state: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=60)
    lines = [{"event": last, "step": 60, "text": "<b>"}, {"event": "saved", "step": 60}, {"event": "new", "step": 1}]
    write_lines(run / "events.jsonl", lines[:2])
    assert f"<td>{state}" in section(render(read_runs([run])), "overview")
    write_lines(run / "events.jsonl", lines)
    assert "&lt;b&gt;" in section(render(read_runs([run])), "events")
    assert (1, "new ") in events_of(read_run(run), "note")


def test_stages_and_faults_are_events(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    rows = [metrics_at(step) for step in range(100)]
    rows[70]["loss/train/total"] = None
    for row in rows[60:]:
        row["trainer/device_train_microbatch_size"] = 4
    write_lines(run / "metrics.jsonl", rows)
    (run / "log-rank0.txt").write_text("fine\ncheckpoint x is damaged; falling back to the one before\n")
    found = read_run(run)
    assert [step for step, _ in events_of(found, "stage")] == [0, 90]
    faults = dict(events_of(found, "fault"))
    assert "not finite" in faults[70]
    assert "microbatch cut from 8 to 4" in faults[60]
    assert "falling back" in faults[99]
    assert [step for step, _ in events_of(found, "checkpoint")] == [100]


def test_runs_beside_each_other_say_where_configs_differ(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", name="same")
    two = write_run(tmp_path / "two", name="same", seed=7)
    runs = read_runs([one, two])
    assert [run.name for run in runs] == ["one", "two"]
    text = render(runs)
    data = Page(text).data
    loss = next(panel for panel in data["panels"] if panel["id"] == "loss")
    assert {line["run"] for line in loss["lines"]} == {0, 1}
    assert all(data[key][1] for key in ("weights", "mixed", "histograms"))
    assert "seed" in section(text, "config").split("<details>")[0]
    assert "max_steps" not in section(text, "config").split("<details>")[0]


def test_nothing_in_a_run_can_leave_its_place_on_the_page(tmp_path: Path) -> None:
    bad = "</script><script>alert(1)</script><!--@@style@@&"
    run = write_run(tmp_path / "run", name=bad)
    write_lines(run / "metrics.jsonl", [{"step": 0, f"metrics/{bad}/overall".replace("</", "<"): 0.5, "loss/x": 1.0}])
    text = render(read_runs([run]))
    page = Page(text)
    assert page.scripts == 2
    assert page.data["runs"][0]["name"] == bad
    assert "<script>alert" not in text
    assert text.count(":root {") == render(read_runs([write_run(tmp_path / "good")])).count(":root {")
    assert json.loads(embed({"a": "</script>&<!--\u2028"})) == {"a": "</script>&<!--\u2028"}
    assert not set("<>&") & set(embed("</script>&<!--"))


def test_a_long_run_stays_small_and_keeps_its_spikes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    count = 50_000
    rows = [{"step": step, "loss/train/total": 100.0 if step == 31_234 else 2.0} for step in range(count)]
    write_lines(run / "metrics.jsonl", rows)
    write_lines(run / "layer_weights.jsonl", [layers_at(step) for step in range(0, count, 10)])
    text = render(read_runs([run]))
    assert len(text) < 1_000_000
    data = Page(text).data
    faint = data["panels"][0]["lines"][0]
    assert len(faint["x"]) <= 2000
    assert (faint["x"][0], faint["x"][-1], max(faint["y"])) == (0, count - 1, 100)
    assert faint["x"][faint["y"].index(100)] == 31_234
    assert data["weights"][0]["steps"][-1] == count - 10


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    values = [float(i % 7) for i in range(1000)]
    values[500], values[700] = -50.0, 50.0
    with_gap = [None if 100 <= i < 300 else value for i, value in enumerate(values)]
    steps, kept = thin(range(1000), with_gap, 40)
    assert len(steps) <= 40
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, 999)
    assert {-50.0, 50.0, None} <= set(kept)
    assert thin([1, 2], [1.0, None], 40) == ([1, 2], [1.0, None])
    assert spread_out(range(10), 3) == [0, 4, 9]
    assert (short(1.23456789), short(2.0), short(float("nan"))) == (1.2346, 2, None)


def test_the_gradient_is_that_before_clipping_where_it_is_logged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [metrics_at(step) | {"gradient/norm": 7.0 + step} for step in range(20)])
    panels = {panel.id: panel for panel in all_panels([read_run(run)])}
    assert panels["gradient"].lines[0].y == [7 + step for step in range(20)]


def test_numbers_that_are_none_are_gaps_whoever_wrote_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    lines = ['{"step": 0, "loss/train/total": 2.0, "a": Infinity}', '{"step": 1, "loss/train/total": NaN, "a": 1}']
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 2, "loss/train/total": 1.0}']))
    found = read_run(run)
    assert found.metrics["loss/train/total"].values == [2.0, None, 1.0]
    assert found.metrics["a"].values == [None, 1.0]
    assert "loss/train/total: not finite at 1 of 3 logged steps" in dict(events_of(found, "fault"))[1]
    assert "1.5" in section(render([found]), "overview")


def test_the_whole_gradient_comes_from_the_groups(tmp_path: Path) -> None:
    found = whole_gradient(read_run(write_run(tmp_path / "run")))
    assert found is not None
    assert found.values[0] == pytest.approx((3.0**2 + 3.0**2) ** 0.5)


def test_pictures_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    png, tables, page = tmp_path / "png", tmp_path / "csv", tmp_path / "out" / "page.html"
    assert main([str(run), "--out", str(page), "--png", str(png), "--csv", str(tables)]) == 0
    assert page.exists()
    assert not (run / "report.html").exists()
    names = {path.name for path in png.iterdir()}
    assert {"loss.png", "layer_weights_made_up.png", "mixed_inputs_over_time_made_up.png"} <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in png.iterdir())
    with (tables / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "loss/train/total"]
    assert [(int(row["step"]), float(row["value"])) for row in rows][20] == (20, 2.5)
    with (tables / "layer_weights.csv").open() as file:
        last = [row for row in csv.DictReader(file) if (row["step"], row["layer"]) == ("90", "3")]
    assert [float(row["share"]) for row in last] == pytest.approx(shares(3, 90))
    assert len((tables / "weight_histograms.csv").read_text().splitlines()) == 1 + 5 * 2 * 5
    assert str(page) in capsys.readouterr().out


def test_runs_whose_names_no_file_can_bear_have_pictures_of_their_own(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(i), name=name) for i, name in enumerate(("<b>$x$", "$b$ <x>"))]
    png = tmp_path / "png"
    assert main([*map(str, runs), "--out", str(tmp_path / "page.html"), "--png", str(png)]) == 0
    assert {"layer_weights_b_x_1.png", "layer_weights_b_x_2.png"} <= {path.name for path in png.iterdir()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is no folder"),
        (lambda folder: folder.mkdir(), "holds no metrics.jsonl"),
        (lambda folder: (write_run(folder) / "config.yaml").write_text("a: [1"), "is no YAML"),
        (lambda folder: (write_run(folder) / "config.yaml").write_text("- 1"), "is no mapping"),
    ],
)
def test_bad_input_is_one_line(make: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
