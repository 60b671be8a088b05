"""Damaging folders of photographs: what is to be done, doing it, and the manifest that can do it again.

The package is a function, too: `defusion_cli.api.degrade`.
"""

import sys

from defusion_cli.callable_package import CallablePackage
from defusion_cli.degrade.manifest import MANIFEST_NAME, Entry, read_manifest
from defusion_cli.degrade.plan import (
    ORDERS,
    Damage,
    Item,
    Plan,
    Task,
    draw_recipes,
    plan_folder,
    plan_manifest,
    plan_preview,
)
from defusion_cli.degrade.preview import draw_preview
from defusion_cli.degrade.recipes import RECIPES, named_damage
from defusion_cli.degrade.run import Outcome, Report, run_task, run_tasks

__all__ = [
    "MANIFEST_NAME",
    "ORDERS",
    "RECIPES",
    "Damage",
    "Entry",
    "Item",
    "Outcome",
    "Plan",
    "Report",
    "Task",
    "draw_preview",
    "draw_recipes",
    "named_damage",
    "plan_folder",
    "plan_manifest",
    "plan_preview",
    "read_manifest",
    "run_task",
    "run_tasks",
]

sys.modules[__name__].__class__ = CallablePackage
