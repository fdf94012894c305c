"""Importing: histories that people have, as event logs in CSV files, recorded by a mapping of their own words."""

from dealtrail.importing.importer import BadRow, Tally, import_rows
from dealtrail.importing.mapping import Mapping

__all__ = ["BadRow", "Mapping", "Tally", "import_rows"]
