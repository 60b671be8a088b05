"""The data sets that this field trains and tests on: how they lie on disk, what pairs, and how many there should be.

``load("gopro", folder)`` gives pairs; `check` compares a folder with what it should be; `twins_by_name` pairs files
that lie elsewhere.
"""

from defusion_cli.data.adapters.check import Report, check
from defusion_cli.data.adapters.names import Twins, twins_by_name
from defusion_cli.data.adapters.pairing import Found, Pair, Tree, find
from defusion_cli.data.adapters.registry import DATASETS, Selection, dataset, load, parse_selection
from defusion_cli.data.adapters.spec import DatasetSpec
from defusion_cli.data.adapters.splits import SPLITS, select

__all__ = [
    "DATASETS",
    "SPLITS",
    "DatasetSpec",
    "Found",
    "Pair",
    "Report",
    "Selection",
    "Tree",
    "Twins",
    "check",
    "dataset",
    "find",
    "load",
    "parse_selection",
    "select",
    "twins_by_name",
]
