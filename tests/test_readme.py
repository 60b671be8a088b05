"""README and docs: every command in them runs and prints what stands below it, every link leads somewhere."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from console_blocks import Command, commands_of

from defusion_cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_every_subcommand_has_an_example() -> None:
    shown = {command.words[1] for command in commands_of(_text("README.md")) if command.words[0] == "defusion"}
    assert shown >= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_and_page_that_is_linked_exists(page: str) -> None:
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#]+)", _text(page))
    missing = [target for target in targets if "://" not in target and not (folder / target).exists()]
    assert missing == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / page).parent / target for page in PAGES for target in re.findall(r"\]\(([^)#]+)", _text(page))}
    reached = {path.resolve() for path in linked}
    assert [page for page in PAGES if page != "README.md" and (ROOT / page).resolve() not in reached] == []


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(_text(page))])
def test_the_commands_run_as_written(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("out", "gallery"))
    for command in commands_of(_text(page)):
        command.run(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_are_python(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", _text(page), flags=re.DOTALL):
        ast.parse(block)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples/photos/rain", tmp_path / "photos")
    shutil.copytree(ROOT / "examples/clean", tmp_path / "clean")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", _text("README.md"), flags=re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})


def test_a_command_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    Command(("ls",), "").run(tmp_path)
    (tmp_path / "a.txt").touch()
    Command(("ls",), "a…t").run(tmp_path)
    Command(("ls",), "…").run(tmp_path)
    with pytest.raises(AssertionError):
        Command(("ls",), "b.txt").run(tmp_path)
