"""The form in which a data set is described: where its pictures lie, and what in their names pairs them.

A description is data, not code. Names are given as templates such as ``{split:train|test}/{scene}/sharp/{frame}``:
``{frame}`` is a field, ``{split:train|test}`` a field of which the regular expression is given, ``{:gt|clear}`` a
choice without a name. Templates leave the suffix out, match regardless of case, and match the *end* of a path, so
that it does not matter in which folder the set lies or how deep an archive nests it.

A damaged picture belongs to the clean picture that agrees with it in all fields which both templates name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Fields = Mapping[str, str]
"""Values of a template's fields, in lower case."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_FOLDER = re.compile(r"((?:\{[^{}]*\}|[^/{}])*)/")

PARTS = {
    "train": "train", "training": "train", "train_set": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "test_set": "test",
}  # fmt: skip
"""What the field ``split`` means."""


def _pattern(text: str) -> str:
    """A template, or a piece of one, as a regular expression."""
    found = ""
    for number, piece in enumerate(_BRACES.split(text)):
        if number % 2 == 0:
            found += re.escape(piece)
        else:
            name, colon, expression = piece.partition(":")
            body = expression if colon else "[^/]+"
            found += f"(?P<{name}>{body})" if name else f"(?:{body})"
    return found


@dataclass(frozen=True)
class Template:
    """A name pattern: of the folder, and of the file without its suffix."""

    text: str

    @cached_property
    def depth(self) -> int:
        """Number of folders that it describes."""
        return _BRACES.sub("", self.text).count("/")

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of its fields, in order."""
        return tuple(name for name in (b.partition(":")[0] for b in _BRACES.findall(self.text)) if name)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        folder, _, name = self.text.rpartition("/")
        return re.compile(_pattern(folder), re.IGNORECASE), re.compile(_pattern(name), re.IGNORECASE)

    @cached_property
    def folder_patterns(self) -> tuple[re.Pattern[str], ...]:
        """A pattern for each of its folders, outermost first."""
        return tuple(re.compile(_pattern(text), re.IGNORECASE) for text in _FOLDER.findall(self.text))

    def match_folder(self, folder: str) -> Fields | None:
        """Fields in the name of a folder that is cut to `depth` parts, or None."""
        return _fields(self._patterns[0].fullmatch(folder))

    def match_name(self, stem: str) -> Fields | None:
        """Fields in the name of a file, or None."""
        return _fields(self._patterns[1].fullmatch(stem))

    def fill(self, fields: Fields) -> str:
        """The path that has these fields: what is not known is left as a template, choices become their first."""

        def value(match: re.Match[str]) -> str:
            name, colon, expression = match[1].partition(":")
            if name in fields:
                return fields[name]
            plain = bool(colon) and re.fullmatch(r"[\w -]+(?:\|[\w -]+)*", expression)
            return expression.split("|")[0] if plain else f"<{name}>" if name else ""

        return _BRACES.sub(value, self.text)

    def __str__(self) -> str:
        return _BRACES.sub(lambda m: f"<{m[1].partition(':')[0] or m[1][1:]}>", self.text)


def _fields(match: re.Match[str] | None) -> Fields | None:
    return None if match is None else {k: (v or "").lower() for k, v in match.groupdict().items()}


@dataclass(frozen=True)
class Rule:
    """Where damaged pictures lie and where their clean twins do.

    Attributes
    ----------
    damaged
        Template; empty for sets of clean photographs.
    clean
        Template.
    part
        ``train``, ``val`` or ``test``, where the template has no field ``split`` that tells.
    """

    damaged: str
    clean: str
    part: str = ""

    @cached_property
    def templates(self) -> tuple[Template | None, Template]:
        """Of the damaged and of the clean pictures."""
        return Template(self.damaged) if self.damaged else None, Template(self.clean)


@dataclass(frozen=True)
class Layout:
    """One way in which people have a set on disk; all its rules hold together.

    Attributes
    ----------
    name
        Such as ``official archive``.
    hint
        Regular expression that the path must contain for the set to be recognised unasked: for names that many
        sets share.
    avoid
        Regular expression that no path may contain.
    from_root
        The template describes the whole path below the folder that the user named.
    position_gap
        Above 0, pictures pair by their position in the sorted folder, and this is by how much the numbers in two
        paired names may differ.
    """

    name: str
    rules: tuple[Rule, ...]
    hint: str = ""
    avoid: str = ""
    from_root: bool = False
    position_gap: int = 0


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes
    ----------
    id, title
        Name on the command line, and in print.
    degradations
        Ids of the plugins whose damage the pairs show, or that are meant for the clean photographs.
    layouts
        The official one first.
    official, supplement
        Number of pairs by part (``train``), by part and subset (``test/l``) or in ``all``: as published by the
        authors, and as section 7 of the supplement of Defusion says.
    family, family_supplement
        Sets that the supplement counts together share a name, and these are the figures.
    supplement_split
        The split that gives the supplement's figures: ``official`` or ``seed90``.
    licence, citation, source
        Terms as far as they are known, the paper, and where to ask for the files.
    group
        Fields that name the scene or background, so that a split keeps its pictures together. Without, the clean
        picture is the scene.
    subset_degradations
        Ids by subset, where they differ.
    default_subsets
        Subsets that are used unasked; none means all.
    lists
        Files beside the pictures that list the official parts, by part.
    part_of
        Official part from the fields of a pair.
    centre_crop
        The clean pictures are larger: their centre, cut to the size of the damaged one, is the twin.
    drop_scenes_of
        A set with scenes in common that must not be trained on: id of that set.
    nested_subsets
        Two subsets, the first of which is said to be a part of the second.
    overlaps, notes
        What a reader of figures has to know.
    """

    id: str
    title: str
    degradations: tuple[str, ...]
    layouts: tuple[Layout, ...]
    official: Mapping[str, int]
    supplement: Mapping[str, int]
    licence: str
    citation: str
    source: str
    family: str = ""
    family_supplement: Mapping[str, int] = field(default_factory=dict)
    supplement_split: str = "official"
    group: tuple[str, ...] = ()
    subset_degradations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_subsets: tuple[str, ...] = ()
    lists: Mapping[str, str] = field(default_factory=dict)
    part_of: Callable[[Fields], str] | None = None
    centre_crop: bool = False
    drop_scenes_of: str = ""
    nested_subsets: tuple[str, str] | None = None
    overlaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def paired(self) -> bool:
        """False for sets of clean photographs."""
        return any(rule.damaged for layout in self.layouts for rule in layout.rules)

    def degradations_of(self, subset: str) -> tuple[str, ...]:
        """Ids of what the pairs of a subset show."""
        return self.subset_degradations.get(subset, self.degradations)

    def scene(self, fields: Fields, clean: str) -> tuple[str, ...]:
        """What must stay on one side of a split: the fields of `group`, or the clean picture."""
        values = tuple(fields[name] for name in self.group if name in fields)
        return values or (clean,)


def one_layout(name: str, *rules: Rule, hint: str = "", avoid: str = "") -> Layout:
    """A layout with its rules in a row."""
    return Layout(name, rules, hint, avoid)


def repack(split: str, folder: str) -> Rule:
    """``train/GoPro/input`` and ``target``: the folders of Restormer and of those who follow it."""
    names = f"{{split:{split}}}/{folder}"
    return Rule(f"{names}/{{:input|input_crops}}/{{stem}}", f"{names}/{{:target|target_crops}}/{{stem}}")
