"""Telemetry: what a store does, told to `logging` and, where its API is installed, to OpenTelemetry.

Without the API, or without a provider, a piece of work costs two looks at a clock. No deal, no actor and no text goes
into a span or a metric: names of operations, codes of errors, counts, seconds and the path of the store.
"""

import logging
from collections.abc import Iterator
from threading import Lock
from time import perf_counter, time_ns
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakSet

from dealtrail.domain.errors import DealtrailError

try:
    from opentelemetry import context, metrics, trace
except ImportError:
    installed = False
else:
    installed = True

logger = logging.getLogger("dealtrail")
logger.addHandler(logging.NullHandler())

# Work and waits of a second or more get a line.
SLOW_SECONDS = 1.0
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LEVELS = {
    "damaged": logging.ERROR,
    "disk_error": logging.ERROR,
    "full": logging.ERROR,
    "gone": logging.ERROR,
    "newer_store": logging.ERROR,
    "busy": logging.WARNING,
}


class Lagging(Protocol):
    """A read model, whose lag is read whenever metrics are collected."""

    @property
    def store(self) -> str:
        """The path of the log."""
        ...

    def lag(self) -> tuple[int, float]:
        """How many events are not folded yet, and for how many seconds the oldest of them has been in the log."""
        ...


_watched: "WeakSet[Lagging]" = WeakSet()
_watching = Lock()


def watch(model: Lagging) -> None:
    """Tell the lag of a read model from now on, until it is closed or nobody holds it any more."""
    with _watching:
        _watched.add(model)


def unwatch(model: Lagging) -> None:
    """Tell it no longer."""
    with _watching:
        _watched.discard(model)


def _lags(part: int) -> Iterator["metrics.Observation"]:
    with _watching:
        models = list(_watched)
    for model in models:
        try:
            lag = model.lag()[part]
        except DealtrailError:
            continue  # closed meanwhile, or in trouble, which whoever asks it something is told
        yield metrics.Observation(lag, {"dealtrail.store": model.store})


if installed:
    _tracer = trace.get_tracer("dealtrail")
    _meter = metrics.get_meter("dealtrail")
    _duration = _meter.create_histogram(
        "dealtrail.duration", "s", "How long an operation took", explicit_bucket_boundaries_advisory=_SECONDS
    )
    _events = _meter.create_counter("dealtrail.events", "{event}", "Events recorded")
    _meter.create_observable_gauge(
        "dealtrail.lag.events", [lambda _: _lags(0)], "{event}", "Events that the read model does not know yet"
    )
    _meter.create_observable_gauge(
        "dealtrail.lag.seconds", [lambda _: _lags(1)], "s", "For how long the oldest of them has been in the log"
    )


class Work:
    """A piece of work on a store, as a context manager: a span `dealtrail.NAME`, a duration, a line where it is slow.

    `current` makes the span the parent of what begins meanwhile. A generator that is handed out must not do so: its
    caller goes on in the middle of it.
    """

    __slots__ = ("_began", "_began_ns", "_current", "_name", "_span", "_store", "_token")

    def __init__(self, name: str, store: str, *, current: bool = True) -> None:
        self._name = name
        self._store = store
        self._current = current
        self._span: Any = None
        self._token: Any = None

    def __enter__(self) -> "Work":
        if installed and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._began_ns = time_ns()
            told = {"dealtrail.store": self._store}
            self._span = _tracer.start_span(f"dealtrail.{self._name}", attributes=told, start_time=self._began_ns)
            if self._current:
                self._token = context.attach(trace.set_span_in_context(self._span))
        self._began = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, where: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._began
        if seconds >= SLOW_SECONDS:
            logger.info("%s of %s took %.1f s", self._name, self._store, seconds)
        if isinstance(raised, DealtrailError):
            trouble(raised)
        if installed:
            failed = None if kind is None else kind.__name__
            failed = raised.code if isinstance(raised, DealtrailError) else failed
            _measured(self._name, seconds, failed)
            if self._span is not None:
                _end(self._span, self._token, failed)

    def waited(self) -> None:
        """Say that from the beginning of this work until now somebody else's lock was waited for."""
        seconds = perf_counter() - self._began
        if seconds >= SLOW_SECONDS:
            logger.warning("waited %.1f s for the write lock of %s", seconds, self._store)
        if installed:
            _measured("wait_for_lock", seconds, None)
            if self._span is not None:
                parent = trace.set_span_in_context(self._span)
                _tracer.start_span("dealtrail.wait_for_lock", parent, start_time=self._began_ns).end()


def _measured(name: str, seconds: float, failed: str | None) -> None:
    told = {"dealtrail.operation": name}
    _duration.record(seconds, told if failed is None else told | {"error.type": failed})


def _end(span: Any, token: Any, failed: str | None) -> None:
    if failed is not None:
        span.set_attribute("error.type", failed)
        span.set_status(trace.StatusCode.ERROR)
    span.end()
    if token is not None:
        context.detach(token)


def recorded(events: int) -> None:
    """Count events that were recorded."""
    if installed and events:
        _events.add(events)


def trouble(found: DealtrailError) -> None:
    """Log what is wrong with the files of a store, once however many rooms the error passes."""
    level = _LEVELS.get(found.code)
    if level is not None and "logged" not in vars(found):
        vars(found)["logged"] = True
        logger.log(level, "%s [%s]", found, found.facts.get("path"))
