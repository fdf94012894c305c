"""Golden events: for each tag and version the very bytes that stores hold, to be read for ever.

A file of `golden` is named after its tag. `state` is the text as it is stored, `decoded` the event: its class and each
field as Python shows it. A file is added for a new version of a tag, or as `TAG+WHAT.json` for an optional field that
came later; one that stands there is never written again. A field that `decoded` does not name came later still: None.
"""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dealtrail import DealtrailError, Trail
from dealtrail.domain.events import Personal
from dealtrail.store import mapper

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
TAGS = {*mapper.TAGS.values(), *mapper.UPCASTERS}
VARIANTS = [
    pytest.param(golden["tag"], variant["state"].encode(), variant["decoded"], id=f"{golden['tag']}: {variant['what']}")
    for golden in (json.loads(path.read_text("utf-8")) for path in FILES)
    for variant in golden["variants"]
]


KINDS = {tag: kind for kind, tag in mapper.TAGS.items()}


def came_later(tag):
    """The fields that are left out of the stored text where they say nothing."""
    return {field.name for field in msgspec.structs.fields(KINDS[tag]) if field.default is None}


def code_of(call, *args):
    with pytest.raises(DealtrailError) as caught:
        call(*args)
    return caught.value.code


def test_every_tag_has_a_golden_file_and_every_golden_file_a_tag():
    assert {path.name.removesuffix(".json").partition("+")[0] for path in FILES} == TAGS


def test_a_golden_file_bears_the_name_of_its_tag_and_nothing_else_is_there():
    names = {path.name: json.loads(path.read_text("utf-8"))["tag"] for path in GOLDEN.iterdir()}
    assert {name: tag for name, tag in names.items() if "+" not in name} == {f"{tag}.json": tag for tag in TAGS}
    assert [name for name, tag in names.items() if "+" in name and not name.startswith(f"{tag}+")] == []


def test_every_optional_field_is_shown_given_and_absent():
    shown = {}
    for param in VARIANTS:
        tag, _, decoded = param.values
        for field in KINDS[tag].__struct_fields__:
            shown.setdefault((tag, field), set()).add(decoded.get(field, "None") == "None")
    optional = {
        (tag, field.name)
        for kind, tag in mapper.TAGS.items()
        for field in msgspec.structs.fields(kind)
        if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.UnionType)
        and msgspec.inspect.type_info(field.type).includes_none
    }
    # A first definition shares the terms of all definitions, but follows none whose reasons could become others.
    optional.remove(("pipeline_defined.1", "reason_moves"))
    assert {place for place in optional if shown[place] != {True, False}} == set()


def test_no_two_events_share_a_tag():
    assert len(set(mapper.TAGS.values())) == len(mapper.TAGS)


@pytest.mark.parametrize(("tag", "state", "decoded"), VARIANTS)
def test_a_golden_event_is_read_as_it_was_meant(tag, state, decoded):
    event = mapper.decode(tag, state)
    fields = {name: repr(getattr(event, name)) for name in event.__struct_fields__}
    later = dict.fromkeys(came_later(tag), "None")
    assert {"event": type(event).__name__} | fields == later | decoded


@pytest.mark.parametrize(("tag", "state", "decoded"), VARIANTS)
def test_a_golden_event_is_written_again_byte_for_byte(tag, state, decoded):
    if tag in mapper.UPCASTERS:
        pytest.skip("this version is read for ever, and written no more")
    assert mapper.encode(mapper.decode(tag, state)) == (tag, state)


@pytest.mark.parametrize(("tag", "state", "decoded"), VARIANTS)
def test_a_field_that_a_later_version_added_is_passed_over(tag, state, decoded):
    later = state[:-1] + b',"a_field_of_later":[1,{"deep":null}]}'
    assert mapper.decode(tag, later) == mapper.decode(tag, state)


@pytest.mark.parametrize(("tag", "state", "decoded"), VARIANTS)
def test_a_golden_event_that_was_cut_off_is_damaged(tag, state, decoded):
    assert {code_of(mapper.decode, tag, state[:length]) for length in range(len(state))} == {"damaged"}


@pytest.mark.parametrize(("tag", "state", "decoded"), VARIANTS)
def test_a_golden_event_that_lost_a_field_is_damaged(tag, state, decoded):
    whole = json.loads(state)
    for name in whole:
        less = json.dumps({other: value for other, value in whole.items() if other != name}).encode()
        if name in came_later(tag):
            assert getattr(mapper.decode(tag, less), name) is None
        else:
            assert code_of(mapper.decode, tag, less) == "damaged"


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "stage_entered",
        "stage_entered.0",
        "stage_entered.01",
        "stage_entered.1 ",
        "Stage_Entered.1",
        "StageEntered",
        "dealtrail.domain.events:StageEntered",
        "os:system",
        "trap:Event",
        "../stage_entered.1",
        "stage_entered.1\0",
    ],
)
def test_an_unknown_tag_is_damaged_and_never_imported(tag, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("class Event: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_of(mapper.decode, tag, b"{}") == "damaged"
    assert "trap" not in sys.modules


@pytest.mark.parametrize("tag", ["stage_entered.2", "stage_entered.10", "deal_teleported.1"])
def test_a_tag_that_only_a_newer_code_can_have_written_is_refused_as_such(tag):
    with pytest.raises(DealtrailError) as caught:
        mapper.decode(tag, b"{}", "sales.db")
    assert (caught.value.code, caught.value.facts["tag"]) == ("newer_store", tag)
    assert (
        caught.value.message == f"sales.db was written by a newer dealtrail (it holds events tagged '{tag}'); upgrade"
    )


# Upcasters. No event has a second version yet, so that the way there is shown with one that only these tests know.


class ContactMade(msgspec.Struct, frozen=True):
    """What `activity_logged` could become: version 2 calls its kind a channel, version 3 says who began."""

    channel: str
    inbound: bool


UPCASTERS = {
    "activity_logged.1": lambda fields: {"channel": fields["kind"]},
    "activity_logged.2": lambda fields: {**fields, "inbound": fields["channel"].startswith("in")},
}
DECODERS = mapper.decoders({ContactMade: "activity_logged.3"}, UPCASTERS)
LOGGED = [param for param in VARIANTS if param.values[0] == "activity_logged.1"]


@pytest.mark.parametrize(("tag", "state", "decoded"), LOGGED)
def test_a_golden_event_is_read_through_one_upcaster_after_the_other(tag, state, decoded):
    assert LOGGED
    kind = json.loads(state)["kind"]
    assert DECODERS[tag](state) == ContactMade(kind, kind.startswith("in"))


def test_each_version_of_an_event_is_read_by_the_upcasters_from_there_on_alone():
    assert DECODERS["activity_logged.2"](b'{"channel":"inmail"}') == ContactMade("inmail", True)
    assert DECODERS["activity_logged.3"](b'{"channel":"inmail","inbound":false}') == ContactMade("inmail", False)
    assert set(DECODERS) == {"activity_logged.1", "activity_logged.2", "activity_logged.3"}


def test_an_upcaster_that_leads_to_no_version_is_no_table():
    with pytest.raises(KeyError):
        mapper.decoders({ContactMade: "activity_logged.3"}, {"activity_logged.1": dict})


@pytest.mark.parametrize("state", [b"{}", b"[]", b"7", b"", b"\xff", b'{"kind":7}', b'{"kind":null}', None], ids=repr)
def test_bytes_that_an_upcaster_cannot_read_are_damaged(state, monkeypatch):
    monkeypatch.setattr(mapper, "_DECODERS", DECODERS)
    assert code_of(mapper.decode, "activity_logged.1", state) == "damaged"


def test_a_store_is_read_through_upcasters_and_its_bytes_stay_as_they_are(monkeypatch):
    with Trail.open(":memory:") as trail:
        trail.define_pipeline("b2b", [{"key": "lead", "name": "Lead", "probability": 0.5}])
        trail.open_deal("b2b", deal="D")
        trail.log_activity("D", "inmail")
        monkeypatch.setattr(mapper, "_DECODERS", mapper._DECODERS | DECODERS)
        with trail._log.reading() as reading:
            assert reading.entries("deal:D", 3)[1].event == ContactMade("inmail", True)
            assert reading.rows(2, 3, 1)[0][3:5] == ("activity_logged.1", b'{"kind":"inmail"}')


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"kind"',
        b"{}",
        b'{"kind":null}',
        b'{"kind":7}',
        b'{"kind":"call"} {}',
        b"\xff\xfe",
        b'{"kind":"\xff"}',
        b'{"kind":"\\ud800"}',
        b"\x00" * 20,
        b"[" * 100_000,
        None,
        7,
        1.5,
    ],
    ids=repr,
)
def test_bytes_that_are_no_event_are_damaged(state):
    assert code_of(mapper.decode, "activity_logged.1", state) == "damaged"


@pytest.mark.parametrize("amount", ['"twelve"', '""', "null", "true", "{}"])
def test_an_amount_that_no_event_ever_held_is_damaged(amount):
    state = b'{"value":{"amount":%s,"currency":"EUR"}}' % amount.encode()
    assert code_of(mapper.decode, "value_changed.1", state) == "damaged"


PERSONAL = [
    (Personal("Zoë's deal", None, None), '{"title":"Zoë\'s deal"}'),
    (Personal(None, "called\nagain", None), '{"note":"called\\nagain"}'),
    (Personal(None, None, {"phone": "+31 6", "name": "Ann"}), '{"personal":{"phone":"+31 6","name":"Ann"}}'),
    (Personal("a", "b", {"c": "d"}), '{"title":"a","note":"b","personal":{"c":"d"}}'),
]


@pytest.mark.parametrize(("personal", "stored"), PERSONAL)
def test_a_personal_part_is_read_and_written_byte_for_byte(personal, stored):
    assert mapper.decode_personal(stored.encode()) == personal
    assert mapper.encode_personal(personal) == stored.encode()


def test_no_personal_part_is_stored_as_nothing():
    assert mapper.encode_personal(None) is None
    assert mapper.decode_personal(None) is None


@pytest.mark.parametrize("stored", [b"", b"{", b"[]", b'{"title":7}', b'{"personal":{"a":1}}', b"\xff", 7], ids=repr)
def test_a_personal_part_that_cannot_be_read_is_damaged(stored):
    assert code_of(mapper.decode_personal, stored) == "damaged"


def git(*arguments):
    try:
        done = subprocess.run(
            ["git", "-c", "diff.renames=false", *arguments], cwd=HERE, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("git is not installed, so nobody can tell whether a golden file was written again")
    if done.returncode:
        pytest.skip(f"this is no git checkout with a history: {done.stderr.strip()}")
    return done.stdout.split()


def test_a_golden_file_once_committed_is_never_written_again_or_removed():
    assert git("rev-parse", "--is-inside-work-tree") == ["true"]
    assert git("log", "--diff-filter=MD", "--format=", "--name-only", "--", "golden") == []
    assert git("diff", "--diff-filter=MD", "--name-only", "HEAD", "--", "golden") == []
