"""Whatever comes in at the door: a code and a short sentence where it is bad, and nothing of it recorded."""

import enum
import json
from collections import OrderedDict, UserDict
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

import msgspec
import pytest
from given import B2B, NOW, amend, code_of, define, euro, given, log, lose, on, opening, redefine, retract, stage

from dealtrail import DealtrailError, Draft, Money, Trail, parse_json
from dealtrail.domain.events import DealOpened
from dealtrail.store import mapper
from dealtrail.store.recorder import LogEvent

LONG = "x" * 10_000_000
HUGE = 10**5000  # Python itself refuses to write so many digits


def nested(depth, wrap):
    found = "core"
    for _ in range(depth):
        found = wrap(found)
    return found


DEEP_LIST = nested(100_000, lambda inner: [inner])
DEEP_MAP = nested(100_000, lambda inner: {"a": inner})


class Name(str):
    """A text of another kind."""


class Count(int):
    """A number of another kind."""


class Stage(enum.StrEnum):
    LEAD = "lead"


class Verb(str, enum.Enum):  # noqa: UP042  the older way, which says something else when it is shown
    OPEN = "open_deal"


class Loose(enum.Enum):
    LEAD = "lead"


class Stamp(datetime):
    """A time that counts nanoseconds, as those of data frames do."""

    nanosecond = 5


def past():
    return given(B2B, opening(1))


def refused(action, code):
    """Refused with the code and a short message that can be printed, and nothing is recorded."""
    refusal = past().when(action).refused(code).refusal
    assert len(str(refusal)) < 400
    assert str(refusal).encode()
    return refusal


# Kinds of Python values


@pytest.mark.parametrize(
    "action",
    [
        OrderedDict(opening(2, deal="E")),
        UserDict(opening(2, deal="E")),
        MappingProxyType(opening(2, deal="E")),
        opening(2, deal=Name("E")),
        opening(2, deal="E") | {"action": Verb.OPEN},
        opening(2, deal="E", stage=Stage.LEAD),
        opening(2, deal="E", pipeline=Name("b2b"), owner=None),
        opening(2, deal="E") | {Name("stage"): "lead"},
    ],
    ids=repr,
)
def test_what_holds_a_text_or_a_map_is_taken_for_it(action):
    found = past().when(action).then("deal_opened", stage="lead", pipeline="b2b")
    assert type(found.new[0].data["stage"]) is str
    assert type(found.new[0].deal) is str
    assert found.deal("E").stage == "lead"


def test_numbers_of_other_kinds_are_taken_for_what_they_hold():
    found = past().when(opening(2, deal="E", attributes={"seats": Count(5)})).then("deal_opened")
    assert found.deal("E").attributes == {"seats": 5}
    assert found.when(retract(Count(1), deal="E")).refused("is_opening")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"deal": b"E"}, "invalid_deal"),
        ({"deal": 5}, "invalid_deal"),
        ({"deal": Loose.LEAD}, "invalid_deal"),
        ({"stage": Loose.LEAD}, "invalid_key"),
        ({"stage": ["lead"]}, "invalid_key"),
        ({"owner": True}, "invalid_field"),
        ({"owner": b"anna"}, "invalid_field"),
        ({"title": 5}, "invalid_field"),
        ({"attributes": [("a", 1)]}, "invalid_field"),
        ({"attributes": {"a": b"x"}}, "invalid_field"),
        ({"attributes": {"a": [1]}}, "invalid_field"),
        ({"attributes": {"a": {"b": 1}}}, "invalid_field"),
        ({"attributes": {"a": Decimal("0.1234567890123456789")}}, "invalid_field"),
        ({"attributes": {"a": float("nan")}}, "invalid_field"),
        ({"attributes": {"a": float("-inf")}}, "invalid_field"),
        ({"attributes": {"a": 2**63}}, "invalid_field"),
        ({"attributes": {"a": HUGE}}, "invalid_field"),
        ({"attributes": {1: "x"}}, "invalid_field"),
        ({"attributes": {"": "x"}}, "invalid_field"),
        ({"expected_version": False}, "invalid_field"),
        ({"expected_version": 1.0}, "invalid_field"),
        ({"expected_version": HUGE}, "invalid_field"),
        ({"expected_version": -1}, "invalid_field"),
        ({"personal": {"name": 5}}, "invalid_field"),
        ({"value": []}, "invalid_field"),
        ({"value": 5}, "invalid_field"),
        ({"expected_close": on(5)}, "invalid_time"),
        ({"at": Stamp(2026, 1, 2, tzinfo=UTC)}, "invalid_time"),
        ({5: "x"}, "invalid_field"),
        ({None: "x"}, "invalid_field"),
        ({("a",): "x"}, "invalid_field"),
    ],
    ids=lambda one: one if isinstance(one, str) else str(next(iter(one))),
)
def test_a_value_of_a_wrong_kind_is_refused(fields, code):
    refused(opening(2, deal="E") | fields, code)


@pytest.mark.parametrize("action", [None, 5, [], "open_deal", b"{}", bytearray(b"{}"), '{"action": "open_deal"}'])
def test_what_is_no_object_is_no_action(action):
    refused(action, "invalid_field")


@pytest.mark.parametrize("actions", [None, 5])
def test_what_is_no_list_is_no_batch(actions):
    kept = past()
    for trail in (kept.trail, kept.trail.acting("anna")):
        assert code_of(trail.record_all, actions) == "invalid_field"
        assert code_of(lambda trail=trail: list(trail.record_each(actions))) == "invalid_field"
        assert code_of(lambda trail=trail: list(trail.record_each(actions, dry_run=True))) == "invalid_field"


@pytest.mark.parametrize("name", [5, ["open_deal"], "", "Open_Deal", "open_deal\0", "\ud800", Loose.LEAD])
def test_what_is_no_name_of_an_action_is_refused(name):
    refused(opening(2) | {"action": name}, "unknown_action")


# Money


@pytest.mark.parametrize(
    "amount",
    [
        *(Decimal(text) for text in ("NaN", "sNaN", "Infinity", "1E+999999", "1E-999999", "1E+999999999")),
        *("1_0", "١٢", "१.५", "1２", "½", "1e5", "+5", " 5", "0x10", "1,5", "1.0000001", "9" * 16, LONG),
        *("1" * 10_000_000, b"1", 1.0, HUGE, True, Loose.LEAD),
    ],
    ids=lambda amount: type(amount).__name__,
)  # fmt: skip
def test_what_is_no_plain_decimal_is_no_amount(amount):
    refused(opening(2, deal="E", value={"amount": amount, "currency": "EUR"}), "invalid_amount")


@pytest.mark.parametrize("amount", [1.5, "x", None, Decimal("NaN"), Decimal("1E+999999999")], ids=repr)
def test_money_with_no_decimal_in_it_is_no_amount(amount):
    refused(opening(2, deal="E", value=Money(amount, "EUR")), "invalid_amount")


def test_an_amount_that_is_nested_deeply_is_no_amount():
    refused(opening(2, deal="E", value={"amount": DEEP_LIST, "currency": "EUR"}), "invalid_amount")


@pytest.mark.parametrize(
    "currency", [LONG, "\ud800", "EU\0", b"EUR", ["EUR"], {"EUR": 1}, "ＥＵＲ"], ids=lambda c: repr(c)[:9]
)
def test_what_is_no_code_is_no_currency(currency):
    refused(opening(2, deal="E", value={"amount": "1", "currency": currency}), "unknown_currency")


@pytest.mark.parametrize(("name", "code"), [(5, "invalid_field"), ("\ud800", "invalid_field"), (LONG, "unknown_field")])
def test_money_has_no_other_field(name, code):
    refused(opening(2, deal="E", value={**euro(1), name: 1}), code)


@pytest.mark.parametrize("code", ["HRK", "BGN", "DEM"])
def test_an_event_in_a_currency_that_was_withdrawn_since_stays_readable_and_is_reported(tmp_path, code):
    """As its day's version of the package recorded it: through the mapper, past today's door."""
    with Trail.open(tmp_path / "sales.db", clock=lambda: NOW) as trail:
        trail.record(B2B)
        topic, state = mapper.encode(
            DealOpened("b2b", 1, "lead", "old", Money(Decimal("100.555"), code), None, None, None, {})
        )
        at = (on(2) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000
        now = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000
        event = LogEvent("deal:old", 1, topic, state, occurred_at=int(at), recorded_at=int(now) + 1, clock_behind_us=1)
        trail._log.recorder.insert_events([event])
        # 100.555 at a probability of one half is 50.2775; both to two digits, half to even.
        assert trail.pipeline_report("b2b").stages[0].value == {code: Decimal("100.56")}
        assert trail.pipeline_report("b2b").stages[0].weighted_value == {code: Decimal("50.28")}
        assert trail.deal("old").value == Money(Decimal("100.555"), code)
        assert trail.funnel_report("b2b", cohort="2026", where={"currency": code}).total.cohort == 1
        assert trail.move_deal("old", "qualified").version == 2  # and the deal goes on
        assert code_of(trail.change_value, "old", {"amount": "1", "currency": code}) == "unknown_currency"
        assert trail.change_value("old", euro(5)).version == 3


# Long, deep and strange


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"deal": LONG}, "invalid_deal"),
        ({"deal": ""}, "invalid_deal"),
        ({"deal": "x" * 256}, "invalid_deal"),
        ({"deal": "a\0b"}, "invalid_deal"),
        ({"deal": "a\nb"}, "invalid_deal"),
        ({"deal": "a\ud800b"}, "invalid_deal"),
        ({"pipeline": LONG}, "invalid_key"),
        ({"pipeline": ""}, "invalid_key"),
        ({"pipeline": "a" * 65}, "invalid_key"),
        ({"pipeline": "-a"}, "invalid_key"),
        ({"pipeline": "B2B"}, "invalid_key"),
        ({"pipeline": "é"}, "invalid_key"),
        ({"stage": LONG}, "invalid_key"),
        ({"stage": ""}, "invalid_key"),
        ({"stage": "le ad"}, "invalid_key"),
        ({"id": LONG}, "invalid_field"),
        ({"id": ""}, "invalid_field"),
        ({"by": LONG}, "invalid_field"),
        ({"by": "\ud800"}, "invalid_field"),
        ({"owner": LONG}, "invalid_field"),
        ({"owner": ""}, "invalid_field"),
        ({"title": LONG}, "invalid_field"),
        ({"title": "a\0"}, "invalid_field"),
        ({"title": "\udfff"}, "invalid_field"),
        ({"personal": {LONG: "x"}}, "invalid_field"),
        ({"personal": {"\ud800": "x"}}, "invalid_field"),
        ({"personal": {"a": "\0"}}, "invalid_field"),
        ({"attributes": {LONG: 1}}, "invalid_field"),
        ({"attributes": {"a": LONG}}, "invalid_field"),
        ({"attributes": {"\ud800": 1}}, "invalid_field"),
        ({"attributes": {"a": "\0"}}, "invalid_field"),
        ({"attributes": {"a": "\ud800"}}, "invalid_field"),
        ({"attributes": {str(n): n for n in range(501)}}, "invalid_field"),
        ({"at": LONG}, "invalid_time"),
        ({"at": "\ud800"}, "invalid_time"),
        ({"expected_close": LONG}, "invalid_time"),
        ({LONG: 1}, "unknown_field"),
        ({"\0": 1}, "unknown_field"),
        ({"\ud800": 1}, "invalid_field"),
        ({"action": LONG}, "unknown_action"),
    ],
    ids=lambda one: ascii(one)[:30],
)
def test_a_text_that_is_too_long_or_that_no_file_holds_is_refused(fields, code):
    refused(opening(2, deal="E") | fields, code)


def test_a_reason_that_is_too_long_is_refused():
    refused(lose(2, reason=LONG), "invalid_field")
    refused(retract(1, reason=LONG), "invalid_field")
    refused(retract(1, reason=""), "invalid_field")


@pytest.mark.parametrize(
    "deal", ["a/../b", "../../etc/passwd", "🤝💶", "x" * 255, "'; DROP TABLE event; --", "%00", " "]
)
def test_a_deal_may_be_called_anything_that_can_be_read(deal):
    found = past().when(opening(2, deal=deal)).then("deal_opened")
    assert [view.deal for view in found.trail.list_deals("b2b", after="D", sort="deal")] + [deal] in (
        [deal, deal], [deal],
    )  # fmt: skip
    assert found.deal(deal).deal == deal
    assert found.trail.history(deal)[0].deal == deal


@pytest.mark.parametrize("deep", [DEEP_LIST, DEEP_MAP], ids=["list", "map"])
@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("deal", "invalid_field"),
        ("attributes", "invalid_field"),
        ("personal", "invalid_field"),
        ("action", "invalid_field"),
        ("at", "invalid_time"),
        ("nothing", "invalid_field"),
    ],
)
def test_what_is_nested_deeply_is_refused(deep, field, code):
    refused(opening(2, deal="E") | {field: deep}, code)


@pytest.mark.parametrize("more", [{}, {"id": "i1"}], ids=["without id", "with id"])
@pytest.mark.parametrize(
    "action",
    [
        redefine(2, "lead", "qualified", "proposal", back=["\ud800"]),
        redefine(2, "lead", "qualified", "proposal", skip="\ud800"),
        redefine(2, stage("lead", name="\ud800")),
        amend(1, skip="\udcff"),
        amend(1, owner="\ud800"),
    ],
    ids=["back", "skip", "stage", "amend", "owner"],
)
def test_half_a_character_in_a_definition_or_an_amendment_is_refused(action, more):
    kept = past()
    assert code_of(kept.trail.record, action | more) in (*("invalid_field", "unknown_field", "unknown_stage"),)


@pytest.mark.parametrize("deep", [DEEP_LIST, DEEP_MAP], ids=["list", "map"])
def test_a_definition_that_is_nested_deeply_is_refused(deep):
    refused(define(pipeline="p") | {"stages": deep}, "invalid_field")
    refused(define(pipeline="p") | {"stages": [deep]}, "invalid_field")
    refused(redefine(2, "lead", "qualified", "proposal", moves=deep), "invalid_field")
    refused(amend(1, changes=deep), "invalid_field")
    kept = past()
    assert code_of(kept.trail.pipeline_report, "b2b", definition=Draft(deep)) == "invalid_field"
    assert code_of(kept.trail.pipeline_report, "b2b", definition={"stages": deep}) == "invalid_field"


@pytest.mark.parametrize("depth", [5, 12, 300, 600, 900], ids=str)
def test_a_definition_that_is_nested_less_deeply_is_refused_too(depth):
    """Not so deep that every reader gives up: one reader does and another does not."""
    kept = past()
    for deep in (nested(depth, lambda inner: [inner]), nested(depth, lambda inner: {"a": inner})):
        for stages in ([deep], [stage("lead") | {"actions": deep}], [stage("lead") | {"name": deep}]):
            assert code_of(kept.trail.pipeline_report, "b2b", definition={"stages": stages}) in (
                "invalid_field", "missing_field", "unknown_field",
            )  # fmt: skip


@pytest.mark.parametrize(
    "probability",
    ["NaN", "Infinity", "-0.1", "1.1", "1e-1", "0_0.5", "٠.٥", " 0.5", "0,5", "", True, None, float("nan"), 2, HUGE,
     Decimal("sNaN"), "0." + "1" * 1_000_000, [0.5]],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_what_is_no_share_is_no_probability(probability):
    refusal = past().when(define({**stage("lead"), "probability": probability}, pipeline="p")).refusal
    assert refusal.code in ("invalid_field", "missing_field")
    assert (refusal.code == "missing_field") == (probability is None)


@pytest.mark.parametrize(
    "value", ["1e5", "1_0", "١", " 5", "NaN", "1e999999999", HUGE, "", True, [1]], ids=lambda v: str(type(v))
)
def test_a_condition_compares_the_value_with_a_plain_decimal(value):
    rules = [{"when": {"field": "value", "op": "ge", "value": value}, "to": "lead"}, {"to": "lead"}]
    refusal = past().when(redefine(2, "lead", "qualified", moves={"proposal": rules})).refusal
    assert refusal.code == ("invalid_field" if value is HUGE else "invalid_condition")


# JSON


def test_an_action_comes_in_as_json_text():
    text = json.dumps({"action": "open_deal", "pipeline": "b2b", "deal": "é", "value": euro("1.50")})
    for form in (text, text.encode(), bytearray(text.encode())):
        assert past().when(parse_json(form)).then("deal_opened").deal("é").value == Money(Decimal("1.50"), "EUR")


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"[]", b"[{}]", b"null", b"5", b'"x"', b"true", b"{'a': 1}", b'{"a": 1,}', b'{"a": 01}',
        b'{"a": 1} x', b'{"a": 1}{"b": 2}', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": .5}',
        b'{"a": "x\ny"}', b'{"a": "\\x"}', b"\xff", b'{"a": "\xc3"}', b'{"a": "\xed\xa0\x80"}', b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"), "{}".encode("utf-32"), b'{"a": ' + b"1" * 5000 + b"}", b"[" * 200_000,
        b'{"a": ' * 200_000, b"x" * 10_000_000, b"\x89PNG\r\n\x1a\n", b"\0", None, 5, HUGE, [], {},
    ],
    ids=lambda text: ascii(text)[:20] if text is not HUGE else "huge",
)  # fmt: skip
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(DealtrailError) as caught:
        parse_json(text)
    assert (caught.value.code, len(str(caught.value)) < 400) == ("invalid_json", True)


@pytest.mark.parametrize(
    "text",
    [
        '{"action": "open_deal", "action": "open_deal"}',
        '{"deal": "D", "\\u0064eal": "E"}',
        '{"value": {"amount": "1", "currency": "EUR", "amount": "2"}}',
        '{"stages": [{"key": "a", "key": "b"}]}',
        '{"' + LONG + '": 1, "' + LONG + '": 1}',
        "{" + ", ".join(f'"{n}": 1' for n in range(100_000)) + ', "99999": 1}',
    ],
    ids=lambda text: text[:40],
)
def test_a_key_that_stands_twice_in_one_object_is_refused(text):
    with pytest.raises(DealtrailError) as caught:
        parse_json(text)
    assert (caught.value.code, len(str(caught.value)) < 400) == ("duplicate_key", True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"action": "open_deal", "pipeline": "b2b", "deal": "\\ud800"}', "invalid_deal"),
        ('{"action": "open_deal", "pipeline": "b2b", "deal": "\\u0000"}', "invalid_deal"),
        ('{"action": "open_deal", "pipeline": "b2b", "attributes": {"a": 1e999}}', "invalid_field"),
        ('{"action": "open_deal", "pipeline": "b2b", "value": {"amount": 1.5, "currency": "EUR"}}', "invalid_amount"),
        ('{"action": "open_deal", "pipeline": "b2b", "valeu": null}', "unknown_field"),
        ('{"action": "open_deal", "pipeline": "b2b", "at": "2026-01-05"}', "bare_date"),
        ('{"action": "open_deal", "pipeline": "b2b", "at": "2026-01-05T10:00:00"}', "naive_time"),
        ('{"action": "open_deal", "pipeline": "b2b", "at": "2026-01-05T10:00:00.000000001Z"}', "invalid_time"),
        ('{"action": "open_deal", "pipeline": "b2b", "at": "2999-01-05T10:00:00Z"}', "future_time"),
        ("{}", "missing_field"),
    ],
)
def test_what_json_lets_through_the_door_of_actions_refuses(text, code):
    refused(parse_json(text), code)


# Questions


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"cohort": "2026-Q5"}, "invalid_period"),
        ({"cohort": "2026-W60"}, "invalid_period"),
        ({"cohort": "2026-03-01..2026-01-01"}, "invalid_period"),
        ({"cohort": "2026-03-01..2026-03-01"}, "invalid_period"),
        ({"cohort": LONG}, "invalid_period"),
        ({"cohort": None}, "invalid_period"),
        ({"definition": 99}, "unknown_definition"),
        ({"definition": 0}, "unknown_definition"),
        ({"definition": HUGE}, "unknown_definition"),
        ({"definition": True}, "invalid_field"),
        ({"definition": 1.0}, "invalid_field"),
        ({"definition": LONG}, "invalid_field"),
        ({"tz": LONG}, "invalid_tz"),
        ({"tz": None}, "invalid_tz"),
        ({"tz": ["UTC"]}, "invalid_tz"),
        ({"tz": "U\0TC"}, "invalid_tz"),
        ({"tz": "\ud800"}, "invalid_tz"),
        ({"group_by": 5}, "invalid_group_by"),
        ({"group_by": [["owner"]]}, "invalid_group_by"),
        ({"group_by": "attributes.\ud800"}, "invalid_group_by"),
        ({"group_by": "attributes." + LONG}, "invalid_group_by"),
        ({"where": ["owner"]}, "invalid_where"),
        ({"where": {5: "x"}}, "invalid_where"),
        ({"where": {"owner": DEEP_LIST}}, "invalid_where"),
        ({"where": {"owner": b"x"}}, "invalid_where"),
        ({"where": {"owner": "\ud800"}}, "invalid_where"),
        ({"where": {"attributes.\ud800": "x"}}, "invalid_where"),
        ({"where": {"attributes.a": HUGE}}, "invalid_where"),
        ({"as_of": DEEP_LIST}, "invalid_time"),
        ({"as_of": True}, "invalid_time"),
        ({"known_at": LONG}, "invalid_time"),
        ({"within": float("nan")}, "invalid_field"),
        ({"within": HUGE}, "invalid_field"),
        ({"within": "5"}, "invalid_field"),
        ({"fiscal_year_start": HUGE}, "invalid_field"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else one,
)
def test_a_bad_question_is_refused(question, code):
    kept = past()
    with pytest.raises(DealtrailError) as caught:
        kept.trail.funnel_report("b2b", **{"cohort": "2026", **question})
    assert (caught.value.code, len(str(caught.value)) < 500) == (code, True)
    assert str(caught.value).encode()


ODD = [None, 5, [], LONG, "\ud800", "a\0", b"D", HUGE]


@pytest.mark.parametrize("odd", ODD, ids=lambda one: "huge" if one is HUGE else ascii(one)[:9])
def test_odd_names_in_a_question_are_refused(odd):
    kept = past()
    trail = kept.trail
    assert code_of(trail.pipeline_report, odd) == "unknown_pipeline"
    assert (
        code_of(trail.deal, odd) == code_of(trail.history, odd) == ("missing_field" if odd is None else "invalid_deal")
    )
    assert code_of(trail.list_deals, "b2b", sort=odd) == "invalid_field"
    if odd is not None:
        assert code_of(trail.list_deals, "b2b", after=odd) == "invalid_field"
        assert code_of(trail.list_deals, "b2b", status=odd) == "invalid_field"
        assert code_of(trail.list_deals, "b2b", stage=odd) == "unknown_stage"
    if odd not in (5, HUGE):
        assert code_of(trail.list_deals, "b2b", limit=odd) == "invalid_field"
    if odd != 5:
        assert code_of(lambda: list(trail.follow(odd))) == ("missing_field" if odd is None else "invalid_field")


def test_odd_cells_of_a_report_are_refused():
    kept = past()
    trail = kept.trail
    report = trail.pipeline_report("b2b")
    assert code_of(trail.deals, 5) == "invalid_field"
    for cell in ({"group": 5}, {"group": ["owner"]}, {"field": 5}, {"field": "\ud800"}):
        assert code_of(trail.deals, report, **cell) == "invalid_field"
    assert code_of(trail.deals, report, stage=[]) == "unknown_stage"


def test_an_error_can_be_shown_whatever_came_in():
    for odd in ODD:
        refusal = past().when(log(2, deal="E", kind=odd)).refusal
        assert len(str(refusal).encode()) < 400


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"pipeline": "care"}, "unknown_pipeline"),
        ({"pipeline": "'; DROP TABLE event; --"}, "unknown_pipeline"),
        ({"as_of": "2026-01-05T10:00:00"}, "naive_time"),
        ({"known_at": "2026-01-05T10:00:00"}, "naive_time"),
        ({"position": -1}, "invalid_field"),
        ({"position": 2**70}, "invalid_field"),
        ({"question": {}}, "missing_field"),
        ({"question": {"definition": "as_of", "group_by": [], "where": None}}, "missing_field"),
    ],
    ids=str,
)
def test_a_report_that_was_changed_since_it_was_given_is_refused(changed, code):
    trail = past().trail
    for report in (trail.pipeline_report("b2b"), trail.funnel_report("b2b", cohort="2026")):
        read_back = json.loads(msgspec.json.encode(report))
        assert [view.deal for view in trail.deals(read_back)] == ["D"]
        assert code_of(trail.deals, read_back | changed) == code


@pytest.mark.parametrize(
    "path",
    [5, HUGE, "lead", [5], [HUGE], ["lead", b"x"], {"lead": 1}, ["nowhere"]],
    ids=lambda path: ascii(path)[:20] if path is not HUGE and path != [HUGE] else "huge",
)
def test_what_is_no_path_of_stages_is_refused(path):
    trail = past().trail
    report = trail.conformance("b2b", cohort="2026")
    assert code_of(trail.deals, report, path=path) == "invalid_field"


@pytest.mark.parametrize(
    "line",
    [
        {"dealtrail": "log", "lines": 1, "log": "\ud800"},
        {"dealtrail": "log", "lines": 1, "log": "a\0b"},
        {"dealtrail": "log", "lines": 1, "log": ""},
        {"dealtrail": "log", "lines": 1, "log": "x" * 65},
        {"dealtrail": "log", "lines": 1, "log": "x", "\ud800": 1},
        {"dealtrail": "\ud800", "lines": 1},
        {"dealtrail": "history", "lines": "\ud800"},
    ],
    ids=ascii,
)
def test_a_header_that_no_backup_wrote_founds_no_store(tmp_path, line):
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps({"dealtrail": "end", "count": 0, "\ud800": 0}) + "\n")
    assert code_of(Trail.restore, tmp_path / "new.db", [file]) == "invalid_line"
    assert list(tmp_path.iterdir()) == [file]
