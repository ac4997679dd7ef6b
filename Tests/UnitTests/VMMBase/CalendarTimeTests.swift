// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMBase

@Suite struct CalendarTimeTests {
    /// Compares with the C library for 219 years, at changing times of the day.
    @Test func itIsTheTimeOfTheCLibrary() {
        for day in 0..<80_000 {
            let seconds = day * 86_400 + day * 7919 % 86_400
            var (moment, parts) = (seconds, unsafe tm())
            // SAFETY: the call reads and writes only the variables.
            _ = unsafe gmtime_r(&moment, &parts)
            let time = CalendarTime(secondsSince1970: seconds)
            let date = unsafe (Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday), Int(parts.tm_wday))
            let clock = unsafe (Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec))
            guard date == (time.year, time.month, time.day, time.weekday), clock == (time.hour, time.minute, time.second) else {
                Issue.record("\(seconds): \(time)")
                return
            }
        }
    }

    @Test func extremeTimesDoNotTrap() {
        #expect(CalendarTime(secondsSince1970: -1) == CalendarTime(secondsSince1970: 0))
        #expect(CalendarTime(secondsSince1970: .max).month >= 1)
        #expect(CalendarTime.now().seconds > 1_700_000_000)
    }
}
