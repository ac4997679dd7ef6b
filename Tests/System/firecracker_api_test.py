# SPDX-License-Identifier: Apache-2.0
"""symvmm's API as `symvmm firecracker` against a list of the facts of Firecracker's API (its swagger file of version 1.17, read and written down here):
every path, method, field and status. A row that symvmm does not fulfil says why."""

import json
import os

import api
import vmm

# What symvmm does not have: the answer names it.
NOT_OFFERED = "not offered by symvmm"

LIMITER = {"bandwidth": {"size": 1000, "refill_time": 100, "one_time_burst": 10}, "ops": {"size": 10, "refill_time": 100}}

# Operation: the smallest body that is complete, and for each field its values. A value is taken (204), or the row says why it is refused.
# Where a field depends on others, "with" has them.
BEFORE = {
    "PUT /boot-source": {
        "body": {"kernel_image_path": "$kernel"},
        "fields": {"kernel_image_path": ["$kernel"], "initrd_path": ["$disk", None], "boot_args": ["console=ttyS0", "", None]},
        "refused": [
            {}, {"kernel_image_path": "/none"}, {"kernel_image_path": "$kernel", "initrd_path": "/none"},
            {"kernel_image_path": "$kernel", "other": 1}, {"kernel_image_path": 1},
        ],
    },
    "PUT /machine-config": {
        "body": {"vcpu_count": 2, "mem_size_mib": 128},
        "fields": {
            "vcpu_count": [1, 2, 32], "mem_size_mib": [1, 1024], "smt": [True, False, None], "track_dirty_pages": [True, False, None],
            "huge_pages": ["None", "Transparent", "2M", None], "cpu_template": ["None", None],
        },
        "refused": [
            {}, {"vcpu_count": 1}, {"mem_size_mib": 128}, {"vcpu_count": 0, "mem_size_mib": 128}, {"vcpu_count": 33, "mem_size_mib": 128},
            {"vcpu_count": 3, "mem_size_mib": 128, "smt": True}, {"vcpu_count": 1, "mem_size_mib": 0}, {"vcpu_count": 1, "mem_size_mib": 3, "huge_pages": "2M"},
            {"vcpu_count": 1.0, "mem_size_mib": 128}, {"vcpu_count": "1", "mem_size_mib": 128}, {"vcpu_count": 1, "mem_size_mib": 128, "huge_pages": "4M"},
        ],
        "not offered": [
            {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": name} for name in ("C3", "T2", "T2S", "T2CL", "T2A", "V1N1")
        ],
    },
    "PATCH /machine-config": {
        "body": {"mem_size_mib": 256},
        "fields": {
            "vcpu_count": [4], "mem_size_mib": [64], "smt": [False, True], "track_dirty_pages": [True], "huge_pages": ["2M", "None"],
            "cpu_template": ["None"],
        },
        "refused": [{}, {"vcpu_count": None}, {"other": 1}],
    },
    "PUT /drives/1": {
        "body": {"drive_id": "1", "path_on_host": "$disk", "is_root_device": False, "is_read_only": False},
        "fields": {
            "drive_id": ["1"], "path_on_host": ["$disk", "$empty", "$odd"], "is_root_device": [True, False], "is_read_only": [True, False, None],
            "partuuid": ["0eaa91a0-01", None], "cache_type": ["Unsafe", "Writeback"], "io_engine": ["Sync", "Async", None],
            "rate_limiter": [LIMITER, {}, None, {"bandwidth": None, "ops": None}, {"ops": LIMITER["ops"]}], "socket": [None],
        },
        "refused": [
            {}, {"drive_id": "2", "path_on_host": "$disk", "is_root_device": False}, {"drive_id": "1", "path_on_host": "/none", "is_root_device": False},
            {"drive_id": "1", "path_on_host": "$disk", "is_root_device": False, "rate_limiter": {"bandwidth": {"size": 1}}},
            {"drive_id": "1", "path_on_host": "$disk", "is_root_device": False, "cache_type": "None"},
        ],
        "not offered": [{"drive_id": "1", "is_root_device": False, "path_on_host": "$disk", "socket": "/s"}],
    },
    "PUT /network-interfaces/1": {
        "body": {"iface_id": "1", "host_dev_name": "$tap"},
        "fields": {
            "iface_id": ["1"], "host_dev_name": ["$tap"], "guest_mac": ["06:00:00:00:00:01", None], "mtu": [68, 1400, 65535, None],
            "rx_rate_limiter": [LIMITER, {}, None], "tx_rate_limiter": [LIMITER, {}, None],
        },
        "refused": [
            {}, {"iface_id": "2", "host_dev_name": "$tap"}, {"iface_id": "1", "host_dev_name": "no-such-tap"},
            {"iface_id": "1", "host_dev_name": "$tap", "mtu": 67}, {"iface_id": "1", "host_dev_name": "$tap", "mtu": 65536},
            {"iface_id": "1", "host_dev_name": "$tap", "guest_mac": "06:00"},
        ],
    },
    "PUT /mmds/config": {
        "body": {"network_interfaces": ["1"]}, "first": ("/network-interfaces/1", {"iface_id": "1", "host_dev_name": "$tap"}),
        "fields": {
            "network_interfaces": [["1"]], "version": ["V1", "V2"], "ipv4_address": ["169.254.1.0", "169.254.254.255", None], "imds_compat": [True, False],
        },
        "refused": [
            {}, {"network_interfaces": []}, {"network_interfaces": ["2"]}, {"network_interfaces": ["1"], "version": "V3"},
            *({"network_interfaces": ["1"], "ipv4_address": text} for text in ("10.0.0.1", "169.254.0.1", "169.254.255.1", "169.254.1", "169.254.1.256", "x", "")),
        ],
    },
    "PUT /logger": {
        "body": {"log_path": "$log"},
        "fields": {
            "log_path": ["$log"], "level": ["Error", "Warning", "Info", "Debug", "Trace", "Off", "error", "WARN"], "show_level": [True, None],
            "show_log_origin": [True, False, None], "module": ["api_server::request", None],
        },
        "refused": [{"level": "Loud"}, {"log_path": "/none/log"}, {"other": 1}],
    },
    "PUT /metrics": {
        "body": {"metrics_path": "$metrics"}, "once": True,
        "fields": {"metrics_path": ["$metrics"], "emit_id": [True, False, None], "properties": [{"a": "b"}, {}, None]},
        "refused": [{}, {"metrics_path": "/none/metrics"}, {"metrics_path": "$metrics", "properties": {"a": 1}}],
    },
    "PUT /entropy": {
        "body": {}, "fields": {"rate_limiter": [{}, None, {"bandwidth": None}]}, "refused": [{"other": 1}], "not offered": [{"rate_limiter": LIMITER}],
    },
    "PUT /serial": {
        "body": {"serial_out_path": "$log"}, "fields": {"serial_out_path": ["$log", None], "rate_limiter": [None]}, "refused": [{"other": 1}],
        "not offered": [{"serial_out_path": "$log", "rate_limiter": {"size": 1, "refill_time": 1}}],
    },
}

# What is possible only after the start, and what is not offered at all; with a body that is right for Firecracker.
EARLY = {
    "PATCH /vm": {"state": "Paused"}, "PATCH /drives/1": {"drive_id": "1", "path_on_host": "$disk"},
    "PATCH /network-interfaces/1": {"iface_id": "1"}, "PUT /actions": {"action_type": "SendCtrlAltDel"},
}
MISSING = {
    "GET /balloon": None, "PUT /balloon": {"amount_mib": 1, "deflate_on_oom": True}, "PATCH /balloon": {"amount_mib": 1},
    "GET /balloon/statistics": None, "PATCH /balloon/statistics": {"stats_polling_interval_s": 1}, "PATCH /balloon/hinting/start": {},
    "GET /balloon/hinting/status": None, "PATCH /balloon/hinting/stop": None, "PUT /cpu-config": {}, "PUT /pmem/1": {"id": "1", "path_on_host": "$disk"},
    "PATCH /pmem/1": {"id": "1"}, "GET /hotplug/memory": None, "PUT /hotplug/memory": {"total_size_mib": 1024},
    "PATCH /hotplug/memory": {"requested_size_mib": 128}, "PUT /snapshot/create": {"mem_file_path": "/m", "snapshot_path": "/s"},
    "PUT /snapshot/load": {"snapshot_path": "/s"}, "PUT /vsock": {"guest_cid": 3, "uds_path": "/v"},
}
CONFIGURATION = {
    "balloon", "boot-source", "cpu-config", "drives", "entropy", "logger", "machine-config", "memory-hotplug", "metrics", "mmds-config",
    "network-interfaces", "pmem", "vsock",
}


class FirecrackerTest(api.ServeTest):
    """Starts VMs by Firecracker's command line."""

    def firecracker(self, *arguments, name="fc", program=None, **options):
        path = self.path(f"{name}.sock")
        words = ["--api-sock", path, "--id", name, *arguments]
        machine = self.launch(words, program or [vmm.SYMVMM, "firecracker"], **options)
        machine.socket = path
        self.wait_until("the API answers", lambda: machine.process.poll() is not None or os.path.exists(path))
        return machine

    def launch(self, words, program, **options):
        return vmm.Machine(self, words[1:], program=program, command=words[0], **options)

    def files(self):
        return {"$kernel": self.assemble("echo"), "$disk": self.disk(1 << 20), "$empty": self.write("empty.img", b""),
                "$odd": self.write("odd.img", bytes(1000)), "$log": self.path("log"), "$metrics": self.path("metrics"), "$tap": "lo"}

    def disk(self, size):
        return self.write("disk.img", bytes(size))

    def filled(self, value, names):
        if isinstance(value, dict):
            return {key: self.filled(inner, names) for key, inner in value.items()}
        return names.get(value, value) if isinstance(value, str) else value

    def kill(self, machine):
        machine.process.kill()
        machine.end()
        os.unlink(machine.socket)


class FieldByField(FirecrackerTest):
    def test_every_field_of_every_request_before_the_start(self):
        names = self.files()
        for place, facts in BEFORE.items():
            method, path = place.split()
            machine = self.firecracker()
            if "first" in facts:
                self.done(machine, "PUT", facts["first"][0], self.filled(facts["first"][1], names))
            for field, values in facts["fields"].items():
                for value in values:
                    if facts.get("once"):
                        self.kill(machine)
                        machine = self.firecracker()
                    self.done(machine, method, path, self.filled({**facts["body"], field: value}, names))
            for body in facts["refused"]:
                self.refused(machine, method, path, self.filled(body, names))
            for body in facts.get("not offered", []):
                self.refused(machine, method, path, self.filled(body, names), NOT_OFFERED)
            self.kill(machine)

    def test_what_is_possible_only_after_the_start(self):
        names = self.files()
        machine = self.firecracker()
        for place, body in EARLY.items():
            method, path = place.split()
            self.refused(machine, method, path, self.filled(body, names), "not supported before starting the microVM")
        self.kill(machine)

    def test_what_is_possible_only_before_the_start(self):
        names = self.files()
        machine = self.firecracker()
        self.done(machine, "PUT", "/boot-source", self.filled(BEFORE["PUT /boot-source"]["body"], names))
        self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
        for place, facts in BEFORE.items():
            method, path = place.split()
            self.refused(machine, method, path, self.filled(facts["body"], names), "not supported after starting the microVM")
        self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "not supported after starting the microVM")
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_what_symvmm_does_not_have(self):
        names = self.files()
        machine = self.firecracker()
        for place, body in MISSING.items():
            method, path = place.split()
            self.refused(machine, method, path, self.filled(body, names), NOT_OFFERED)
        self.kill(machine)

    def test_answers_have_firecrackers_fields_alone(self):
        names = self.files()
        machine = self.firecracker(name="web-1")
        self.assertEqual(
            self.ask(machine, "GET", "/").value, {"app_name": "Firecracker", "id": "web-1", "state": "Not started", "vmm_version": "1.17.0"})
        self.assertEqual(self.ask(machine, "GET", "/version").value, {"firecracker_version": "1.17.0"})
        self.assertEqual(
            self.ask(machine, "GET", "/machine-config").value,
            {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"})
        empty = self.ask(machine, "GET", "/vm/config").value
        self.assertEqual(set(empty), CONFIGURATION)
        self.assertEqual([key for key, value in empty.items() if value is None],
                         ["balloon", "cpu-config", "entropy", "logger", "memory-hotplug", "metrics", "mmds-config", "vsock"])
        self.done(machine, "PUT", "/drives/1", {**self.filled(BEFORE["PUT /drives/1"]["body"], names), "cache_type": "Writeback", "io_engine": "Async"})
        self.done(machine, "PUT", "/boot-source", {"kernel_image_path": names["$kernel"]})
        config = self.ask(machine, "GET", "/vm/config").value
        self.assertEqual(config["drives"], [{
            "drive_id": "1", "partuuid": None, "is_root_device": False, "cache_type": "Writeback", "is_read_only": False,
            "path_on_host": names["$disk"], "rate_limiter": None, "io_engine": "Async", "socket": None}])
        self.assertEqual(config["boot-source"], {"kernel_image_path": names["$kernel"], "initrd_path": None, "boot_args": None})
        self.kill(machine)

    def test_statuses_and_texts_of_requests_that_there_are_not(self):
        machine = self.firecracker()
        for method, path, text in (
            ("GET", "/nothing", "Invalid request method and/or path: GET nothing."), ("PUT", "/nothing/at/all", "Invalid request method and/or path: PUT nothing."),
            ("DELETE", "/boot-source", "Invalid request method and/or path: DELETE boot-source."), ("POST", "/actions", "Invalid HTTP Method."),
        ):
            answer = self.ask(machine, method, path, None)
            self.assertEqual((answer.status, answer.fault), (400, text))
        answer = self.ask(machine, "PUT", "/boot-source", b" " * 51_201)
        self.assertEqual(answer.status, 400)
        self.assertEqual(
            answer.value["error"], "Request payload with size 51201 is larger than the limit of 51200 allowed by server.\n"
            "All previous unanswered requests will be dropped.")
        self.kill(machine)

    def test_json_that_is_not_strict(self):
        machine = self.firecracker()
        for body in (
            b'{"vcpu_count": 1, "mem_size_mib": 128,}', b'\xef\xbb\xbf{"vcpu_count": 1, "mem_size_mib": 128}', b'{"vcpu_count": 1.0, "mem_size_mib": 128}',
            b'{"vcpu_count": 1, "vcpu_count": 1, "mem_size_mib": 128}', b'{"vcpu_count": 1e0, "mem_size_mib": 128}', b"{'vcpu_count': 1}",
            b'{"vcpu_count": 1, "mem_size_mib": 128} x', b'{"vcpu_count": +1, "mem_size_mib": 128}', b'{"vcpu_count": 01, "mem_size_mib": 128}',
            b'{"vcpu_count": 1 /* one */, "mem_size_mib": 128}', b"",
        ):
            self.assertEqual(self.ask(machine, "PUT", "/machine-config", body).status, 400, body)
        self.assertEqual(self.ask(machine, "GET", "/machine-config").value["vcpu_count"], 1)
        self.kill(machine)


class Metadata(FirecrackerTest):
    def test_the_data_over_the_api(self):
        for make in (self.serve, self.firecracker):
            machine = make()
            self.assertEqual(self.ask(machine, "GET", "/mmds").value, {})
            self.refused(machine, "PATCH", "/mmds", {"a": 1}, "MMDS error: The MMDS data store is not initialized.")
            for body in (b"", b"{", b'{"a": 1, "a": 2}', b"[" * 40):
                self.assertEqual(self.ask(machine, "PUT", "/mmds", body).status, 400)
            self.done(machine, "PUT", "/mmds", {"latest": {"meta-data": {"a": 1, "b": [1.5, None, "x"]}}})
            self.done(machine, "PATCH", "/mmds", {"latest": {"meta-data": {"a": None, "c": "d"}}})
            self.assertEqual(self.ask(machine, "GET", "/mmds").value, {"latest": {"meta-data": {"b": [1.5, None, "x"], "c": "d"}}})
            self.refused(machine, "PATCH", "/mmds", {"big": "x" * 51_150}, "MMDS limit exceeded error", status=413)
            self.done(machine, "PUT", "/mmds", {})
            self.start(machine)
            # Also while the guest runs.
            self.done(machine, "PUT", "/mmds", {"now": "running"})
            self.assertEqual(self.ask(machine, "GET", "/mmds").value, {"now": "running"})
            machine.send(".")
            self.assert_ended(machine, 0)

    def test_the_configuration_is_told_back(self):
        machine = self.firecracker()
        self.done(machine, "PUT", "/network-interfaces/1", {"iface_id": "1", "host_dev_name": "lo"})
        self.done(machine, "PUT", "/mmds/config", {"network_interfaces": ["1"], "version": "V2"})
        self.assertEqual(
            self.ask(machine, "GET", "/vm/config").value["mmds-config"],
            {"version": "V2", "network_interfaces": ["1"], "ipv4_address": "169.254.169.254", "imds_compat": False})
        self.kill(machine)

    def test_data_from_a_file(self):
        path = self.write("metadata.json", '{"from": "file"}')
        machine = self.firecracker("--metadata", path)
        self.assertEqual(self.ask(machine, "GET", "/mmds").value, {"from": "file"})
        self.kill(machine)
        for data in (b"{", b'{"a": "%s"}' % (b"x" * 300)):
            path = self.write("metadata.json", data)
            machine = self.firecracker("--metadata", path, "--mmds-size-limit", "300")
            self.assertEqual(machine.end(), 1)
            self.assertRegex(machine.errors, r"\Asymvmm: --metadata: .*\n\Z")


class InBothStyles(FirecrackerTest):
    def test_head_and_options(self):
        for make in (self.serve, self.firecracker):
            machine = make()
            answer = self.ask(machine, "HEAD", "/version")
            self.assertEqual((answer.status, answer.text), (200, ""))
            self.assertEqual(int(answer.headers["content-length"]), len(self.ask(machine, "GET", "/version").text))
            answer = self.ask(machine, "OPTIONS", "/machine-config")
            self.assertEqual((answer.status, answer.text), (204, ""))
            self.assertEqual(set(answer.headers["allow"].split(", ")), {"GET", "HEAD", "PUT", "PATCH", "OPTIONS"})
            self.assertEqual(self.ask(machine, "OPTIONS", "/nothing").status, 404 if make == self.serve else 400)
            machine.process.kill()

    def test_allow_has_the_methods_of_the_resource(self):
        machine = self.serve()
        for method, path, allowed in (
            ("POST", "/machine-config", {"GET", "HEAD", "PUT", "PATCH", "OPTIONS"}), ("GET", "/boot-source", {"PUT", "OPTIONS"}),
            ("DELETE", "/vm", {"PATCH", "OPTIONS"}),
        ):
            answer = self.ask(machine, method, path)
            self.assertEqual(answer.status, 405)
            self.assertEqual(set(answer.headers["allow"].split(", ")), allowed)
        machine.process.kill()

    def test_a_drive_is_measured_anew(self):
        for make in (self.serve, self.firecracker):
            machine = make()
            disk = self.disk(1 << 20)
            self.done(machine, "PUT", "/drives/1", {"drive_id": "1", "path_on_host": disk, "is_root_device": False})
            self.start(machine)
            with open(disk, "r+b") as file:
                file.truncate(1000)
            # Of its own style, symvmm refuses a part of a sector; Firecracker leaves it out.
            if make == self.serve:
                self.refused(machine, "PATCH", "/drives/1", {"drive_id": "1"}, "1000 bytes, is not a multiple of 512")
            else:
                self.done(machine, "PATCH", "/drives/1", {"drive_id": "1"})
            self.disk(2 << 20)
            self.done(machine, "PATCH", "/drives/1", {"drive_id": "1"})
            self.done(machine, "PATCH", "/drives/1", {"drive_id": "1", "rate_limiter": {"ops": {"size": 1, "refill_time": 1}}})
            machine.send(".")
            self.assert_ended(machine, 0)

    def test_metrics_have_a_first_line_and_all_groups(self):
        metrics = self.path("metrics")
        machine = self.firecracker("--metrics-path", metrics)
        self.start(machine)
        # The start is answered when the line is written.
        with open(metrics, encoding="utf-8") as file:
            line = json.loads(file.readline())
        groups = (
            "api_server balloon block deprecated_api entropy get_api_requests i8042 interrupts latencies_us logger memory_hotplug mmds net "
            "patch_api_requests pmem put_api_requests seccomp signals uart vcpu vmm vsock").split()
        self.assertEqual(sorted(set(line) - {"symvmm", "utc_timestamp_ms"}), groups)
        for group in groups:
            for name, value in line[group].items():
                if name.endswith("_agg"):
                    self.assertEqual(set(value), {"min_us", "max_us", "sum_us"}, f"{group}.{name}")
                else:
                    self.assertIsInstance(value, int, f"{group}.{name}")
        self.assertGreaterEqual(len(line["put_api_requests"]), 26)
        self.assertNotIn("id", line)
        machine.send(".")
        self.assert_ended(machine, 0)

    def test_metrics_with_an_identifier_and_properties(self):
        metrics = self.path("metrics")
        machine = self.firecracker(name="marked")
        self.done(machine, "PUT", "/metrics", {"metrics_path": metrics, "emit_id": True, "properties": {"rack": "7"}})
        self.start(machine)
        machine.send(".")
        self.assert_ended(machine, 0)
        with open(metrics, encoding="utf-8") as file:
            for line in map(json.loads, file):
                self.assertEqual((line["id"], line["properties"]), ("marked", {"rack": "7"}))

    def test_the_log_has_origins_and_a_module_filter(self):
        for fields, pattern in (({"show_log_origin": True}, r"\[fc:VMMControl/[A-Za-z+]+\.swift:\d+\] VM started"), ({"module": "VMMControl"}, "VM started"), ({"module": "api"}, None)):
            log = self.path("log")
            machine = self.firecracker()
            self.done(machine, "PUT", "/logger", {"log_path": log, **fields})
            self.start(machine)
            machine.send(".")
            self.assert_ended(machine, 0)
            with open(log, encoding="utf-8") as file:
                text = file.read()
            if pattern is None:
                self.assertEqual(text, "")
            else:
                self.assertRegex(text, pattern)
            os.unlink(log)

    def test_huge_pages_that_the_host_does_not_have(self):
        with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as file:
            if int(file.read()) > 0:
                self.skipTest("the host has huge pages")
        for make in (self.serve, self.firecracker):
            machine = make()
            self.done(machine, "PUT", "/boot-source", {"kernel_image_path": self.assemble("echo")})
            self.done(machine, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 16, "huge_pages": "2M"})
            self.refused(machine, "PUT", "/actions", {"action_type": "InstanceStart"}, "vm.nr_hugepages=8")
            self.done(machine, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 16, "huge_pages": "Transparent"})
            self.done(machine, "PUT", "/actions", {"action_type": "InstanceStart"})
            machine.send(".")
            self.assert_ended(machine, 0)
