"""python -m tests.fuzz --cases 3000 --seed 0 --families rows configs; or --case rows:17"""

import argparse
import sys

from tests.fuzz.families import FAMILIES
from tests.fuzz.runner import CLOCK_SECONDS, FAULTS, Result, run_cases, table
from tests.fuzz.worker import run_case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="of all families together")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case of each")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--clock", type=float, default=CLOCK_SECONDS, help="seconds a case; more on a busy machine"
    )
    parser.add_argument("--case", help="FAMILY:NUMBER: run this one here and print what it says")
    parser.add_argument("--show", action="store_true", help="print every outcome")
    options = parser.parse_args()
    if options.case:
        family, _, number = options.case.partition(":")
        FAMILIES[family].prepare()
        answer = run_case(family, int(number))
        print(f"{answer['outcome']}: {answer['message']}")
        sys.exit(answer["outcome"] in FAULTS)
    n = len(options.families)
    # Family by family: a worker then prepares few of them.
    cases = [
        (family, options.seed + i)
        for k, family in enumerate(options.families)
        for i in range(options.cases // n + (k < options.cases % n))
    ]
    results: list[Result] = []
    for result in run_cases(cases, options.workers, options.clock):
        results.append(result)
        if result.outcome in FAULTS or options.show:
            last = (result.message.strip().splitlines() or [""])[-1]
            print(f"{result.case}: {result.outcome}: {last[:300]}", flush=True)
    print(table(results))
    sys.exit(any(result.outcome in FAULTS for result in results))


if __name__ == "__main__":
    main()
