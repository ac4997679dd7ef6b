# SPDX-License-Identifier: Apache-2.0
"""The runner behind scripts/bench: runs the selected benchmarks, prints its progress and a table, writes JSON.

Each benchmark runs in its own process and session, so that the runner can end it with all its processes:
    bench.py --inside NAME FILE    measures it in this process, and writes the result or the error to FILE
    bench.py --prepare NAME FILE   builds and fetches what it needs, which is not part of its time
"""

import argparse
import dataclasses
import importlib
import json
import os
import signal
import sys
import tempfile

import machine
import supervisor
from result import BenchmarkError, Result, table, write_json

# In this order. Each is a module.
BENCHMARKS = [
    "exit_loop_vs_c",
    "sandbox_on_vs_off",
    "exit_allocations",
    "symcall_vs_exit",
    "symcall_vs_exit_linux",
    "task_statistics",
    "start_cpu_ms",
    "vmm_overhead_mib",
    "overhead_mib_per_vm_at_20",
    "boot_vs_qemu",
    "swap_first_touch_off_vs_on",
    "swap_later_touch_on_vs_ram",
    "swap_sparse_on_vs_off",
    "swap_hook_cost",
    "swap_zram_vs_on",
    "swap_qemu_vs_on",
    "swap_programs",
]
# Seconds on an otherwise idle machine. On a busy one the limit is later: supervisor.Limit.
LIMIT = int(os.environ.get("SYMVMM_BENCH_LIMIT", "300"))
PREPARATION_LIMIT = 2400
# Exit status: no limit is broken, but some figures come from a noisy machine.
NOISY = 4


def arguments():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", action="append", choices=BENCHMARKS)
    parser.add_argument("--json")
    parser.add_argument("--inside", nargs=2)
    parser.add_argument("--prepare", nargs=2)
    return parser.parse_args()


def main():
    asked = arguments()
    if asked.inside or asked.prepare:
        return inside(*(asked.inside or asked.prepare), only_prepare=bool(asked.prepare))
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, lambda number, _: sys.exit(128 + number))  # unwinds, which ends the benchmark
    names = [name for name in BENCHMARKS if not asked.only or name in asked.only]
    with tempfile.TemporaryDirectory(prefix="symvmm-bench-") as folder:
        os.environ[machine.RUN_FOLDER] = folder
        results, errors = measure_all(names, folder)
    if results:
        sys.stdout.write(table(results))
    if asked.json:
        write_json(asked.json, results, errors)
    verdicts = [result.verdict for result in results]
    if noisy := verdicts.count("noisy"):
        print(f"{noisy} of {len(names)} figures come from a noisy machine (marked with ?) and decide nothing: measure them again on a quiet one")
    return 1 if errors or "broken" in verdicts else NOISY if noisy else 0


def measure_all(names, folder):
    results, errors = [], {}
    for number, name in enumerate(names, 1):
        try:
            results.append(measure(name, f"{number} of {len(names)}, {name}", os.path.join(folder, name)))
        except BenchmarkError as error:
            print(f"bench: {name}: {error}", file=sys.stderr, flush=True)
            errors[name] = str(error)
    return results, errors


def measure(name, title, file):
    module = importlib.import_module(name)
    supervisor.run(machine.python("bench.py", "--prepare", name, file), f"{title}: prepares", None, PREPARATION_LIMIT)
    answer_in(file)
    words = machine.python("bench.py", "--inside", name, file)
    noise = supervisor.run(words, f"{title}: {module.__doc__.splitlines()[0].rstrip('.:')}", module.USUAL, LIMIT)
    result = Result(**answer_in(file), noise=noise)
    limit = f"limit {'>= ' if result.at_least else ''}{result.limit:g}"
    print(f"bench:     {result.value:.3f} {result.unit}, {limit}: {result.verdict}", file=sys.stderr, flush=True)
    for complaint in result.complaints:
        print(f"bench:     noisy: {complaint}", file=sys.stderr, flush=True)
    return result


def answer_in(file):
    """Returns the result that the inner process wrote; raises its error."""
    with open(file, encoding="utf-8") as opened:
        answer = json.load(opened)
    if isinstance(answer, str):
        raise BenchmarkError(answer)
    return answer


def inside(name, file, only_prepare):
    answer = {}
    try:
        module = importlib.import_module(name)
        if only_prepare:
            machine.build_guests()
            getattr(module, "prepare", lambda: None)()
        else:
            answer = dataclasses.asdict(module.measure())
            del answer["noise"]
    except BenchmarkError as error:
        answer = str(error)
    with open(file, "w", encoding="utf-8") as opened:
        json.dump(answer, opened)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
