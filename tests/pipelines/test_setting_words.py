"""Every setting says what it is, in which unit, and what is taken where it is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from pipelines.sections import base
from pipelines.settings import Settings

UNITS = re.compile(
    r"basis points|fraction|USD|per cent|seconds|hours|gas units|number|port|how long|time between|length|gap|history|"
    r"older|later|day|hour",
    re.IGNORECASE,
)


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def fields() -> dict[str, tuple[str, Any]]:
    """Return (description, annotation) of every field of every section, by class and name."""
    found, todo = {}, [Settings]
    while todo:
        model = todo.pop()
        for name, field in model.model_fields.items():
            known = f"{model.__name__}.{name}" in found
            found[f"{model.__name__}.{name}"] = field.description or "", field.annotation
            todo += [] if known else [*sections(field.annotation)]
    return found


FIELDS = fields()


def kinds(annotation: Any) -> set[Any]:
    inside = set().union(*(kinds(part) for part in get_args(annotation))) if get_args(annotation) else set()
    return inside | {annotation} if isinstance(annotation, type) else inside


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_says_in_a_sentence_what_it_is(name):
    said, annotation = FIELDS[name]
    assert len(said) > 10, "has no description"
    assert said.endswith("."), said
    assert "  " not in said
    if kinds(annotation) & {int, float} and not name.endswith((".start", ".v3_ids")):
        assert UNITS.search(said), f"no unit: {said}"


def test_sections_of_one_kind_only():
    """All are frozen and refuse what they do not know."""
    for name in {full.split(".")[0] for full in FIELDS}:
        assert name
    for model in {m for _, annotation in FIELDS.values() for m in sections(annotation)}:
        assert model.model_config["frozen"], model
        assert model.model_config["extra"] == "forbid", model
        assert model.__doc__ != base.Section.__doc__, model
