from __future__ import annotations

import io
import json

import pytest

from defusion_cli import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_results_go_to_stdout_and_notes_to_stderr(capsys):
    console.result("out.png")
    console.note("by the way")
    console.summary({"written": 3, "failed": 0, "already there": 1}, 200, "out")
    shown = capsys.readouterr()
    assert shown.out == "out.png\n"
    assert shown.err == "by the way\n3 written, 1 already there in 3 min 20 s; in out\n"


def test_only_rank_zero_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    console.result("a")
    console.note("b")
    console.print_json("c", {})
    with console.progress("d", 2) as bar:
        bar.note("e")
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_json_is_versioned_and_holds_no_nan(capsys):
    console.print_json("kind-of-thing", {"x": [1.5, float("nan")], "y": {"z": float("inf")}}, version=3)
    value = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert value == {"kind": "kind-of-thing", "version": 3, "x": [1.5, None], "y": {"z": None}}


def test_json_of_iterators(capsys):
    items = [{"a": [1, float("nan")], "b": "two\nlines\u2028"}, {"a": []}]
    console.print_json("k", {"none": iter(()), "some": iter(items), "rest": {"x": items}})
    streamed = capsys.readouterr().out
    console.print_json("k", {"none": [], "some": items, "rest": {"x": items}})
    assert streamed == capsys.readouterr().out
    expected = {"kind": "k", "version": 1, "none": [], "some": items, "rest": {"x": items}}
    assert streamed == json.dumps(expected, indent=2, ensure_ascii=False).replace("NaN", "null") + "\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.progress("Training", 30, "steps", done=10) as bar:
        for _ in range(6):
            bar.status("loss 0.1")
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "Training: 13/30 steps, 0.25 steps/s, 1 min 8 s left, loss 0.1"


def test_short_runs_leave_a_log_alone(capsys):
    with console.progress("Training", None) as bar:
        bar.advance(1000)
        bar.note("kept")
    assert capsys.readouterr().err == "kept\n"


def test_a_terminal_gets_a_bar_with_rate_and_notes(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with console.progress("Restoring [b]", 4, "photos") as bar:
        for _ in range(4):
            bar.advance()
        bar.status("loss [0.1]")
        bar.note("a.png: [bold] is not markup")
    shown = screen.getvalue()
    assert "Restoring [b]" in shown
    assert "4/4" in shown
    assert "loss [0.1]" in shown
    assert "a.png: [bold] is not markup" in shown


def test_tables_are_not_cut_when_piped(capsys, monkeypatch):
    from rich.table import Table

    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name")
    table.add_row("x" * 120)
    console.show(table)
    assert "x" * 120 in capsys.readouterr().out
