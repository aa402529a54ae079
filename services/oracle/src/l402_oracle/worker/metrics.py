"""A worker's own numbers for Prometheus: how long each kind of job took."""

from typing import Final

from prometheus_client import Histogram

WORKED: Final = Histogram(
    "l402_work_seconds",
    "How long a job took. The rate of its sum is how busy a worker is: at most 1 on a CPU, 2 on a GPU (one queued).",
    ["job"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)  # fmt: skip
JOBS: Final = ("screen", "measure", "compare", "build", "work")
for _job in JOBS:
    WORKED.labels(_job)  # known before the first of its kind
