"""Dealtrail: an event-sourced engine for sales pipelines and funnels, with reports about any past moment."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dealtrail.domain.assignment import Assigned
    from dealtrail.domain.errors import Conflict, DealtrailError, InvalidInput, Refused, StoreError
    from dealtrail.domain.money import Money
    from dealtrail.domain.texts import parse_json
    from dealtrail.projections.checking import Difference, LaterEvent, ReportCheck
    from dealtrail.projections.closing_report import ClosingReport
    from dealtrail.projections.conformance import ConformanceReport
    from dealtrail.projections.deals import DealView
    from dealtrail.projections.definitions import Draft
    from dealtrail.projections.funnel_report import FunnelReport
    from dealtrail.projections.health import Health
    from dealtrail.projections.history import Happened
    from dealtrail.projections.pipeline_report import PipelineReport
    from dealtrail.projections.pipelines import DefinitionView
    from dealtrail.projections.redefinition import Moving
    from dealtrail.projections.status import Status
    from dealtrail.projections.todo import NextActions
    from dealtrail.projections.verification import Verification, Verified
    from dealtrail.store.copying import BackedUp
    from dealtrail.store.forgetting import Forgotten
    from dealtrail.store.heads import Head
    from dealtrail.store.keys import KeyFile, Keys
    from dealtrail.store.recording import Imported, Recorded
    from dealtrail.store.restoring import Restored
    from dealtrail.store.verifying import Finding
    from dealtrail.tenants import Tenants
    from dealtrail.trail import Trail

_HOMES = {
    "dealtrail.domain.assignment": ("Assigned",),
    "dealtrail.domain.errors": ("Conflict", "DealtrailError", "InvalidInput", "Refused", "StoreError"),
    "dealtrail.domain.money": ("Money",),
    "dealtrail.domain.texts": ("parse_json",),
    "dealtrail.projections.checking": ("Difference", "LaterEvent", "ReportCheck"),
    "dealtrail.projections.closing_report": ("ClosingReport",),
    "dealtrail.projections.conformance": ("ConformanceReport",),
    "dealtrail.projections.deals": ("DealView",),
    "dealtrail.projections.definitions": ("Draft",),
    "dealtrail.projections.funnel_report": ("FunnelReport",),
    "dealtrail.projections.health": ("Health",),
    "dealtrail.projections.history": ("Happened",),
    "dealtrail.projections.pipeline_report": ("PipelineReport",),
    "dealtrail.projections.pipelines": ("DefinitionView",),
    "dealtrail.projections.redefinition": ("Moving",),
    "dealtrail.projections.status": ("Status",),
    "dealtrail.projections.todo": ("NextActions",),
    "dealtrail.projections.verification": ("Verification", "Verified"),
    "dealtrail.store.copying": ("BackedUp",),
    "dealtrail.store.forgetting": ("Forgotten",),
    "dealtrail.store.heads": ("Head",),
    "dealtrail.store.keys": ("KeyFile", "Keys"),
    "dealtrail.store.recording": ("Imported", "Recorded"),
    "dealtrail.store.restoring": ("Restored",),
    "dealtrail.store.verifying": ("Finding",),
    "dealtrail.tenants": ("Tenants",),
    "dealtrail.trail": ("Trail",),
}

__all__ = [
    "Assigned",
    "BackedUp",
    "ClosingReport",
    "Conflict",
    "ConformanceReport",
    "DealView",
    "DealtrailError",
    "DefinitionView",
    "Difference",
    "Draft",
    "Finding",
    "Forgotten",
    "FunnelReport",
    "Happened",
    "Head",
    "Health",
    "Imported",
    "InvalidInput",
    "KeyFile",
    "Keys",
    "LaterEvent",
    "Money",
    "Moving",
    "NextActions",
    "PipelineReport",
    "Recorded",
    "Refused",
    "ReportCheck",
    "Restored",
    "Status",
    "StoreError",
    "Tenants",
    "Trail",
    "Verification",
    "Verified",
    "parse_json",
]


def __getattr__(name: str) -> Any:
    """A public name, fetched when it is first asked for: a command line that prints its help needs none of them."""
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
