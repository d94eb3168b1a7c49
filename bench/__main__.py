"""All measurements in one run: prints a table, writes JSON.

    python -m bench [--quick] [--json FILE] [--docs] [--only STEP …]

Each figure stands beside that of a peer which was measured in the same run, in turns with ours: what else the machine
does slows both. `--quick` only shows that everything runs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from bench import asking, intake, latency, memory, real, recovery, start
from bench.processes import NotMeasured
from bench.report import Report

_PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
STEPS = {
    "intake": intake.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "start": start.measure,
    "recovery": recovery.measure,
    "asking": asking.measure,
    "real": real.measure,
}


async def _measure(report: Report, names: list[str]) -> None:
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.perf_counter()
        try:
            await STEPS[name](report, quick=report.quick)
        except NotMeasured as problem:
            report.missing.append(f"{name}: {problem}")
        report.seconds[name] = time.perf_counter() - began


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="as little as possible of everything")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results.json", help="the file to write")
    parser.add_argument("--only", nargs="+", choices=sorted(STEPS), default=list(STEPS), metavar="STEP", help="not all")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {_PAGE.name} too")
    arguments = parser.parse_args()
    report = Report(quick=arguments.quick)
    asyncio.run(_measure(report, arguments.only))
    report.show()
    report.write(arguments.json)
    if arguments.docs:
        report.put_into(_PAGE)


if __name__ == "__main__":
    main()
