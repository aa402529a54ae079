"""Clocks, memory and tables of the oracle's benchmark. It imports torch and the standard library, nothing else."""

import gc
import json
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity

Row = dict[str, float | int | str]


class Stage:
    """The device, the time that is left, and what was found so far."""

    def __init__(
        self, device: str, seconds: float, json_path: Path | None, markdown_path: Path | None,
        profile_path: Path | None = None,
    ) -> None:  # fmt: skip
        self.device = device
        self.is_cuda = device != "cpu"
        self._until = time.monotonic() + seconds
        self._json, self._markdown, self._profile = json_path, markdown_path, profile_path
        self._tables: dict[str, list[Row]] = {}
        self._last = ""

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._until - time.monotonic()

    def sync(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def timed(self, job: Callable[[], object], *, repeats: int = 5, warm_ups: int = 1) -> float:
        """Median seconds of `job`."""
        return median(self.times(job, repeats=repeats, warm_ups=warm_ups))

    def times(self, job: Callable[[], object], *, repeats: int = 5, warm_ups: int = 1) -> list[float]:
        """Seconds of `job`: wall time on a GPU, this process's processor time on a CPU that others use too."""
        clock = time.perf_counter if self.is_cuda else time.process_time
        for _ in range(warm_ups):
            job()
        taken = []
        for _ in range(repeats):
            self.sync()
            started = clock()
            job()
            self.sync()
            taken.append(clock() - started)
        return taken

    def fresh_memory(self) -> None:
        """Begin to watch the largest memory use anew."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):  # where the kernel does not let us, the peak is that of the whole run
                Path("/proc/self/clear_refs").write_text("5")

    def memory_mb(self) -> int:
        """Largest memory use since, in MB: the device's allocations, or what the process had resident."""
        if self.is_cuda:
            return int(torch.cuda.max_memory_allocated() / 1e6)
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 // 1_000_000
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000

    def profile(self, title: str, job: Callable[[], object]) -> None:
        """Which kernels and calls a job spends its time in, appended to the file that was asked for."""
        if not self._profile:
            return
        kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if self.is_cuda else [ProfilerActivity.CPU]
        with torch.profiler.profile(activities=kinds) as seen:
            job()
            self.sync()
        averages = seen.key_averages()
        orders = ("cuda_time_total", "cpu_time_total") if self.is_cuda else ("cpu_time_total",)
        text = "\n".join(averages.table(sort_by=order, row_limit=25, max_name_column_width=60) for order in orders)
        with self._profile.open("a") as file:
            file.write(f"## {title}\n\n{text}\n\n")

    def add(self, table: str, row: Row) -> None:
        """Print it, and write everything found so far."""
        rows = self._tables.setdefault(table, [])
        if table != self._last:
            print(f"\n## {table}\n\n{_line(list(row))}\n{_line(['---'] * len(row))}")
        rows.append(row)
        self._last = table
        print(_line(list(row.values())), flush=True)
        if self._json:
            self._json.write_text(json.dumps(self._tables, indent=1))
        if self._markdown:
            self._markdown.write_text("\n".join(_as_markdown(name, rows) for name, rows in self._tables.items()))


def _as_markdown(name: str, rows: Sequence[Row]) -> str:
    lines = [f"## {name}", "", _line(list(rows[0])), _line(["---"] * len(rows[0]))]
    return "\n".join([*lines, *(_line(list(row.values())) for row in rows), ""])


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def human(number: float) -> str:
    """1_000_000 → 1 M."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
