"""The example backend over HTTP requests: what it records, answers and refuses, and what it knows after a restart."""

import subprocess
import sys
from threading import Barrier, Thread

import pytest

from dealtrail import Conflict, Trail

for package in ("starlette", "httpx2"):
    pytest.importorskip(package, reason=f"the tests of the example backend need {package}, which is not installed")

import app as backend  # noqa: E402  only where Starlette is
from starlette import testclient  # noqa: E402

STAGES = [
    {"key": "lead", "name": "Lead", "probability": "0.1"},
    {"key": "proposal", "name": "Proposal", "probability": "0.5"},
]


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "deals.db")
    with Trail.open(path) as trail:
        trail.define_pipeline("b2b", STAGES, at="2026-01-01T00:00Z")
    return path


@pytest.fixture
def client(path):
    with testclient.TestClient(backend.create_app(path)) as client:
        yield client


def open_deal(deal, **more):
    return {"action": "open_deal", "pipeline": "b2b", "deal": deal, "id": f"open {deal}", **more}


def worth(amount):
    return {"value": {"amount": amount, "currency": "EUR"}}


def post(client, action, status=200, **headers):
    response = client.post("/actions", json=action, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert response.status_code == status, response.text
    return response.json()


def get(client, url, status=200, /, **params):
    response = client.get(url, params=params or None)
    assert response.status_code == status, response.text
    return response.json()


def test_a_request_that_is_repeated_changes_nothing_and_gets_the_same_answer(client):
    first = post(client, open_deal("D-1"))
    assert first == {"deal": "D-1", "pipeline": None, "version": 1, "position": 2}
    assert post(client, open_deal("D-1")) == first
    move = {"action": "move_deal", "deal": "D-1", "stage": "proposal"}
    assert post(client, move, Idempotency_Key="m-1") == post(client, move | {"id": "m-1"})
    assert [event["event"] for event in get(client, "/deals/D-1/history")] == ["deal_opened", "stage_entered"]


@pytest.mark.parametrize(
    ("action", "headers", "status", "code", "field"),
    [
        ({"action": "move_deal", "deal": "D-1", "stage": "proposal"}, {}, 400, "missing_field", "id"),
        (open_deal("D-2", colour="red"), {}, 400, "unknown_field", "colour"),
        (open_deal("D-2", value={"amount": 12, "currency": "EUR"}), {}, 400, "invalid_amount", "value.amount"),
        ({"action": "win_deal", "deal": "D-9", "id": "w"}, {}, 404, "unknown_deal", "deal"),
        (open_deal("D-2", pipeline="b2c"), {}, 404, "unknown_pipeline", "pipeline"),
        (open_deal("D-1", id="again"), {}, 409, "deal_exists", "deal"),
        (open_deal("D-1", owner="anna"), {}, 409, "id_reused", "id"),
        ({"action": "win_deal", "deal": "D-1", "id": "w"}, {"If_Match": '"7"'}, 409, "conflict", "expected_version"),
        ({"action": "win_deal", "deal": "D-1", "id": "w", "expected_version": 7}, {}, 409, "conflict",
         "expected_version"),
        ({"action": "win_deal", "deal": "D-1", "id": "w"}, {"If_Match": "*"}, 400, "invalid_field",
         "expected_version"),
        ({"action": "move_deal", "deal": "D-1", "stage": "lead", "id": "m"}, {}, 422, "already_in_stage", "stage"),
        ([open_deal("D-2")], {}, 400, "invalid_json", None),
    ],
)  # fmt: skip
def test_a_refusal_has_a_status_a_code_a_message_and_the_field_at_fault(client, action, headers, status, code, field):
    post(client, open_deal("D-1"))
    before = get(client, "/pipelines/b2b/deals")["deals"]
    told = post(client, action, status, **headers)
    assert (told["code"], told["field"]) == (code, field)
    assert told["message"]
    assert get(client, "/pipelines/b2b/deals")["deals"] == before


def test_a_store_that_cannot_serve_is_503(client):
    client.app.state.trail.close()
    assert get(client, "/pipelines", 503)["code"] == "closed"


def test_the_version_that_an_answer_carries_is_the_one_to_act_on(client):
    post(client, open_deal("D-1"))
    tag = client.get("/deals/D-1").headers["etag"]
    post(client, {"action": "win_deal", "deal": "D-1", "id": "w"}, If_Match=tag)
    assert post(client, {"action": "reopen_deal", "deal": "D-1", "id": "r"}, 409, If_Match=tag)["code"] == "conflict"


def discounted(client, id, status=200, **more):
    response = client.post("/deals/D-1/discount", json={"percent": "10", "id": id, **more})
    assert response.status_code == status, response.text
    return response.json()


def test_discounts_at_the_same_time_are_all_given_on_what_the_others_left(client):
    post(client, open_deal("D-1", **worth("1000.00")))
    start, answers = Barrier(4), []

    def ask(id):
        start.wait()
        answers.append(discounted(client, id)["version"])

    threads = [Thread(target=ask, args=(f"discount {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [2, 3, 4, 5]
    # 1000 × 0.9⁴ = 656.1
    assert get(client, "/deals/D-1")["value"] == {"amount": "656.10", "currency": "EUR"}


def test_a_discount_that_meets_a_quicker_writer_is_computed_anew(path):
    with Trail.open(path) as trail:
        trail.record(open_deal("D-1", **worth("100")))
        read = trail.deal

        def overtaken(deal):
            seen = read(deal)
            if seen.version == 1:
                trail.change_value(deal, {"amount": "200", "currency": "EUR"})
            return seen

        trail.deal = overtaken
        assert backend.discount(trail, "D-1", {"percent": "10", "id": "d"}) == 3
        assert str(read("D-1").value.amount) == "180.00"  # 200 × 0.9
        with pytest.raises(Conflict):
            backend.discount(trail, "D-1", {"percent": "10", "id": "e", "expected_version": 2})


def test_a_discount_that_is_repeated_is_given_once(client):
    post(client, open_deal("D-1", **worth("100")))
    assert discounted(client, "d") == discounted(client, "d") == {"deal": "D-1", "version": 2}
    assert get(client, "/deals/D-1")["value"]["amount"] == "90.00"


@pytest.mark.parametrize("percent", ["101", "-1", "NaN", "ten", 10, None])
def test_a_discount_is_a_percentage(client, percent):
    post(client, open_deal("D-1", **worth("100")))
    assert discounted(client, "d", 400, percent=percent)["field"] == "percent"


@pytest.fixture
def three(client):
    """Three deals, of which anna's two came from the web, one of them moved on."""
    january = {"at": "2026-01-05T10:00Z", "source": "web", "owner": "anna"}
    post(client, open_deal("D-1", **january, **worth("100.50")))
    post(client, open_deal("D-2", **january | {"at": "2026-01-06T10:00Z"}, attributes={"seats": 5}))
    post(client, open_deal("D-3", at="2026-02-05T10:00Z", owner="bram", **worth("10")))
    post(client, {"action": "move_deal", "deal": "D-1", "stage": "proposal", "at": "2026-02-01T10:00Z", "id": "m"})
    return client


@pytest.mark.parametrize(
    ("kind", "params", "asked"),
    [
        ("pipeline", {}, {}),
        ("pipeline", {"as_of": "2026-01-05", "tz": "Europe/Amsterdam"},
         {"as_of": "2026-01-05", "tz": "Europe/Amsterdam"}),
        ("pipeline", {"group_by": "owner,source", "where": '{"attributes.seats": 5}'},
         {"group_by": ("owner", "source"), "where": {"attributes.seats": 5}}),
        ("pipeline", {"group_by": ["owner", "currency"], "definition": "1", "where": '{"source": null}'},
         {"group_by": ("owner", "currency"), "definition": 1, "where": {"source": None}}),
        ("pipeline", {"definition": '{"stages": [{"key": "all", "name": "All", "probability": "0.2"}],'
                                    ' "moves": {"lead": "all", "proposal": "all"}}'},
         {"definition": {"stages": [{"key": "all", "name": "All", "probability": "0.2"}],
                         "moves": {"lead": "all", "proposal": "all"}}}),
        ("funnel", {"cohort": "2026-Q1", "within": "14", "definition": "current"},
         {"cohort": "2026-Q1", "within": 14, "definition": "current"}),
        ("funnel", {"cohort": "2026", "fiscal_year_start": "4", "group_by": "source"},
         {"cohort": "2026", "fiscal_year_start": 4, "group_by": ("source",)}),
    ],
)  # fmt: skip
def test_a_report_is_the_one_that_python_gives_for_the_same_arguments(three, path, kind, params, asked):
    told = get(three, f"/pipelines/b2b/{'report' if kind == 'pipeline' else 'funnel'}", **params)
    with Trail.open(path) as trail:
        report = trail.pipeline_report if kind == "pipeline" else trail.funnel_report
        # Those moments that the request left open are the ones that its answer says it used.
        moments = {name: told[name] for name in ("as_of", "known_at")}
        expected = report("b2b", **{**moments, **asked, "known_at": told["known_at"]})
    assert (told["digest"], told["position"]) == (expected.digest, 5)


@pytest.mark.parametrize(
    ("url", "params", "status", "code", "field"),
    [
        ("report", {"as_off": "2026-01-05"}, 400, "unknown_field", "as_off"),
        ("report", {"tz": ["UTC", "Europe/Paris"]}, 400, "duplicate_key", "tz"),
        ("report", {"as_of": "2026-01-05T10:00"}, 400, "naive_time", "as_of"),
        ("report", {"where": "web"}, 400, "invalid_where", "where"),
        ("report", {"definition": "9"}, 422, "unknown_definition", "definition"),
        ("funnel", {}, 400, "invalid_period", "cohort"),
        ("funnel", {"cohort": "2026", "within": "soon"}, 400, "invalid_field", "within"),
        ("deals", {"limit": "0"}, 400, "invalid_field", "limit"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_at_its_parameter(three, url, params, status, code, field):
    told = get(three, f"/pipelines/b2b/{url}", status, **params)
    assert (told["code"], told["field"]) == (code, field)


def test_a_pipeline_that_is_not_there_is_not_found(client):
    assert get(client, "/pipelines/b2c/report", 404)["code"] == "unknown_pipeline"


def test_a_deal_before_its_opening_is_not_found(three):
    assert get(three, "/deals/D-3", 404, as_of="2026-01-31")["code"] == "unknown_deal"


def test_pages_are_of_one_moment_whatever_is_recorded_between_them(three):
    page = get(three, "/pipelines/b2b/deals", limit=2, status="open", sort="-opened_at")
    seen = [deal["deal"] for deal in page["deals"]]
    post(three, {"action": "win_deal", "deal": "D-2", "id": "w2"})  # the deal after which the next page begins
    post(three, open_deal("D-0", at="2026-01-01T10:00Z"))
    while page["next"]:
        page = get(three, page["next"])
        seen += [deal["deal"] for deal in page["deals"]]
    assert seen == ["D-3", "D-2", "D-1"]
    assert [deal["deal"] for deal in get(three, "/pipelines/b2b/deals", status="open")["deals"]] == [
        "D-0",
        "D-1",
        "D-3",
    ]


WRITER = """
import sys
from dealtrail import Trail
with Trail.open(sys.argv[1]) as trail:
    trail.open_deal("b2b", deal=sys.argv[2])
"""


def write_from_another_process(path, deal):
    subprocess.run([sys.executable, "-c", WRITER, path, deal], check=True)


def counted(client):
    return get(client, "/pipelines/b2b/report")["total"]["deals"]


def test_what_another_process_writes_is_in_the_next_answer_and_after_a_restart(path):
    with testclient.TestClient(backend.create_app(path)) as client:
        assert counted(client) == 0
        write_from_another_process(path, "D-1")
        assert counted(client) == 1
    write_from_another_process(path, "D-2")
    with testclient.TestClient(backend.create_app(path)) as client:
        assert counted(client) == 2
        assert get(client, "/deals/D-2")["version"] == 1
