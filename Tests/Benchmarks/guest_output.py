# SPDX-License-Identifier: Apache-2.0
"""Runs where Linux guests run: runs a guest, and ends it if it makes no progress.

    guest_output.py LIMIT TEXT COUNT COMMAND...    passes its output on; says how many lines have had TEXT, of COUNT
"""

import sys

import machine


def main():
    limit, text, count, *words = sys.argv[1:]
    seen = 0
    with machine.watch("the guest", words, int(limit)) as guest:
        machine.step("the guest boots")
        for line in guest.lines():
            print(line, flush=True)
            seen += text in line
            if text in line and seen % 10 == 0:
                machine.step(f"{seen} of {count}")
        return guest.end()


if __name__ == "__main__":
    machine.exit_with(main)
