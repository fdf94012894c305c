"""Dealtrail: an event-sourced engine for sales pipelines and funnels, with reports about any past moment."""

from dealtrail.domain.errors import Conflict, DealtrailError, InvalidInput, Refused, StoreError
from dealtrail.domain.money import Money
from dealtrail.domain.texts import parse_json
from dealtrail.projections.deals import DealView
from dealtrail.projections.funnel_report import FunnelReport
from dealtrail.projections.pipeline_report import PipelineReport
from dealtrail.projections.question import Draft
from dealtrail.trail import DefinitionView, Happened, Imported, Recorded, Trail

__all__ = [
    "Conflict",
    "DealView",
    "DealtrailError",
    "DefinitionView",
    "Draft",
    "FunnelReport",
    "Happened",
    "Imported",
    "InvalidInput",
    "Money",
    "PipelineReport",
    "Recorded",
    "Refused",
    "StoreError",
    "Trail",
    "parse_json",
]
