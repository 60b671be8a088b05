"""``defusion plugin new``: a complete package with one degradation, its entry point and its test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from defusion_cli.errors import UsageError
from defusion_cli.files import staged_folder, write_atomically
from defusion_cli.plugins.attributes import ID
from defusion_cli.plugins.host import Registry

_MOST_LETTERS = 40
_RESERVED = ("auto", "blind", "degradations")
"""What `defusion restore` does without a name, and the package of the built-in degradations."""
_TEMPLATES = Path(__file__).parent / "skeleton"
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "plugin.py.txt": "$module.py",
    "tests/test.py.txt": "tests/test_$variable.py",
    "README.md.txt": "README.md",
}


def skeleton_names(plugin_id: str) -> dict[str, str]:
    """What a plugin called ``rolling-shutter`` is called elsewhere: module, class, constant, title, folder."""
    variable = plugin_id.replace("-", "_")
    return {
        "id": plugin_id,
        "variable": variable,
        "module": f"defusion_plugin_{variable}",
        "name": "".join(word.capitalize() for word in plugin_id.split("-")),
        "constant": variable.upper(),
        "title": plugin_id.replace("-", " ").capitalize(),
        "folder": f"defusion-plugin-{plugin_id}",
    }


def check_new_id(plugin_id: str, registry: Registry) -> None:
    """Raise `UsageError` if no new plugin can be called so."""
    if not ID.fullmatch(plugin_id) or len(plugin_id) > _MOST_LETTERS:
        words = re.sub(r"[^a-z0-9]+", "-", plugin_id.lower()).strip("-0123456789")[:_MOST_LETTERS]
        raise UsageError(
            "A plugin cannot be called so.",
            found=plugin_id,
            accepted=f"lower-case words joined by hyphens, up to {_MOST_LETTERS} letters, as in rolling-shutter",
            fix=f"defusion plugin new {words}" if ID.fullmatch(words) else None,
        )
    if plugin_id in registry or any(broken.name == plugin_id for broken in registry.broken):
        raise UsageError(
            f"There is a degradation named {plugin_id!r} already; with two of one name, neither can be used.",
            fix="choose another name; defusion degrade --list shows those that are taken",
        )
    if plugin_id in _RESERVED:
        raise UsageError(f"{plugin_id!r} means something else already.", fix=f"defusion plugin new {plugin_id}-effect")


def write_skeleton(plugin_id: str, parent: Path, registry: Registry) -> list[Path]:
    """Write the package into ``parent/defusion-plugin-ID`` and return its files.

    Raises
    ------
    UsageError
        If the name cannot be used, or the folder is there already.
    """
    check_new_id(plugin_id, registry)
    names = skeleton_names(plugin_id)
    folder = parent / names["folder"]
    if folder.exists():
        raise UsageError(f"{folder} is there already.", fix="choose another name or another --out")
    files = {_filled(target, names): _TEMPLATES / template for template, target in _FILES.items()}
    with staged_folder(folder) as staging:
        for name, template in files.items():
            text = _filled(template.read_text(encoding="utf-8"), names)
            write_atomically(staging / name, text.encode())
    return [folder / name for name in files]


def _filled(text: str, names: Mapping[str, str]) -> str:
    return Template(text).substitute(names)
