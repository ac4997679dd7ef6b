# SPDX-License-Identifier: Apache-2.0
"""Checks the server against docs/openapi.yaml: paths, methods, fields, statuses, bodies. OpenAPITests.swift checks that the file has every route."""

import os
import re

import yaml

import api
import vmm

METHODS = ("get", "put", "patch", "delete")


class OpenAPI(api.ServeTest):
    def setUp(self):
        super().setUp()
        with open(os.path.join(vmm.ROOT, "docs", "openapi.yaml"), encoding="utf-8") as file:
            self.document = yaml.safe_load(file)
        self.machine = self.serve()

    def resolve(self, node):
        while "$ref" in node:
            words = node["$ref"].removeprefix("#/").split("/")
            node = self.document
            for word in words:
                node = node[word]
        return node

    def operations(self):
        """Each path as a request has it, with method and description."""
        for path, item in self.document["paths"].items():
            place = path
            for parameter in item.get("parameters", []):
                place = place.replace("{" + parameter["name"] + "}", parameter["example"])
            for method in METHODS:
                if method in item:
                    yield place, method.upper(), item[method]

    def body(self, operation):
        """Schema and example of the request's body."""
        if "requestBody" not in operation:
            return None, None
        content = operation["requestBody"]["content"]["application/json"]
        return self.resolve(content["schema"]), content["example"]

    def check(self, schema, value, place):
        """Checks a value against a schema: the part of OpenAPI that the file uses."""
        schema = self.resolve(schema)
        if value is None and schema.get("nullable"):
            return
        if "enum" in schema:
            self.assertIn(value, schema["enum"], place)
        kind = schema.get("type")
        if kind == "object":
            self.assertIsInstance(value, dict, place)
            self.assertEqual([name for name in schema.get("required", []) if name not in value], [], f"{place}: missing")
            properties = schema.get("properties", {})
            if schema.get("additionalProperties") is False:
                self.assertEqual([name for name in value if name not in properties], [], f"{place}: not in the file")
            for name, inner in value.items():
                if name in properties:
                    self.check(properties[name], inner, f"{place}.{name}")
        elif kind == "array":
            self.assertIsInstance(value, list, place)
            for inner in value:
                self.check(schema["items"], inner, f"{place}[]")
        elif kind == "integer":
            self.assertTrue(isinstance(value, int) and not isinstance(value, bool), f"{place}: {value!r}")
            self.assertTrue(schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{place}: {value!r}")
        elif kind == "number":
            self.assertTrue(isinstance(value, (int, float)) and not isinstance(value, bool), f"{place}: {value!r}")
        elif kind is not None:
            self.assertIsInstance(value, {"string": str, "boolean": bool}[kind], place)

    def check_answer(self, answer, operation, place):
        """Checks that the file names the status and the body."""
        responses = operation["responses"]
        self.assertIn(str(answer.status), responses, f"{place}: {answer.status} {answer.text[:300]}")
        content = self.resolve(responses[str(answer.status)]).get("content")
        if content is None:
            self.assertEqual(answer.text, "", place)
            return
        kind, body = next(iter(content.items()))
        self.assertTrue(answer.headers["content-type"].startswith(kind), f"{place}: {answer.headers}")
        if kind == "application/json":
            self.check(body["schema"], answer.value, place)

    def ask_all(self):
        """Makes every operation except those that end the VM, with its example; returns the statuses by path and method."""
        statuses = {}
        for place, method, operation in self.operations():
            schema, example = self.body(operation)
            if schema is not None:
                self.check(schema, example, f"{method} {place}: the example")
            answer = self.ask(self.machine, method, place, example)
            self.check_answer(answer, operation, f"{method} {place}")
            statuses[f"{method} {place}"] = answer.status
        return statuses

    def test_every_operation_answers_as_documented_before_and_after_the_start(self):
        before = self.ask_all()
        # The server refused InstanceStart with a missing kernel, and did every configuration request.
        self.assertEqual(before["PUT /actions"], 400)
        for place in ("PUT /boot-source", "PUT /machine-config", "PATCH /machine-config", "PUT /drives/rootfs", "PUT /network-interfaces/eth0",
                      "PUT /entropy", "PUT /swap", "PUT /serial", "PUT /logger", "PUT /metrics"):
            self.assertEqual(before[place], 204, place)
        for place in ("GET /swap-bypass", "PUT /swap-bypass", "PATCH /drives/rootfs", "PATCH /vm", "GET /symcalls", "PUT /symcalls"):
            self.assertEqual(before[place], 400, place)
        self.symvmm("kill", "served")
        self.assertEqual(self.machine.end(), 0)
        self.machine = self.serve()
        self.done(self.machine, "PUT", "/swap", {"size_bytes": 16 << 20})
        disk = self.write("disk.img", bytes(1 << 20))
        self.done(self.machine, "PUT", "/drives/rootfs", {"drive_id": "rootfs", "path_on_host": disk})
        self.start(self.machine, "wait")
        after = self.ask_all()
        for place in ("PUT /boot-source", "PUT /machine-config", "PUT /drives/rootfs", "PUT /entropy", "PUT /swap", "PUT /serial", "PUT /metrics", "PUT /actions"):
            self.assertEqual(after[place], 400, place)
        for place in ("PATCH /vm", "PUT /logger", "DELETE /exit-statistics"):
            self.assertEqual(after[place], 204, place)
        for place in ("GET /vm/config", "GET /exit-statistics", "GET /metrics/openmetrics", "GET /symcalls", "GET /swap-bypass"):
            self.assertEqual(after[place], 200, place)
        self.done(self.machine, "PATCH", "/drives/rootfs", {"drive_id": "rootfs", "path_on_host": disk})
        self.symvmm("kill", "served")
        self.assert_ended(self.machine, 130)

    def test_the_methods_of_a_path_are_those_in_the_file(self):
        for path, item in self.document["paths"].items():
            place = re.sub(r"\{[^}]*\}", "x", path)
            answer = self.ask(self.machine, next(method.upper() for method in reversed(METHODS) if method not in item), place)
            self.assertEqual(answer.status, 405, place)
            allowed = [method.upper() for method in METHODS if method in item]
            allowed += ["HEAD", "OPTIONS"] if "get" in item else ["OPTIONS"]
            self.assertEqual(sorted(answer.headers["allow"].split(", ")), sorted(allowed), place)

    def test_the_fields_of_a_body_are_those_in_the_file(self):
        for place, method, operation in list(self.operations()):
            schema, example = self.body(operation)
            if schema is not None and not self.wants_a_guest(place, method):
                self.check_fields(place, method, schema, example)
        self.done(self.machine, "PUT", "/swap", {"size_bytes": 16 << 20})
        self.start(self.machine, "wait")
        for place, method, operation in list(self.operations()):
            schema, example = self.body(operation)
            if schema is not None and self.wants_a_guest(place, method):
                self.check_fields(place, method, schema, example)
        self.symvmm("kill", "served")
        self.assert_ended(self.machine, 130)

    def wants_a_guest(self, place, method):
        """Whether the operation is refused before the start for another reason."""
        return place in ("/symcalls", "/swap-bypass") or method == "PATCH" and place not in ("/machine-config", "/vm")

    def check_fields(self, place, method, schema, example):
        where = f"{method} {place}"
        if "properties" not in schema:
            # The guest's metadata is any JSON.
            self.assertEqual(place, "/mmds")
            return
        # The message about an unknown field names it and all known fields.
        fault = self.refusal(place, method, {**example, "no_such_field": 1})
        self.assertIn("no_such_field: unknown field; known are ", fault, where)
        known = fault.rpartition("known are ")[2].split(", ")
        self.assertEqual(sorted(known), sorted(schema["properties"]), where)
        for name in schema.get("required", []):
            fault = self.refusal(place, method, {field: value for field, value in example.items() if field != name})
            self.assertIn(f"{name}: missing", fault, where)
        for name, node in schema["properties"].items():
            node = self.resolve(node)
            for wrong in self.wrong_values(node):
                fault = self.refusal(place, method, {**example, name: wrong})
                self.assertIn(name, fault, f"{where} {name}={wrong!r}")

    def wrong_values(self, node):
        yield {"string": 5, "integer": "5", "boolean": "yes", "array": {}, "object": 5, None: "x"}[node.get("type")]
        yield [[1], {}][node.get("type") == "array"]
        if node.get("enum") == [False]:
            yield True
        elif "enum" in node and node.get("type") == "string":
            yield "no such word"
        for bound, step in (("minimum", -1), ("maximum", 1)):
            if bound in node:
                yield node[bound] + step

    def refusal(self, place, method, body):
        answer = self.ask(self.machine, method, place, body)
        self.assertEqual(answer.status, 400, f"{method} {place} {body}: {answer.text}")
        return answer.fault
