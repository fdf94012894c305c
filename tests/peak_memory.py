"""Imports a made-up event log of so many cases into a new store and prints the peak memory in kilobytes.

Run by test_importing.py in a process of its own: `python peak_memory.py FOLDER CASES`.
"""

import resource
import sys
from pathlib import Path

from dealtrail import Trail
from dealtrail.importing import Mapping, import_rows

MAPPING = """
currency = "EUR"
[pipeline]
key = "loans"
stages = [
    { key = "asked", name = "Asked", probability = 0.1 },
    { key = "offered", name = "Offered", probability = 0.5 },
]
[columns]
case = "case"
activity = "activity"
time = "time"
value = "amount"
[activities]
opens = { ask = "asked" }
enters = { offer = "offered" }
wins = ["sign"]
"""


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    events, cases = folder / "events.csv", folder / "cases.csv"
    with open(events, "w", encoding="utf-8") as file:
        file.write("case,activity,time\n")
        for day, activity in enumerate(("ask", "offer", "sign"), 1):
            file.writelines(f"C-{n},{activity},2020-01-{day:02}T00:00:00.{n:06}Z\n" for n in range(count))
    with open(cases, "w", encoding="utf-8") as file:
        file.write("case,amount\n")
        file.writelines(f"C-{n},{n}\n" for n in range(count))
    with Trail.open(folder / "trail.db") as trail:
        for dry_run in (True, False):
            tally = import_rows(trail, Mapping.parse(MAPPING), events, cases, dry_run=dry_run)
            assert (tally.recorded, tally.bad) == (3 * count, 0), tally
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


main()
