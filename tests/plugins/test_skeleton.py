from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.errors import UsageError
from defusion_cli.plugins import installed_plugins
from defusion_cli.plugins.skeleton import write_skeleton


def run(*args: str):
    return CliRunner().invoke(app, ["plugin", *args])


def test_the_files_of_a_new_plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("new", "lens-flare", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(told["files"])
    assert {Path(name).name for name in files} == {
        "README.md", "pyproject.toml", "defusion_plugin_lens_flare.py", "test_lens_flare.py"
    }  # fmt: skip
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in files]
    assert not any("$" in text for text in texts)
    assert 'lens-flare = "defusion_plugin_lens_flare:LENS_FLARE"' in "".join(texts)
    again = run("new", "lens-flare")
    assert again.exit_code == 2 and "is there already" in again.stderr


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Lens Flare", "fix: defusion plugin new lens-flare"),
        ("../evil", "lower-case words"),
        ("x" * 41, "up to 40 letters"),
        ("7-eleven", "fix: defusion plugin new eleven"),
        ("rain", "already"),
        ("degradations", "means something else"),
    ],
)
def test_names_that_cannot_be(tmp_path, name, sentence):
    with pytest.raises(UsageError) as error:
        write_skeleton(name, tmp_path, installed_plugins())
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_check_tells_the_verdict():
    assert run("check", "noise").stdout.startswith("noise keeps the contract: defusion ")
    typo = run("check", "rian")
    assert typo.exit_code == 2 and "did you mean rain?" in typo.stderr
    assert run("list", "noise").exit_code == 2
