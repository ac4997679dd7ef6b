# SPDX-License-Identifier: Apache-2.0
"""The runner behind scripts/bench: measures what was asked for, prints a table, writes JSON."""

import argparse
import importlib
import sys

import machine
from result import BenchmarkError, table, write_json

# In this order; each is a module of its own.
BENCHMARKS = [
    "exit_loop_vs_c",
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


def arguments():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", action="append", choices=BENCHMARKS)
    parser.add_argument("--json")
    return parser.parse_args()


def main():
    asked = arguments()
    names = [name for name in BENCHMARKS if not asked.only or name in asked.only]
    results, failed = [], False
    machine.build_guests()
    for name in names:
        try:
            results.append(importlib.import_module(name).measure())
        except BenchmarkError as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = True
    sys.stdout.write(table(results))
    if asked.json:
        write_json(asked.json, results)
    return 1 if failed or not all(result.held for result in results) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(f"bench: {error}")
