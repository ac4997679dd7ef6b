# SPDX-License-Identifier: Apache-2.0
"""`ps`, `stats` and the API's statistics, while guests cause exits at full speed. On any /dev/kvm."""

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
        """A guest that only causes exits."""
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

    def test_readers_never_see_a_count_decrease(self):
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
        # The guest ran meanwhile, at any speed.
        self.assertGreater(self.answer("stats", "fast")["exit_count"], first)
        self.end(machine, "fast")

    def counts(self, report):
        """All values that may only grow."""
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
        """A reader that kicked the vCPU would cause an exit with the reason `interrupted`."""
        machine = self.start_at_full_speed("undisturbed")
        for _ in range(20):
            report = self.answer("stats", "undisturbed")
        self.assertEqual([row for row in report["exits"] if row["reason"] == "interrupted"], [])
        self.symvmm("pause", "undisturbed")
        self.symvmm("resume", "undisturbed")
        self.assertEqual([row["count"] for row in self.answer("stats", "undisturbed", "--reason", "interrupted")["exits"]], [1])
        self.end(machine, "undisturbed")

    def test_a_reset_sets_the_counters_to_zero(self):
        machine = self.start_at_full_speed("anew")
        before = self.answer("stats", "anew")
        self.symvmm("pause", "anew")
        self.assertEqual(self.answer("stats", "anew", "--reset"), {"name": "anew", "result": "counters reset"})
        empty = self.answer("stats", "anew")
        self.assertEqual((empty["exit_count"], empty["exits"]), (0, []))
        self.assertGreater(empty["reset_ns"], before["uptime_ns"])
        self.assertNotIn("reset_ns", before)
        self.symvmm("resume", "anew")
        self.wait_until("it goes on", lambda: self.answer("stats", "anew")["exit_count"] > 0)
        after = self.answer("stats", "anew")
        self.check_sums(after)
        self.assertIn("since the reset", self.symvmm("stats", "anew").stdout)
        # The reset does not affect OpenMetrics.
        self.assertGreater(self.listed()[0]["exit_count"], before["exit_count"])
        self.end(machine, "anew")

    def budget(self, name, vcpu=0):
        """The time budget of a vCPU, whose parts add up to the whole."""
        budgets = []
        # There is none before the vCPU's thread has begun.
        self.wait_until("a budget", lambda: budgets.append(self.answer("stats", name)["vcpus"][vcpu].get("budget")) or budgets[-1])
        budget = budgets[-1]
        parts = {part: budget.get(f"{part}_ns", 0) for part in ("guest", "kvm", "vmm", "halted", "stolen", "waiting", "paused")}
        self.assertEqual(sum(parts.values()), budget["wall_ns"])
        return {"wall": budget["wall_ns"], **parts}

    def test_the_time_budget_adds_up_and_names_what_a_vcpu_does(self):
        busy, idle = self.start_at_full_speed("busy"), self.start("idle", "halt", "--cpus", "2")
        # The second vCPU of the idle one is never started.
        vcpus = {"busy": ("busy", 0), "idle": ("idle", 0), "never": ("idle", 1)}
        budgets = {}

        def take():
            budgets.update({key: self.budget(*vcpu) for key, vcpu in vcpus.items()})
            return min(budget["wall"] for budget in budgets.values()) > 1e9

        def is_told():
            # Most of the time since the start, of which the first part is special: on a busy machine, the program's pages come from its file.
            take()
            works = budgets["busy"]
            return (
                works["guest"] + works["kvm"] + works["vmm"] + works["stolen"] > 0.9 * works["wall"]
                and works["halted"] + works["waiting"] < 0.1 * works["wall"]
                and all(budgets[key]["halted"] + budgets[key]["stolen"] > 0.9 * budgets[key]["wall"] for key in ("idle", "never"))
            )

        self.wait_until("a second of all", take)
        try:
            self.wait_until("the budgets tell what the vCPUs do", is_told, within=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {budgets}") from error
        works = budgets["busy"]
        self.assertGreater(works["vmm"], 0)
        self.assertEqual(works["paused"], 0)
        self.symvmm("pause", "busy")
        before = self.budget("busy")
        self.wait_until("half a second of pause", lambda: self.budget("busy")["wall"] > before["wall"] + 0.5e9)
        after = self.budget("busy")
        self.assertGreater(after["paused"] - before["paused"], 0.98 * (after["wall"] - before["wall"]), (before, after))
        self.assertEqual(after["vmm"], before["vmm"])
        result = self.symvmm("stats", "busy")
        self.assertRegex(
            result.stdout,
            r"\Abusy: .*\n\nVCPU +TIME +GUEST~?% +KVM~?% +VMM% +HALTED% +STOLEN~?% +WAITING~?% +PAUSED%\n +0 +[\dm.]+s( +([\d.]+|-)){7}\n\n",
        )
        for name in ("busy", "idle"):
            self.symvmm("kill", name)
        self.assertEqual([machine.end() for machine in (busy, idle)], [130, 130])

    def test_differences_of_reports(self):
        machine = self.start_at_full_speed("diff")
        files = []
        for number in range(2):
            files.append(self.path(f"{number}.json"))
            with open(files[-1], "w", encoding="utf-8") as file:
                file.write(self.symvmm("stats", "diff", "--json").stdout)
            count = self.answer("stats", "diff")["exit_count"]
            self.wait_until("it goes on", lambda: self.answer("stats", "diff")["exit_count"] > count)
        reports = []
        for path in files:
            with open(path, encoding="utf-8") as file:
                reports.append(json.load(file))
        between = json.loads(self.symvmm("stats", "--diff", *files, "--json").stdout)
        self.check_sums(between)
        self.assertEqual(between["exit_count"], reports[1]["exit_count"] - reports[0]["exit_count"])
        self.assertEqual(between["reset_ns"], reports[0]["uptime_ns"])
        self.assertEqual(between["vcpus"][0]["budget"]["wall_ns"], reports[1]["vcpus"][0]["budget"]["wall_ns"] - reports[0]["vcpus"][0]["budget"]["wall_ns"])
        self.assertRegex(self.symvmm("stats", "--diff", *files, "--by", "reason").stdout, rf"\Adiff: {between['exit_count']:,} exits to user space in ")
        since = self.answer("stats", "diff", "--since", files[0])
        self.assertGreater(since["exit_count"], between["exit_count"])
        self.assertEqual(since["reset_ns"], reports[0]["uptime_ns"])
        other = self.path("other.json")
        with open(other, "w", encoding="utf-8") as file:
            json.dump({**reports[0], "name": "another"}, file)
        for words, message in (
            (["--diff", files[1], files[0]], "not an earlier report of the same run"),
            (["diff", "--since", other], "not an earlier report of the same run"),
            (["--diff", files[0]], "two files"),
            (["--diff", *files, "--watch", "1"], "--diff cannot be combined"),
            (["diff", "--since", files[0], "--follow"], "--since cannot be combined"),
            (["diff", "--since", __file__], "is not a report"),
            (["diff", "--since", self.path("none")], "No such file"),
            ([], "name of a VM"),
        ):
            result = self.symvmm("stats", *words)
            self.assertEqual(result.returncode, 2, words)
            self.assertIn(message, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.end(machine, "diff")

    def test_filters_and_groupings(self):
        machine = self.start("parts", "wait", "--cpus", "2")
        self.wait_until("it leaves", lambda: self.answer("stats", "parts")["exit_count"] > 10)
        serial = self.answer("stats", "parts", "--device", "serial")
        self.check_sums(serial)
        self.assertEqual([(row["device"], row["address"], row["count"]) for row in serial["exits"]], [("serial", 0x3F8, 1)])
        self.assertEqual([processor["vcpu"] for processor in self.answer("stats", "parts", "--vcpu", "1")["vcpus"]], [1])
        self.assertEqual(self.answer("stats", "parts", "--reason", "mmio_read")["exit_count"], 0)
        for by, pattern in (
            ("reason", r"(?m)^pio_write +[\d,]+ +100\.0 "),
            ("device", r"(?m)^serial +1 "),
            ("address", r"(?m)^0x3f8 +serial +1 "),
            ("vcpu", r"(?m)^ +0 +pio_write +serial +0x3f8 +1 "),
            ("place", r"(?m)^pio_write +serial +0x3f8 +1 "),
            ("task", r"symbiotic\.ko"),
        ):
            result = self.symvmm("stats", "parts", "--by", by)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, pattern)
            if by != "task":
                self.assertRegex(result.stdout, r"COUNT +TIME% +MEAN +P50 +P99 +MAX")
        for words, message in (
            (["--reason", "boredom"], "'boredom' is not a reason"),
            (["--vcpu", "99"], "not a vCPU number"),
            (["--watch", "0"], "--watch"),
            (["--watch", "1", "--json"], "--follow"),
            (["--reset", "--device", "serial"], "--reset"),
        ):
            result = self.symvmm("stats", "parts", *words)
            self.assertEqual(result.returncode, 2, words)
            self.assertIn(message, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)
        self.end(machine, "parts")

    def test_watch_prints_rates_until_the_end(self):
        machine = self.start_at_full_speed("watched")
        result = self.symvmm("stats", "watched", "--watch", "0.3", "--count", "3", "--by", "reason")
        self.assertEqual(result.returncode, 0, result.stderr)
        tables = re.findall(r"(?m)^watched: ([\d,]+) exits to user space in ([\d.]+)(ms|s), ([\d,.]+) per second$", result.stdout)
        self.assertEqual(len(tables), 3, result.stdout)
        for count, time_, unit, rate in tables:
            count, rate = int(count.replace(",", "")), float(rate.replace(",", ""))
            # On a busy machine, 0.3 s may become more than a second, or a few milliseconds in which the guest does not run.
            seconds = float(time_) / (1000 if unit == "ms" else 1)
            self.assertAlmostEqual(count / seconds, rate, delta=1 + rate * 0.02)
        self.assertNotIn("\x1b", result.stdout)
        watcher = subprocess.Popen(
            [vmm.SYMVMM, "stats", "watched", "--watch", "0.2"], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(watcher.kill)
        self.assertIn("per second", watcher.stdout.readline())
        self.end(machine, "watched")
        _, errors = watcher.communicate(timeout=vmm.PATIENCE)
        self.assertEqual(watcher.returncode, 0, errors)
        self.assertEqual(errors, "symvmm: watched has ended\n")

    def test_follow_is_json_lines(self):
        machine = self.start_at_full_speed("followed")
        begun = time.monotonic()
        result = self.symvmm("stats", "followed", "--follow", "--watch", "0.2", "--count", "4")
        # No faster than requested; slower on a busy machine. The first report may be late, so that less time lies between the reports.
        self.assertGreaterEqual(time.monotonic() - begun, 0.6)
        reports = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(reports), 4)
        for before, after in zip(reports, reports[1:]):
            self.check_sums(after)
            # On a busy machine, a late report is soon followed by the next one, and the guest need not have run between them.
            self.assertGreaterEqual(after["exit_count"], before["exit_count"])
        follower = subprocess.Popen(
            [vmm.SYMVMM, "stats", "followed", "--follow", "--watch", "0.2"], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(follower.stdout.close)
        self.addCleanup(follower.kill)
        counts = {json.loads(next(follower.stdout))["exit_count"]}
        self.wait_until("the reports grow", lambda: counts.add(json.loads(next(follower.stdout))["exit_count"]) or len(counts) == 4)
        self.end(machine, "followed")
        self.assertEqual(follower.wait(vmm.PATIENCE), 0)

    def test_ps_has_rates(self):
        machines = [self.start_at_full_speed("fast"), self.start("held", "wait", "--memory", "32M", "--symbiotic", "off")]
        self.symvmm("pause", "held")
        rows = {}

        def are_seen():
            rows.update({row["name"]: row for row in self.listed()})
            # On a busy machine, the guest does not run in some intervals, or there is no second answer within a second and so no rate.
            return (rows["fast"].get("exits_per_second") or 0) > 100

        self.wait_until("the guest's exits are seen", are_seen)
        self.assertEqual(rows["held"]["exits_per_second"], 0)
        fast = rf"(?m)^fast +{machines[0].pid} +Running +1 +256M +[\dm.]+s +[\d,]+ +[\d,]+ +on +on +/.*/fast\.sock$"
        self.wait_until("the guest's exits are in the table", lambda: re.search(fast, self.table()))
        text = self.table()
        self.assertRegex(text, r"\ANAME +PID +STATE +VCPUS +MEMORY +UPTIME +EXITS +EXITS/S +SYMBIOTIC +SANDBOX +SOCKET\n")
        self.assertRegex(text, rf"(?m)^held +{machines[1].pid} +Paused +1 +32M +[\dm.]+s +[\d,]+ +0\.0 +off +on +/.*/held\.sock$")
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
