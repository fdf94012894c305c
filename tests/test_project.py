"""The files that the project is built by say the same."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_make_installs_for_each_purpose_what_the_project_names_for_it():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    named = [[one.partition(";")[0] for one in groups[group]] for group in ("dev", "fuzz", "docs", "bench")]
    rules = re.findall(r'pip install .*?(".*")', (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert [re.findall(r'"(.+?)"', rule) for rule in rules] == named
