"""Whatever comes in: nothing but a DealtrailError comes out, soon and in little memory, and a refusal changes nothing.

`make test` feeds some thousands of inputs, `make torture` a million, and then lets atheris look for more where it is
installed. What they found is listed in docs/trust.md.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import Structured
from hostile import KINDS, questions, unknown_parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dealtrail import DealtrailError

HERE = Path(__file__).parent
# How many of a million inputs go to what reads them.
SHARES = {
    "action": 250_000,
    "question": 150_000,
    "json": 150_000,
    "json_string": 100_000,
    "event": 150_000,
    "personal": 60_000,
    "mapping": 40_000,
    "csv": 40_000,
    "lines": 40_000,
    "restored": 10_000,
    "command": 10_000,
}
# Each refuses for many reasons, or it was not looked at in earnest.
CODES_AT_LEAST = {
    "action": 20,
    "question": 15,
    "json": 4,
    "json_string": 4,
    "lines": 3,
    "mapping": 3,
    "csv": 3,
    "restored": 3,
    "command": 5,
}
ATHERIS = {
    "json": 300_000,
    "event": 300_000,
    "personal": 200_000,
    "mapping": 30_000,
    "csv": 30_000,
    "lines": 50_000,
    "restored": 5_000,
    "command": 5_000,
}

drawn = given(st.randoms(use_true_random=False))
thorough = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def fuzz(folder, seed, wanted, *options, program=None):
    """A run of the fuzzers in a process of its own."""
    start = [HERE / "fuzzing.py"] if program is None else ["-c", program]
    words = [f"{target}={inputs}" for target, inputs in wanted.items()]
    command = [sys.executable, *map(str, start), str(folder), str(seed), *options, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=3_600)


def figures(run):
    """What a run that found nothing tells."""
    assert run.returncode == 0, run.stderr[-4_000:]
    told = json.loads(run.stdout)
    for target, of in told.items():
        assert sum(of["codes"].values()) == of["inputs"]
        assert of["codes"].get("accepted", 0) > 0, f"{target} takes nothing"
        assert len(of["codes"]) >= CODES_AT_LEAST.get(target, 1), f"{target} refuses for few reasons: {of['codes']}"
    return told


def test_some_thousands_of_inputs_are_taken_or_refused(tmp_path):
    wanted = {target: max(100, share // 200) for target, share in SHARES.items()}
    assert sum(wanted.values()) > 4_000
    assert figures(fuzz(tmp_path, 1, wanted)).keys() == SHARES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("target", SHARES)
def test_a_million_inputs_are_taken_or_refused(tmp_path, report_line, target):
    assert sum(SHARES.values()) == 1_000_000
    told = figures(fuzz(tmp_path, 2, {target: SHARES[target]}))[target]
    codes = ", ".join(f"{code} {count:,}" for code, count in told["codes"].items())
    report_line(f"{target}: {told['inputs']:,} inputs, {told['seconds']} s, the slowest {told['slowest']} s; {codes}")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", ATHERIS)
def test_atheris_finds_no_way_to_anything_but_a_refusal(tmp_path, report_line, target):
    run = fuzz(tmp_path, 3, {target: ATHERIS[target]}, "--atheris")
    assert run.returncode == 0, run.stdout[-2_000:] + run.stderr[-4_000:]
    told = dict(line.split(":", 1) for line in run.stderr.splitlines() if line.startswith("stat::"))
    report_line(f"atheris, {target}: {ATHERIS[target]:,} inputs, {run.stderr.splitlines()[-1]}; {told}")


@drawn
@thorough
def test_an_action_however_it_is_spoilt_is_recorded_or_refused(random):
    asked = Structured(random)
    asked.renew()
    for _ in range(5):
        _taken_or_refused(asked, "action")


@drawn
@thorough
def test_a_question_whatever_it_is_given_is_answered_or_refused(random):
    asked = Structured(random)
    asked.renew()
    for _ in range(3):
        _taken_or_refused(asked, "question")


def _taken_or_refused(asked, target):
    try:
        asked.feed(target, asked.draw(target))
    except DealtrailError as refusal:
        assert str(refusal).encode()
        assert len(str(refusal)) < 1_000


def test_the_fuzzer_knows_every_action_and_every_argument_of_a_question():
    """A new method is fuzzed without any more, if its arguments are known by their names; a new name is taught."""
    assert unknown_parameters() == set(), "say in tests/hostile.py what these may sensibly be"
    assert {"record", "record_each", "pipeline_report", "funnel_report", "deals", "list_deals", *KINDS} <= set(
        questions()
    )


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("while True: pass", "Hang"),
        ("raise dealtrail.DealtrailError('x', 'x' * 2000)", "2000 characters"),
    ],
)
def test_the_fuzzer_finds_what_it_looks_for(tmp_path, broken, told):
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import dealtrail, fuzzing, hostile_bytes\n"
        f"def broken(data):\n {broken}\n"
        "hostile_bytes.personal, fuzzing.HANG_SECONDS = broken, 0.2\n"
        "fuzzing.main()"
    )
    run = fuzz(tmp_path, 1, {"personal": 5}, program=program)
    assert run.returncode == 1
    assert told in run.stderr
