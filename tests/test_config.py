from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from defusion_cli.app import app


@pytest.fixture
def score(tmp_path, monkeypatch):
    """Runs ``defusion score`` with a command that only tells what it was given."""
    given: dict[str, object] = {}

    def score(
        out: Annotated[Path, typer.Argument()],
        gt: Annotated[Path, typer.Argument(metavar="GT_FOLDER")],
        metrics: Annotated[str, typer.Option()] = "psnr",
        crop_px: Annotated[int, typer.Option(min=0, max=9)] = 0,
        plugin: Annotated[list[str] | None, typer.Option()] = None,
        json: Annotated[bool, typer.Option("--json")] = False,
        set_: Annotated[str | None, typer.Option("--set")] = None,
    ) -> None:
        given.update(out=out, gt=gt, metrics=metrics, crop_px=crop_px, plugin=plugin, json=json, set_=set_)

    module = types.ModuleType("defusion_cli.commands.score")
    module.score = score
    monkeypatch.setitem(sys.modules, "defusion_cli.commands.score", module)
    monkeypatch.chdir(tmp_path)

    def run(toml: str, *args: str, file: str = "defusion.toml"):
        given.clear()
        Path(file).write_text(toml, encoding="utf-8")
        done = CliRunner().invoke(app, list(args) or ["score"])
        return done, dict(given)

    return run


PATHS = '[score]\nout = "restored"\ngt = "sharp"\n'


def test_a_project_folder_names_its_paths_once(score):
    done, given = score(PATHS, "score", "--metrics", "fid,lpips")
    assert done.exit_code == 0
    assert (given["out"], given["gt"], given["metrics"]) == (Path("restored"), Path("sharp"), "fid,lpips")


def test_every_kind_of_value(score):
    toml = PATHS + 'crop-px = 3\nplugin = ["rain", "snow"]\njson = true\nset = "a"\nmetrics = ["psnr", "ssim"]\n'
    _, given = score(toml)
    assert given == {
        "out": Path("restored"),
        "gt": Path("sharp"),
        "metrics": "psnr,ssim",
        "crop_px": 3,
        "plugin": ["rain", "snow"],
        "json": True,
        "set_": "a",
    }
    assert score(PATHS + 'plugin = "rain"\n')[1]["plugin"] == ["rain"]
    assert score(PATHS + "crop_px = 4\n")[1]["crop_px"] == 4
    assert score('[score]\nout = "a"\ngt_folder = "b"\n')[1]["gt"] == Path("b")


def test_flags_win(score):
    toml = PATHS + 'crop-px = 3\nplugin = ["rain"]\n'
    _, given = score(toml, "score", "a", "b", "--crop-px", "5", "--plugin", "haze")
    assert (given["out"], given["crop_px"], given["plugin"]) == (Path("a"), 5, ["haze"])


def test_another_file_may_be_named(score):
    done, given = score(PATHS, "--config", "other.toml", "score", file="other.toml")
    assert (done.exit_code, given["gt"]) == (0, Path("sharp"))
    done, _ = score(PATHS, "--config", "missing.toml", "score")
    assert done.exit_code == 2
    assert "missing.toml cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("toml", "sentences"),
    [
        (PATHS + "metriks = 'psnr'\n", ["unknown key in [score]", "metriks", "did you mean metrics?"]),
        ("[scores]\n", ["unknown table", "scores", "did you mean [score]?"]),
        ("gt = 'a'\n", ["outside of all tables", "gt"]),
        ("score = 1\n", ["outside of all tables"]),
        ("[score\n", ["is not TOML"]),
        (PATHS + "crop_px = 10\n", ["--crop-px", "defusion.toml has crop_px = 10"]),
        (PATHS + "crop_px = 'many'\n", ["--crop-px", "defusion.toml has crop_px = 'many'"]),
        (PATHS + "crop_px = true\n", ["crop_px has a wrong value"]),
        (PATHS + "json = 'yes'\n", ["json has a wrong value", "true or false"]),
        (PATHS + "metrics = {a = 1}\n", ["metrics has a value that no option takes"]),
        (PATHS + "metrics = [[1]]\n", ["metrics has a value that no option takes"]),
        (PATHS + "help = true\n", ["unknown key"]),
        ("[score]\nout = 'a'\n", ["GT_FOLDER"]),
    ],
)
def test_mistakes_are_usage_errors(score, toml, sentences):
    done, given = score(toml)
    assert done.exit_code == 2
    assert given == {}
    for sentence in sentences:
        assert sentence in done.stderr


def test_bytes_that_are_no_text_are_refused(score):
    Path("bad.toml").write_bytes(b"\xff\xfe[")
    done, _ = score(PATHS, "--config", "bad.toml", "score")
    assert done.exit_code == 2
    assert "is not TOML" in done.stderr


def test_help_does_not_need_a_good_configuration(score):
    done, _ = score("[score", "score", "--help")
    assert done.exit_code == 0


def test_tables_of_other_commands_are_not_looked_into(score):
    done, _ = score(PATHS + "[train]\nanything = 1\n")
    assert done.exit_code == 0
