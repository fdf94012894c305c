"""Every refusal has a code, every code a sentence, a line in the reference and a test that expects it."""

import ast
import re
from pathlib import Path

import pytest

from dealtrail.domain.errors import SENTENCES, error

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "docs" / "reference.md"
ROW = re.compile(r"^\| *`(\w+)` *\|", re.MULTILINE)
# This file expects none, and the naive model's tests are about another program.
ELSEWHERE = {"test_refusal_codes.py", "test_naive_model.py"}


def quoted(source):
    """The texts that a module quotes, but for the names of events: one of them is spelled as a code."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    events = {id(argument) for call in calls if call.func.attr == "then" for argument in call.args}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in events)
    return {node.value for node in texts if isinstance(node.value, str)}


def expected():
    """The codes that some test of the package expects."""
    files = (file for file in HERE.glob("test_*.py") if file.name not in ELSEWHERE)
    return set().union(*(quoted(file.read_text(encoding="utf-8")) for file in files)) & set(SENTENCES)


def documented():
    """The codes in the tables of the sections about refusals; other sections have tables of other things."""
    text = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
    about = (section for section in sections if re.match(r".*(refusal|error)", section, re.IGNORECASE))
    return {code for section in about for code in ROW.findall(section)}


def test_every_code_is_expected_by_some_test():
    assert set(SENTENCES) - expected() == set()


def test_every_code_stands_in_the_reference_and_no_other_does():
    assert documented() == set(SENTENCES)


def test_codes_are_in_snake_case():
    assert [code for code in SENTENCES if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


def test_an_error_carries_its_code_its_field_and_its_facts():
    refusal = error("deal_not_open", "deal", deal="D-1", status="lost")
    assert (refusal.code, refusal.field, refusal.facts) == ("deal_not_open", "deal", {"deal": "D-1", "status": "lost"})
    assert str(refusal) == "deal_not_open: deal D-1 is lost; reopen it first"


def test_a_code_that_is_not_in_the_table_is_no_code():
    with pytest.raises(KeyError):
        error("no_such_code")
