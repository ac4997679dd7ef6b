// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A time in UTC by the Gregorian calendar.
///
/// Not gmtime_r(3), which reads the file of the local time zone when it is first called: no thread of a VM opens files while the guest runs.
package struct CalendarTime: Sendable, Equatable {
    /// The year, such as 2026.
    package let year: Int
    /// 1 to 12.
    package let month: Int
    /// 1 to 31.
    package let day: Int
    /// 0 for Sunday to 6.
    package let weekday: Int
    /// 0 to 23.
    package let hour: Int
    /// 0 to 59.
    package let minute: Int
    /// 0 to 59.
    package let second: Int

    /// The time so many seconds after the beginning of 1970; for a negative number, that beginning.
    package init(secondsSince1970 seconds: Int) {
        let seconds = max(0, seconds)
        let days = seconds / 86_400
        // Years begin in March here, so that the leap day is the last of a year. 400 years have 146,097 days; 719,468 lie before 1970.
        let shifted = days &+ 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        // 1970 began on a Thursday.
        weekday = (days + 4) % 7
        let ofDay = seconds % 86_400
        (hour, minute, second) = (ofDay / 3600, ofDay / 60 % 60, ofDay % 60)
    }

    /// Seconds since the beginning of 1970, and the nanoseconds of the current one (CLOCK_REALTIME).
    package static func now() -> (seconds: Int, nanoseconds: Int) {
        var time = timespec()
        // SAFETY: the call writes only the variable.
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return (time.tv_sec, time.tv_nsec)
    }
}
