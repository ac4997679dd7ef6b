// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The metrics of several VMs as one text: each family once, with the samples of all VMs under it, and families of the exporter itself.
package struct ExporterText: Sendable {
    /// Why a VM's samples are not in an answer.
    package enum LeftOut: String, CaseIterable, Sendable, Error {
        /// A signal or a debugger has stopped the VM's process.
        case stopped
        /// The VM did not answer in time, or closed the connection.
        case noAnswer = "no_answer"
        /// The VM refused the request, or its answer is none of a VM.
        case invalid
        /// The VM's answer is too long.
        case tooLong = "too_long"
        /// Another VM has the same name.
        case sameName = "same_name"
        /// There are too many VMs.
        case tooMany = "too_many"
    }

    /// A VM that was found.
    package struct Machine: Sendable {
        /// The name under which it was found.
        let name: String
        /// Its samples; nil if it was left out.
        let metrics: ScrapedMetrics?

        /// Describes a VM.
        package init(name: String, metrics: ScrapedMetrics?) {
            self.name = name
            self.metrics = metrics
        }
    }

    /// The VMs, with names that differ.
    package var machines: [Machine]
    /// How often a VM was left out since the exporter's start.
    package var leftOut: [LeftOut: UInt64]
    /// Collections since the exporter's start.
    package var collectionCount: UInt64
    /// Time of the last collection.
    package var collectionNanoseconds: UInt64

    /// Creates a text.
    package init(machines: [Machine], leftOut: [LeftOut: UInt64], collectionCount: UInt64, collectionNanoseconds: UInt64) {
        self.machines = machines
        self.leftOut = leftOut
        self.collectionCount = collectionCount
        self.collectionNanoseconds = collectionNanoseconds
    }

    /// The text in a form.
    package func render(_ form: MetricsForm) -> String {
        var text = OpenMetricsText(common: [], form: form)
        text.family(.exporterBuild)
        text.sample([("version", SymVMMVersion.current)], 1)
        text.family(.exporterVMUp)
        for machine in machines { text.sample([("vm", machine.name)], machine.metrics == nil ? 0 : 1) }
        text.family(.exporterLeftOut)
        for reason in LeftOut.allCases { text.sample([("reason", reason.rawValue)], leftOut[reason] ?? 0) }
        text.family(.exporterUnknownFamilies)
        text.sample([], machines.reduce(0) { $0 &+ UInt64($1.metrics?.unknownFamilyCount ?? 0) })
        text.family(.exporterCollections)
        text.sample([], collectionCount)
        text.family(.exporterCollectionTime)
        text.sample([], nanoseconds: collectionNanoseconds)
        for family in MetricsFamily.all {
            text.family(family)
            for machine in machines { if let lines = machine.metrics?.lines[family] { text.append(lines: lines) } }
        }
        return text.ended
    }
}
