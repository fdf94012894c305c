"""Sales-process templates: ready definitions for sixteen ways to sell to businesses, one TOML file each."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from dealtrail.domain.definitions import Stage, parse_stages
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.reasons import Reasons, parse_reasons

__all__ = ["Template", "all_templates", "find_template"]

_SUFFIX = ".toml"


class Template(msgspec.Struct, frozen=True):
    """A sales process: for whom it is, how many days a deal usually takes (from, to), its stages and reasons."""

    key: str
    name: str
    for_whom: str
    cycle_days: tuple[int, int]
    stages: tuple[Stage, ...]
    reasons: Reasons

    def definition(self) -> dict[str, Any]:
        """The fields of `define_pipeline`: name, stages and reasons."""
        fields: dict[str, Any] = msgspec.to_builtins({field: getattr(self, field) for field in _OF_DEFINITION})
        return fields

    def as_toml(self) -> str:
        """A definition file to begin from, as `dealtrail define` reads it; what else the template says is a comment."""
        first, _, rest = _text(self.key).partition("for_whom")
        lines = rest.partition("cycle_days")[2].partition("\n")[2]
        told = f"# {self.for_whom}\n# Usual cycle: {self.cycle_days[0]} to {self.cycle_days[1]} days.\n"
        return told + first + lines


_OF_DEFINITION = ("name", "stages", "reasons")


def all_templates() -> list[Template]:
    """Every template, in the order of their keys."""
    return [find_template(key) for key in _keys()]


def find_template(key: str) -> Template:
    """The template of a key such as `inbound-saas`. Errors: unknown_template, which names the nearest."""
    if key not in _keys():
        raise error("unknown_template", "template", given=key, nearest=nearest(key, _keys()))
    held = tomllib.loads(_text(key))
    return Template(
        key=key,
        name=held["name"],
        for_whom=held["for_whom"],
        cycle_days=tuple(held["cycle_days"]),
        stages=parse_stages(held["stages"]),
        reasons=parse_reasons(held["reasons"]),
    )


@cache
def _keys() -> tuple[str, ...]:
    names = (file.name for file in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def _text(key: str) -> str:
    return files(__name__).joinpath(key + _SUFFIX).read_text(encoding="utf-8")
