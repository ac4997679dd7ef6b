// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMPresentation

@Suite struct MetricsFormTests {
    /// What Prometheus 2.42 and 3 send.
    private static let prometheus2 =
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    private static let prometheus3 =
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
        + "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

    private static let openMetrics: [String] = [
        prometheus2, prometheus3, "application/openmetrics-text", "application/*", "text/plain;q=0.5, application/openmetrics-text;q=0.6",
        "Application/OpenMetrics-Text; Version=\"1.0.0\"", "text/plain;q=0, */*", "text/plain;version=1.0.0,application/*;q=0.1",
    ]

    @Test(arguments: MetricsFormTests.openMetrics) func openMetricsIsPreferred(accept: String) {
        #expect(MetricsForm(accept: accept, usual: .openMetrics) == .openMetrics)
        #expect(MetricsForm(accept: accept, usual: .prometheus) == .openMetrics)
    }

    private static let older: [String] = [
        "text/plain", "text/*", "text/plain;version=0.0.4", "text/plain , application/json",
        "application/openmetrics-text;q=0.2,text/plain;q=0.3", "application/openmetrics-text;version=0.0.1,text/plain;q=0.1",
        "application/openmetrics-text;q=0,*/*;q=0.1",
    ]

    @Test(arguments: MetricsFormTests.older) func theOlderFormIsPreferred(accept: String) {
        #expect(MetricsForm(accept: accept, usual: .openMetrics) == .prometheus)
        #expect(MetricsForm(accept: accept, usual: .prometheus) == .prometheus)
    }

    private static let others: [String?] = [
        nil, "", "*/*", "application/json", "text/html,application/xhtml+xml;q=0.9", ";;=,,;q=", "text/plain;q=2", "text/plain;q=nan",
        "application/openmetrics-text, text/plain", String(repeating: ",", count: 30_000),
        "a/b,\(String(repeating: "text/plain;q=0,", count: 2000))",
    ]

    @Test(arguments: MetricsFormTests.others) func otherwiseTheUsualOne(accept: String?) {
        #expect(MetricsForm(accept: accept, usual: .openMetrics) == .openMetrics)
        #expect(MetricsForm(accept: accept, usual: .prometheus) == .prometheus)
    }
}
