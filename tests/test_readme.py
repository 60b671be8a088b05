"""README, docs and all other pages: each command runs and prints what stands below it, each link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from fresh import ROOT, fresh_environment
from lookalikes import TREES, touch, write_set
from page_blocks import PROSE, Command, blocks_of, commands_of
from tiny import TINY_TRAINING, save_inception, save_tiny_model

from defusion_cli.commands import COMMANDS

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "examples", "examples/defusion-plugin-moire", "defusion_cli/weights/default")
    for path in (ROOT / folder).glob("*.md")
)
# What is put behind a command of an sh block that would take hours, eight GPUs or these very tests.
SHORTER = {
    "make check": "--dry-run",
    "make docs": "--dry-run",  # test_docs.py runs it
    "defusion train --preset paper": "--dry-run",
    "defusion restore photos/ restored/ --degradation rain --gpus": "--dry-run",
    "defusion train --preset later-steps": " ".join(
        f"--set {setting}"
        for setting in ("steps=2", "phases=32x4", "synthesis.view_px=64", "instruction_slots=1", "workers=0")
    ),
    "defusion train": " ".join(f"--set {setting}" for setting in TINY_TRAINING),
}


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _extra(command: Command) -> str:
    """Nothing for console blocks: they run as they stand there."""
    if command.output is not None:
        return ""
    return next((extra for beginning, extra in SHORTER.items() if command.line.startswith(beginning)), "")


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for FID."""
    return save_inception(tmp_path_factory.mktemp("inception"))


class Workplace:
    """A clone in which somebody has made .venv and put the pictures that the pages speak of."""

    def __init__(self, folder: Path, inception: Path) -> None:
        self.folder = folder
        python = fresh_environment(folder / ".venv")
        for name, module in (("defusion", "defusion_cli"), ("pip", "pip")):
            (python.parent / name).write_text(f'#!/bin/sh\nexec "{python}" -m {module} "$@"\n')
            (python.parent / name).chmod(0o755)
        for name in ("defusion_cli", "degradations", "Makefile", "pyproject.toml", "README.md", "LICENSE"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("out", "gallery"))
        self._put_pictures()
        (folder / "torch/hub/pyiqa").mkdir(parents=True)
        (folder / "torch/hub/pyiqa" / inception.name).symlink_to(inception)
        self.environment = {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TORCH_HOME": str(folder / "torch"),
            "HF_HUB_OFFLINE": "1",
            # pip finds everything installed, and asks nobody.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }

    def _put_pictures(self) -> None:
        examples = self.folder / "examples"
        shutil.copytree(examples / "photos/rain", self.folder / "photos")
        shutil.copytree(examples / "clean", self.folder / "clean")
        for copy in ("photo.jpg", "holdout/coffee.jpg"):
            (self.folder / copy).parent.mkdir(exist_ok=True)
            shutil.copy(examples / "clean/coffee.jpg", self.folder / copy)
        write_set(self.folder / "datasets", "gopro")
        touch(self.folder / "data", TREES["gopro"])
        touch(self.folder / "data", [name.replace("rainy_image_dataset", "Rain1400") for name in TREES["rain1400"]])
        (self.folder / "mixture.toml").write_text('[[source]]\nset = "gopro"\npath = "data/GOPRO_Large"\n')

    def run(self, command: Command) -> None:
        command.run(self.folder, self.environment, _extra(command))


@pytest.fixture
def workplace(tmp_path: Path, inception: Path) -> Workplace:
    """A fresh one for every page."""
    return Workplace(tmp_path, inception)


def test_every_subcommand_has_an_example() -> None:
    shown = {command.line.split()[1] for command in commands_of(_text("README.md")) if command.output is not None}
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
    places = {page: (ROOT / page).resolve() for page in PAGES if page != "README.md"}
    assert [page for page, place in places.items() if not {place, place.parent} & reached] == []


def test_no_block_is_left_that_nobody_runs() -> None:
    found = {(block.language, page) for page in PAGES for block in blocks_of(_text(page))}
    assert {language for language, _ in found} - PROSE == {"console", "sh", "python", "toml"}
    fences = {page: _text(page).count("```") for page in PAGES}
    assert fences == {page: 2 * len(blocks_of(_text(page))) for page in PAGES}, "a fence that is not closed"
    lines = [command.line for page in PAGES for command in commands_of(_text(page)) if command.output is None]
    assert all(any(line.startswith(beginning) for line in lines) for beginning in SHORTER)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(_text(page))])
def test_the_commands_run_as_written(page: str, workplace: Workplace) -> None:
    for command in commands_of(_text(page)):
        workplace.run(command)


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in _text(page)])
def test_the_python_runs(page: str, workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace.folder)
    text = "".join(block.text for block in blocks_of(_text(page)) if block.language == "python")
    exec(compile(text, page, "exec"), {})


@pytest.mark.parametrize("page", [page for page in PAGES if "```toml" in _text(page)])
def test_the_settings_are_taken(page: str, workplace: Workplace) -> None:
    save_tiny_model(workplace.folder / "runs/mine/model")
    (block,) = [block for block in blocks_of(_text(page)) if block.language == "toml"]
    (workplace.folder / "defusion.toml").write_text(block.text)
    uses = {"restore": "photos out --dry-run", "score": "photos clean"}
    assert re.findall(r"^\[(.*)\]", block.text, flags=re.MULTILINE) == list(uses)
    for command, rest in uses.items():
        workplace.run(Command(f"defusion {command} {rest}"))


def test_commands_are_found_and_failures_noticed(tmp_path: Path) -> None:
    console = "```console\n$ ls a \\\n  b\nshown\n…\n$ ls\n```\n"
    page = console + "```sh\nfor i in 1 2; do\n    false\ndone\nmake it   # why\n```\n"
    assert commands_of(page) == [
        Command("ls a    b", "shown\n…"),
        Command("ls", ""),
        Command("for i in 1 2; do\n    false\ndone"),
        Command("make it"),
    ]
    Command("ls", "").run(tmp_path)
    (tmp_path / "a.txt").touch()
    for shown in ("a…t", "…"):
        Command("ls", shown).run(tmp_path)
    for command in (Command("ls", "b.txt"), Command("false | cat"), Command("test a ="), Command("true", "shown")):
        with pytest.raises(AssertionError):
            command.run(tmp_path)
