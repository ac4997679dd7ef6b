# SPDX-License-Identifier: Apache-2.0
"""`ps`, `stats` and the statistics' resource, while guests leave at full speed. They run on any /dev/kvm."""

import json
import os
import re
import subprocess
import threading
import time

import vmm


class Looking(vmm.SystemTest):
    group = "host"

    def start(self, name, guest="wait", *arguments, **options):
        machine = self.tiny(guest, "--quiet", "--console", "none", "--name", name, *arguments, **options)
        self.wait_until_running(name)
        return machine

    def start_at_full_speed(self, name):
        """A guest that does nothing but leave."""
        machine = self.start(name, "count", defines=["COUNT=0x7fffffff", "READS=1"])
        self.wait_until("it leaves", lambda: self.answer("stats", name)["exit_count"] > 1000)
        return machine

    def end(self, machine, name):
        self.symvmm("kill", name)
        self.assert_ended(machine, 130)

    def check_sums(self, report):
        self.assertEqual(report["exit_count"], sum(row["count"] for row in report["exits"]))
        self.assertEqual(report["exit_count"], sum(processor["exit_count"] for processor in report["vcpus"]))
        for row in report["exits"]:
            self.assertEqual(row["count"], sum(bucket["count"] for bucket in row["histogram"]))
            self.assertGreater(row["count"], 0)
            self.assertLessEqual(row["minimum_ns"], row["maximum_ns"])
        for processor in report["vcpus"]:
            own = [row for row in report["exits"] if row["vcpu"] == processor["vcpu"]]
            self.assertEqual(processor["vmm_ns"], sum(row["total_ns"] for row in own))

    def test_readers_never_see_a_count_go_back(self):
        machine = self.start_at_full_speed("fast")
        socket = os.path.join(self.runtime, "symvmm", "fast.sock")
        problems, reports = [], [0]

        def read():
            before = {}
            for _ in range(60):
                report = vmm.request(socket, "GET", "/exit-statistics")[1]
                try:
                    self.check_sums(report)
                    now = self.counts(report)
                    for key, value in before.items():
                        self.assertGreaterEqual(now.get(key, 0), value, key)
                except AssertionError as problem:
                    problems.append(problem)
                    return
                before = now
                reports[0] += 1

        readers = [threading.Thread(target=read) for _ in range(3)]
        first = self.answer("stats", "fast")["exit_count"]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        self.assertEqual(problems, [])
        self.assertEqual(reports[0], 180)
        # It ran meanwhile, however fast on a busy machine.
        self.assertGreater(self.answer("stats", "fast")["exit_count"], first)
        self.end(machine, "fast")

    def counts(self, report):
        """All that may only grow."""
        counts = {"exits": report["exit_count"], "uptime": report["uptime_ns"]}
        for row in report["exits"]:
            place = (row["vcpu"], row["reason"], row.get("address"))
            counts[(*place, "count")], counts[(*place, "total")] = row["count"], row["total_ns"]
            for bucket in row["histogram"]:
                counts[(*place, bucket["up_to_ns"])] = bucket["count"]
        for processor in report["vcpus"]:
            counts[(processor["vcpu"], "guest")], counts[(processor["vcpu"], "vmm")] = processor["guest_ns"], processor["vmm_ns"]
        return counts

    def test_reading_stops_no_vcpu(self):
        """A reader that kicked the vCPU would be seen as an exit of its own, `interrupted`."""
        machine = self.start_at_full_speed("undisturbed")
        for _ in range(20):
            report = self.answer("stats", "undisturbed")
        self.assertEqual([row for row in report["exits"] if row["reason"] == "interrupted"], [])
        self.symvmm("pause", "undisturbed")
        self.symvmm("resume", "undisturbed")
        self.assertEqual([row["count"] for row in self.answer("stats", "undisturbed", "--reason", "interrupted")["exits"]], [1])
        self.end(machine, "undisturbed")

    def test_a_reset_lets_counts_begin_anew(self):
        machine = self.start_at_full_speed("anew")
        before = self.answer("stats", "anew")
        self.symvmm("pause", "anew")
        self.assertEqual(self.answer("stats", "anew", "--reset"), {"name": "anew", "result": "counts from now"})
        empty = self.answer("stats", "anew")
        self.assertEqual((empty["exit_count"], empty["exits"]), (0, []))
        self.assertGreater(empty["reset_ns"], before["uptime_ns"])
        self.assertNotIn("reset_ns", before)
        self.symvmm("resume", "anew")
        self.wait_until("it goes on", lambda: self.answer("stats", "anew")["exit_count"] > 0)
        after = self.answer("stats", "anew")
        self.check_sums(after)
        self.assertIn("since the reset", self.symvmm("stats", "anew").stdout)
        # What monitoring sees knows of no reset.
        self.assertGreater(self.answer("ps")[0]["exit_count"], before["exit_count"])
        self.end(machine, "anew")

    def test_filters_and_groupings(self):
        machine = self.start("parts", "wait", "--cpus", "2")
        self.wait_until("it leaves", lambda: self.answer("stats", "parts")["exit_count"] > 10)
        serial = self.answer("stats", "parts", "--device", "serial")
        self.check_sums(serial)
        self.assertEqual([(row["device"], row["address"], row["count"]) for row in serial["exits"]], [("serial", 0x3F8, 1)])
        self.assertEqual([processor["vcpu"] for processor in self.answer("stats", "parts", "--vcpu", "1")["vcpus"]], [1])
        self.assertEqual(self.answer("stats", "parts", "--reason", "mmio_read")["exit_count"], 0)
        for by, pattern in (
            ("reason", r"(?m)^port_write +[\d,]+ +100\.0 "),
            ("device", r"(?m)^serial +1 "),
            ("address", r"(?m)^0x3f8 +serial +1 "),
            ("vcpu", r"(?m)^ +0 +port_write +serial +0x3f8 +1 "),
            ("place", r"(?m)^port_write +serial +0x3f8 +1 "),
            ("task", r"symbiotic\.ko"),
        ):
            result = self.symvmm("stats", "parts", "--by", by)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, pattern)
            if by != "task":
                self.assertRegex(result.stdout, r"COUNT +TIME% +MEAN +P50 +P99 +MAX")
        for words, message in (
            (["--reason", "boredom"], "'boredom' is not a reason"),
            (["--vcpu", "99"], "not the number of a vCPU"),
            (["--watch", "0"], "--watch"),
            (["--watch", "1", "--json"], "--follow"),
            (["--reset", "--device", "serial"], "--reset"),
        ):
            result = self.symvmm("stats", "parts", *words)
            self.assertEqual(result.returncode, 2, words)
            self.assertIn(message, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)
        self.end(machine, "parts")

    def test_watch_tells_rates_until_the_end(self):
        machine = self.start_at_full_speed("watched")
        result = self.symvmm("stats", "watched", "--watch", "0.3", "--count", "3", "--by", "reason")
        self.assertEqual(result.returncode, 0, result.stderr)
        tables = re.findall(r"(?m)^watched: ([\d,]+) exits to user space in ([\d.]+)ms, ([\d,]+) a second$", result.stdout)
        self.assertEqual(len(tables), 3, result.stdout)
        for count, milliseconds, rate in tables:
            count, rate = int(count.replace(",", "")), int(rate.replace(",", ""))
            self.assertAlmostEqual(count / float(milliseconds) * 1000 / rate, 1, delta=0.02)
        self.assertNotIn("\x1b", result.stdout)
        watcher = subprocess.Popen(
            [vmm.SYMVMM, "stats", "watched", "--watch", "0.2"], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(watcher.kill)
        time.sleep(0.7)
        self.end(machine, "watched")
        output, errors = watcher.communicate(timeout=vmm.PATIENCE)
        self.assertEqual(watcher.returncode, 0, errors)
        self.assertIn("a second", output)
        self.assertEqual(errors, "symvmm: watched has ended\n")

    def test_follow_is_json_lines(self):
        machine = self.start_at_full_speed("followed")
        result = self.symvmm("stats", "followed", "--follow", "--watch", "0.2", "--count", "4")
        reports = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(reports), 4)
        for before, after in zip(reports, reports[1:]):
            self.check_sums(after)
            self.assertGreater(after["exit_count"], before["exit_count"])
        # No faster than asked for; slower on a busy machine.
        self.assertGreater((reports[-1]["uptime_ns"] - reports[0]["uptime_ns"]) / 1e9, 0.5)
        self.end(machine, "followed")

    def test_ps_has_rates(self):
        machines = [self.start_at_full_speed("fast"), self.start("held", "wait", "--memory", "32M", "--symbiotic", "off")]
        self.symvmm("pause", "held")
        rows = {row["name"]: row for row in self.answer("ps")}
        self.assertGreater(rows["fast"]["exits_per_second"], 100)
        self.assertEqual(rows["held"]["exits_per_second"], 0)
        text = self.symvmm("ps").stdout
        self.assertRegex(text, r"\ANAME +PID +STATE +VCPUS +MEMORY +UPTIME +EXITS +EXITS/S +SYMBIOTIC\n")
        self.assertRegex(text, rf"(?m)^fast +{machines[0].pid} +Running +1 +256M +[\d.]+m?s +[\d,]+ +[\d,]+ +on$")
        self.assertRegex(text, rf"(?m)^held +{machines[1].pid} +Paused +1 +32M +[\d.]+m?s +[\d,]+ +0\.0 +off$")
        for name in ("fast", "held"):
            self.symvmm("kill", name)
        for machine in machines:
            self.assertEqual(machine.end(), 130)

    def test_names_complete_in_bash(self):
        machine = self.start("completed")
        script = self.symvmm("--generate-completion-script", "bash")
        self.assertEqual(script.returncode, 0)
        path = self.write("completion", script.stdout)
        words = f'''
            source {path}
            PATH={vmm.BUILD}:$PATH
            complete() {{
                COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${{#COMP_LINE}} COMPREPLY=()
                _symvmm symvmm "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
                echo "${{COMPREPLY[@]}}"
            }}
            for command in stats stop pause resume kill; do complete symvmm "$command" ""; done
            complete symvmm stats comp
            complete symvmm stats other
            complete symvmm stats completed --by ""
        '''
        lines = vmm.checked("bash", "-c", words, env=self.environment).splitlines()
        self.assertEqual([line.split() for line in lines[:6]], [["completed"]] * 6)
        self.assertEqual(lines[6].split(), [])
        self.assertEqual(set(lines[7].split()), {"place", "vcpu", "reason", "device", "address", "task"})
        self.end(machine, "completed")
