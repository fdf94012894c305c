"""OpenTelemetry: what is told where a provider is set, and that nothing breaks or is told where none is."""

import subprocess
import sys
import threading
from datetime import timedelta
from time import monotonic, sleep

import pytest
from given import B2B, code_of, move, on, opening
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dealtrail import Trail

NOW = on(100)


@pytest.fixture(scope="module")
def exporter():
    """A provider of spans, which a process can set once; other tests of the process end their spans there too."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    yield kept
    kept.shutdown()


@pytest.fixture(scope="module")
def reader():
    kept = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([kept], shutdown_on_exit=False))
    return kept


@pytest.fixture
def spans(exporter):
    """The exporter, which keeps the spans that end, oldest first."""
    exporter.clear()
    return exporter


@pytest.fixture
def measured(reader):
    """The points of a metric: attributes and the point."""

    def points(name):
        data = reader.get_metrics_data()
        scopes = [scope for of in (data.resource_metrics if data else ()) for scope in of.scope_metrics]
        found = [
            one for scope in scopes if scope.scope.name == "dealtrail" for one in scope.metrics if one.name == name
        ]
        return [(dict(point.attributes), point) for one in found for point in one.data.data_points]

    return points


@pytest.fixture
def clock():
    return {"now": NOW}


@pytest.fixture
def trail(tmp_path, clock):
    with Trail.open(tmp_path / "sales.db", clock=lambda: clock["now"]) as one:
        one.record_all([B2B, opening(2)])
        yield one


def names(spans):
    return [span.name.removeprefix("dealtrail.") for span in spans.get_finished_spans()]


def test_recording_is_a_span_and_the_wait_for_the_lock_a_part_of_it(trail, spans):
    spans.clear()
    trail.record(move(3, "qualified"))
    wait, record = spans.get_finished_spans()
    assert (wait.name, record.name) == ("dealtrail.wait_for_lock", "dealtrail.record")
    assert wait.parent.span_id == record.context.span_id
    assert record.start_time <= wait.start_time <= wait.end_time <= record.end_time
    assert dict(record.attributes) == {"dealtrail.store": trail.status().path}


def test_a_question_is_a_span_and_what_it_takes_to_catch_up_a_part_of_it(trail, spans):
    spans.clear()
    trail.pipeline_report("b2b")
    rebuild, report = spans.get_finished_spans()
    assert (rebuild.name, report.name) == ("dealtrail.rebuild", "dealtrail.pipeline_report")
    assert rebuild.parent.span_id == report.context.span_id
    trail.record(move(3, "qualified"))
    spans.clear()
    found = trail.funnel_report("b2b", cohort="2026")
    trail.deals(found)
    trail.deal("D")
    trail.list_deals("b2b")
    assert names(spans) == ["catch_up", "funnel_report", "deals", "deal", "list_deals"]


def test_a_span_of_the_host_is_the_parent(trail, spans):
    with trace.get_tracer("host").start_as_current_span("request") as request:
        trail.record(move(3, "qualified"))
        trail.deal("D")
    parents = {span.name: span.parent and span.parent.span_id for span in spans.get_finished_spans()}
    assert parents["dealtrail.record"] == parents["dealtrail.deal"] == request.get_span_context().span_id


def test_while_a_run_is_read_its_reader_is_in_no_span_of_ours(trail, spans):
    run = trail.record_each([move(3, "qualified"), move(4, "proposal")], atomic=True)
    next(run)
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(list(run)) == 1
    assert names(spans)[-1] == "record"


def test_a_refusal_gives_its_code_and_none_of_its_words(trail, spans):
    spans.clear()
    assert code_of(trail.move_deal, "Ann Smith", "qualified") == "unknown_deal"
    record = spans.get_finished_spans()[-1]
    assert record.attributes["error.type"] == "unknown_deal"
    assert record.status.status_code is trace.StatusCode.ERROR
    assert "Ann Smith" not in record.to_json()
    assert code_of(trail.pipeline_report, "b3b") == "unknown_pipeline"
    assert spans.get_finished_spans()[-1].attributes["error.type"] == "unknown_pipeline"


def test_durations_and_events_are_counted(trail, measured):
    def count(operation):
        return sum(p.count for told, p in measured("dealtrail.duration") if told["dealtrail.operation"] == operation)

    def events():
        return sum(point.value for _, point in measured("dealtrail.events"))

    operations = ("record", "wait_for_lock", "pipeline_report", "rebuild", "catch_up")
    before, recorded = {name: count(name) for name in operations}, events()
    trail.record_all([opening(2, deal="E"), opening(2, deal="F")])
    trail.pipeline_report("b2b")
    trail.record(move(3, "qualified"))
    trail.pipeline_report("b2b")
    list(trail.record_each([move(4, "proposal")], dry_run=True))
    after = {name: count(name) - before[name] for name in operations}
    assert after == {"record": 3, "wait_for_lock": 3, "pipeline_report": 2, "rebuild": 1, "catch_up": 1}
    assert events() - recorded == 3


def test_a_refusal_is_counted_by_its_code(trail, measured):
    assert code_of(trail.deal, "nobody") == "unknown_deal"
    told = [told for told, _ in measured("dealtrail.duration")]
    assert {"dealtrail.operation": "deal", "error.type": "unknown_deal"} in told


def test_the_lag_of_every_open_store_is_read_when_metrics_are_collected(trail, measured, clock, tmp_path):
    def lag(name):
        return {told["dealtrail.store"]: point.value for told, point in measured(f"dealtrail.lag.{name}")}

    path = trail.status().path
    trail.pipelines()
    assert (lag("events")[path], lag("seconds")[path]) == (0, 0)
    trail.record(move(3, "qualified"))
    clock["now"] += timedelta(seconds=30)
    trail.record(move(4, "proposal"))
    other = tmp_path / "other.db"
    with Trail.open(other, clock=lambda: NOW) as second:
        second.record(B2B)
        assert (lag("events")[path], lag("events")[str(other)]) == (2, 1)
        assert lag("seconds")[path] == pytest.approx(30, abs=0.001)
    assert str(other) not in lag("events")


def test_a_wait_behind_another_writer_is_in_the_duration(trail, spans):
    holding, held = threading.Event(), threading.Event()

    def source():
        yield move(3, "qualified")
        held.set()
        holding.wait(10)

    writer = threading.Thread(target=lambda: list(trail.record_each(source(), atomic=True)))
    writer.start()
    held.wait(10)
    spans.clear()
    waiter = threading.Thread(target=trail.record, args=(move(4, "proposal"),))
    began = monotonic()
    waiter.start()
    sleep(0.05)
    held_for = monotonic() - began
    holding.set()
    writer.join()
    waiter.join()
    waits = [
        span.end_time - span.start_time for span in spans.get_finished_spans() if span.name == "dealtrail.wait_for_lock"
    ]
    assert len(waits) == 1
    assert waits[0] / 1e9 > held_for / 2


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from dealtrail import Trail
from dealtrail.store import telemetry
assert not telemetry.installed
with Trail.open(":memory:") as trail:
    trail.define_pipeline("b2b", [{"key": "lead", "name": "Lead", "probability": 0.1}])
    print(trail.pipeline_report("b2b").total.deals)
"""
NO_PROVIDER = """
from opentelemetry import trace
from dealtrail import Trail
from dealtrail.asking import AskStatus
with Trail.open(":memory:") as trail:
    trail.define_pipeline("b2b", [{"key": "lead", "name": "Lead", "probability": 0.1}])
    with trail._asked(AskStatus()) as work:
        assert work._span is None
    print(trail.pipeline_report("b2b").total.deals)
"""


@pytest.mark.parametrize("program", [WITHOUT, NO_PROVIDER], ids=["no API", "no provider"])
def test_without_the_api_or_a_provider_all_goes_on_and_no_span_is_made(program):
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
