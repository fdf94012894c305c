"""A backend that embeds Dealtrail: actions come in as JSON, answers go out, on Starlette's event loop.

A Trail is plain synchronous Python that threads may share. So each call runs in the thread pool: Starlette puts
functions that are not `async` there by itself, and `record` goes there by hand, after its body was awaited.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dealtrail import Conflict, DealtrailError, InvalidInput, Money, Refused, StoreError, Trail

ATTEMPTS = 10

# How each query parameter is read: as the text that it is, or as the JSON value that it may be. What is wrong with a
# value is for Dealtrail to say: it checks every argument, and names the one at fault.
MOMENTS = {"as_of": "text", "known_at": "text", "tz": "text"}
REPORT = MOMENTS | {"definition": "value", "group_by": "list", "where": "value"}
FUNNEL = REPORT | {"cohort": "text", "within": "value", "fiscal_year_start": "value"}
LISTING = MOMENTS | dict.fromkeys(("status", "stage", "owner", "sort", "after"), "text")
LISTING |= dict.fromkeys(("where", "limit"), "value")

# Refusals that say "somebody was there already", and those that say "there is no such thing".
TAKEN = {"deal_exists", "id_reused", "pipeline_exists"}
ABSENT = {"unknown_deal", "unknown_pipeline"}


class Json(Response):
    """Any answer of Dealtrail as JSON: amounts are decimal strings, moments ISO 8601 in UTC."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode it."""
        return msgspec.json.encode(content)


def status_of(error: DealtrailError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Conflict) or error.code in TAKEN:
        return 409
    if error.code in ABSENT:
        return 404
    if isinstance(error, Refused):
        return 422
    return 503 if isinstance(error, StoreError) else 400


def refused(request: Request, error: Exception) -> Response:
    """An error as an answer: code, message and field are what a client needs to mend its request."""
    assert isinstance(error, DealtrailError)  # noqa: S101  that is what it is registered for
    headers = {"Retry-After": "1"} if error.code == "busy" else {}
    told = {"code": error.code, "message": error.message, "field": error.field}
    return Json(told, status_of(error), headers)


def trail_of(request: Request) -> Trail:
    """The one Trail of this process."""
    trail: Trail = request.app.state.trail
    return trail


# What a request says


def arguments(request: Request, known: Mapping[str, str]) -> dict[str, Any]:
    """The query parameters as the Python arguments of the same names; `group_by` may be repeated or have commas."""
    found: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput("unknown_field", f"{name} is no parameter here; take {', '.join(known)}", name)
        if known[name] == "list":
            found.setdefault(name, []).extend(text.split(","))
        elif name in found:
            raise InvalidInput("duplicate_key", f"{name} stands twice; give it once", name)
        else:
            found[name] = text if known[name] == "text" else value(text)
    return found


def value(text: str) -> Any:
    """A JSON value where the text is one, else the text: `current`, `3`, `{"source": "web"}`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


async def json_object(request: Request) -> dict[str, Any]:
    """The body, a JSON object; the headers Idempotency-Key and If-Match give `id` and `expected_version`."""
    try:
        body = msgspec.json.decode(await request.body(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as trouble:
        raise InvalidInput("invalid_json", f"the body is no JSON object: {trouble}") from None
    if "idempotency-key" in request.headers:
        body.setdefault("id", request.headers["idempotency-key"])
    if body.get("id") is None:
        raise InvalidInput("missing_field", "give an id, or Idempotency-Key, so that a repeated request is safe", "id")
    if "if-match" in request.headers:
        body.setdefault("expected_version", value(request.headers["if-match"].strip('"')))
    return body


# Actions


async def post_action(request: Request) -> Response:
    """Record one action. Repeated with the same id it changes nothing and gets the same answer."""
    recorded = await run_in_threadpool(trail_of(request).record, await json_object(request))
    return Json(recorded, headers={"ETag": f'"{recorded.version}"'})


async def post_discount(request: Request) -> Response:
    """Lower the value of a deal by a percentage of what it is at that moment."""
    body = await json_object(request)
    version = await run_in_threadpool(discount, trail_of(request), request.path_params["deal"], body)
    return Json({"deal": request.path_params["deal"], "version": version}, headers={"ETag": f'"{version}"'})


def discount(trail: Trail, deal: str, body: Mapping[str, Any]) -> int:
    """The version at which it was recorded: read, decide, record if nobody was quicker, or else begin anew.

    The new value depends on the old one, so a repeated request must not be computed again: its id is looked up first.
    A client that named a version decided on what it saw: its conflict is for it to settle, and is not retried.
    """
    percent = percentage(body)
    for attempt in range(1, ATTEMPTS + 1):
        for event in trail.history(deal):
            if event.id == body["id"]:
                return event.version
        seen = trail.deal(deal)
        if seen is None or seen.value is None:
            raise InvalidInput("invalid_field", "the deal has no value to lower", "deal")
        amount = (seen.value.amount * (100 - percent) / 100).quantize(Decimal("0.01"))
        action = {"action": "change_value", "deal": deal, "value": Money(amount, seen.value.currency), "id": body["id"]}
        expected = body.get("expected_version", seen.version)
        try:
            return trail.record(action | {"expected_version": expected}).version
        except Conflict:
            if "expected_version" in body or attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returned or raised")


def percentage(body: Mapping[str, Any]) -> Decimal:
    """The percentage of a discount, a decimal string from 0 to 100."""
    try:
        percent = Decimal(body["percent"] if isinstance(body.get("percent"), str) else "none")
        if 0 <= percent <= 100:
            return percent
    except InvalidOperation:
        pass
    raise InvalidInput("invalid_field", 'give a decimal string from "0" to "100"', "percent")


# Answers. They come from a read model that follows the log before it answers: what any process wrote is in them.


def get_pipelines(request: Request) -> Response:
    """Every pipeline with its stages."""
    return Json(trail_of(request).pipelines(**arguments(request, MOMENTS)))


def get_report(request: Request) -> Response:
    """The pipeline report."""
    return Json(trail_of(request).pipeline_report(request.path_params["pipeline"], **arguments(request, REPORT)))


def get_funnel(request: Request) -> Response:
    """The funnel report."""
    asked = {"cohort": ""} | arguments(request, FUNNEL)
    return Json(trail_of(request).funnel_report(request.path_params["pipeline"], **asked))


def get_deals(request: Request) -> Response:
    """A page of deals, and the address of the next. All pages tell what the log held when the first was asked for."""
    trail, asked = trail_of(request), arguments(request, LISTING)
    upto = trail.last_recorded_at() or datetime.now(UTC)
    pinned: dict[str, Any] = dict.fromkeys(("as_of", "known_at"), upto.isoformat())
    asked = pinned | {"limit": 50} | asked
    deals = trail.list_deals(request.path_params["pipeline"], **asked)
    more = None
    if len(deals) == asked["limit"]:
        pinned |= {name: asked[name] for name in pinned}
        more = str(request.url.include_query_params(**pinned, after=deals[-1].deal))
    return Json({"deals": deals, "next": more})


def get_deal(request: Request) -> Response:
    """One deal; its ETag is the version that If-Match takes."""
    deal = request.path_params["deal"]
    seen = trail_of(request).deal(deal, **arguments(request, MOMENTS))
    if seen is None:
        raise InvalidInput("unknown_deal", f"deal {deal} was not opened by then; ask about a later moment", "deal")
    return Json(seen, headers={"ETag": f'"{seen.version}"'})


def get_history(request: Request) -> Response:
    """Every event of a deal."""
    asked = arguments(request, {"known_at": "text", "tz": "text"})
    return Json(trail_of(request).history(request.path_params["deal"], **asked))


ROUTES = [
    Route("/actions", post_action, methods=["POST"]),
    Route("/deals/{deal}/discount", post_discount, methods=["POST"]),
    Route("/deals/{deal}/history", get_history),
    Route("/deals/{deal}", get_deal),
    Route("/pipelines", get_pipelines),
    Route("/pipelines/{pipeline}/report", get_report),
    Route("/pipelines/{pipeline}/funnel", get_funnel),
    Route("/pipelines/{pipeline}/deals", get_deals),
]


def create_app(store: str) -> Starlette:
    """The application over a store, which is opened when it starts and closed when it stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.trail = await run_in_threadpool(Trail.open, store)
        try:
            # What was written while this process was down is folded now, and not in the first request.
            await run_in_threadpool(app.state.trail.pipelines)
            yield
        finally:
            await run_in_threadpool(app.state.trail.close)

    return Starlette(routes=ROUTES, exception_handlers={DealtrailError: refused}, lifespan=lifespan)


def app() -> Starlette:
    """The application as `uvicorn --factory` makes it: DEALS_DB names the store, by default deals.db."""
    return create_app(os.environ.get("DEALS_DB", "deals.db"))
