// SPDX-License-Identifier: Apache-2.0

/// The resources that give a machine's statistics.
///
///     GET /exit-statistics                     the exits: `ExitReport`
public enum StatisticsRoutes {
    /// The routes onto a machine.
    public static func routes(for machine: any MachineControl) -> [APIRoute] {
        [
            APIRoute(.get, "/exit-statistics") { _ throws(APIError) in
                try .json(ExitReport(machine.exitStatistics(), name: machine.configuration.name))
            }
        ]
    }
}
