from __future__ import annotations

import errno
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from defusion_cli import __version__
from defusion_cli.app import app
from defusion_cli.commands import COMMANDS
from defusion_cli.errors import DataError, DefusionError, PluginError, UsageError

HEAVY = ("torch", "numpy", "cv2", "PIL", "diffusers", "rich", "degradations", "defusion_cli.plugins")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command line in an empty folder, at a fixed width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *args: CliRunner().invoke(app, list(args), prog_name="defusion")


@pytest.fixture
def failing(monkeypatch):
    """Makes ``defusion train`` raise what it is given."""

    def install(error: BaseException):
        def train() -> None:
            raise error

        module = types.ModuleType("defusion_cli.commands.train")
        module.train = train
        monkeypatch.setitem(sys.modules, "defusion_cli.commands.train", module)

    return install


def imported_by(*args: str) -> set[str]:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['defusion', *{args!r}]\n"
        "try: runpy.run_module('defusion_cli', run_name='__main__')\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["restore", "degrade", "score"])
def test_an_empty_argument_is_not_the_current_folder(run, command):
    done = run(command, "", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "An argument is empty" in done.stderr and f"defusion {command} '' out" in done.stderr


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("degrade", "--help")])
def test_help_imports_nothing_heavy(args):
    assert not imported_by(*args) & set(HEAVY)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_pages(run, name, request):
    done = run(*name.split(), "--help")
    assert done.exit_code == 0, done.stderr
    help_text = done.stdout
    path = Path(__file__).parent / "snapshots" / f"help-{name or 'defusion'}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(help_text, encoding="utf-8")
    assert help_text == path.read_text(encoding="utf-8"), "if that is meant: pytest --update-golden"
    assert max(map(len, help_text.splitlines())) <= 80
    assert "Example: defusion" in help_text


MOST_OPTIONS = {"restore": 16, "train": 13}  # what, how, where, on which machines, and what to show of it


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_has_more_than_twelve_options(run, name):
    page = run(name, "-h").stdout
    options = [line for line in page.splitlines() if line.startswith("  --")]
    assert 0 < len(options) <= MOST_OPTIONS.get(name, 12)


def test_version(run):
    assert run("--version").stdout == f"defusion {__version__}\n"


def test_a_mistyped_command_or_option_gets_a_suggestion(run):
    done = run("restor")
    assert done.exit_code == 2
    assert "Did you mean 'restore'?" in done.stderr
    done = run("degrade", "--plugn", "snow")
    assert done.exit_code == 2
    assert "--plugin" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentences"),
    [
        (DefusionError("It failed."), 1, ["error: It failed."]),
        (
            UsageError("No.", found="a", accepted="b", fix="c"),
            2,
            ["No.", "found:    a", "accepted: b", "fix: c"],
        ),
        (DataError("Bad picture."), 3, ["error: Bad picture."]),
        (PluginError("Bad plugin."), 4, ["error: Bad plugin."]),
        (KeyboardInterrupt(), 130, ["stopped: ", "Finished files are kept.", "fix: run the same command again"]),
        (OSError(errno.ENOSPC, "No space left", "x.png"), 1, ["The disk is full: x.png", "fix: free some space"]),
        (PermissionError(errno.EACCES, "Permission denied", "x.png"), 3, ["x.png: Permission denied", "fix: check"]),
        (MemoryError(), 1, ["The memory is not sufficient."]),
        (ZeroDivisionError("division\nby zero"), 1, ["(ZeroDivisionError: division by zero)", "--debug"]),
    ],
)
def test_errors_are_sentences_with_an_exit_code(run, failing, error, code, sentences):
    failing(error)
    done = run("train")
    assert done.exit_code == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for sentence in sentences:
        assert sentence in done.stderr


def test_debug_shows_the_traceback(run, failing):
    failing(ZeroDivisionError("boom"))
    done = run("--debug", "train")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "error: Something unexpected" in done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_commands_may_choose_their_exit_code(run, failing, code):
    failing(typer.Exit(code))
    assert run("train").exit_code == code


def test_a_broken_command_module_concerns_no_other_command(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "defusion_cli.commands.train", None)
    assert run("--help").exit_code == 0
    assert run("degrade", "--help").exit_code == 0
    done = run("train")
    assert done.exit_code == 1
    assert "'train' cannot be loaded" in done.stderr


def test_characters_that_the_terminal_lacks_are_no_crash(tmp_path):
    command = [sys.executable, "-m", "defusion_cli", "degrade", "--list", "--plugin", "noise"]
    env = {"PYTHONIOENCODING": "ascii", "PATH": "", "COLUMNS": "60"}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=env, check=True)
    assert b"noise.sigma" in done.stdout


def test_no_colour_when_not_wanted(run, failing, monkeypatch):
    failing(DefusionError("It failed."))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("train").stderr
