"""Events of a run: recorded in events.jsonl, or seen in its metrics, config and log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elc_composer.report.page import render
from elc_composer.report.run_reader import read_run, read_runs
from tests.report.page_parser import Page, events_of, section
from tests.report.synthetic import metrics_at, write_lines, write_run


@pytest.mark.parametrize("fraction", ["${half}", None, [1], float("inf"), float("nan"), -1])
def test_invalid_stage_fractions_give_no_stages(fraction: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stages=[{"fraction": fraction, "seq_length": 8}])
    assert events_of(read_run(run), "stage") == []
    assert "seq_length" in section(render(read_runs([run])), "config")


def test_a_gap_in_the_throughput_is_not_taken_for_a_restart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    rows = [metrics_at(step) for step in range(100)]
    for row in rows[40:45]:
        for key in [key for key in row if key.startswith("throughput")]:
            del row[key]
    write_lines(run / "metrics.jsonl", rows)
    assert events_of(read_run(run), "restart") == []
    assert "no events.jsonl, so its restarts are unknown" in section(render(read_runs([run])), "events")


def test_metrics_that_step_back_are_a_restart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [metrics_at(step) for step in (*range(50), *range(30, 80))])
    found = read_run(run)
    assert [step for step, _ in events_of(found, "restart")] == [30]
    assert found.metrics["loss/train/total"].steps == list(range(80))


def test_recorded_events_are_shown_and_marked(tmp_path: Path) -> None:
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
    assert events_of(found, "note")[0] == (0, "started on 1 rank (2026-01-01 10:00 UTC)")
    assert "the last line of events.jsonl is incomplete" in events_of(found, "note")[1][1]
    assert "1 saved by now" in dict(events_of(found, "checkpoint"))[20]
    text = render([found])
    assert "resumed from ba20-rank0.pt" in section(text, "events")
    assert "restarts are unknown" not in text
    marks = {trace["name"]: trace for trace in Page(text).data["charts"]["loss"]["data"] if trace.get("yaxis") == "y2"}
    assert set(marks) == {"stages", "restarts and faults"}
    assert sorted(set(marks["restarts and faults"]["x"]) - {None}) == [20, 25, 60]
    assert any("resumed from ba20-rank0.pt" in label for label in marks["restarts and faults"]["text"])


def test_the_last_event_decides_the_state(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=60)
    states = {"finished": "finished", "preempted": "pre-empted", "stopped": "stopped", "resumed": "not finished"}
    for last, state in states.items():
        lines = [{"event": last, "step": 60, "text": "<b>"}, {"event": "saved", "step": 60}]
        write_lines(run / "events.jsonl", lines)
        assert f"<td>{state}" in section(render(read_runs([run])), "overview")


def test_unknown_events_are_notes_and_their_text_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_lines(run / "events.jsonl", [{"event": "new", "step": 1, "text": "<b>"}])
    assert events_of(read_run(run), "note") == [(1, "new <b>")]
    assert "new &lt;b&gt;" in section(render(read_runs([run])), "events")


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
