// SPDX-License-Identifier: Apache-2.0

/// Builds HTML and SVG. Callers must pass all text from a guest, a file or a user through `escaped`.
package enum HTMLText {
    /// Escapes text for element content and double-quoted attributes. Replaces control characters (XML does not allow them) and bidirectional
    /// controls with `?`.
    package static func escaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            case "\n": escaped += "&#10;"
            default:
                let isControl = scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)
                // Bidirectional controls could make one name look like another.
                let turns = (0x202a...0x202e).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
                escaped.unicodeScalars.append(isControl || turns ? "?" : scalar)
            }
        }
        return escaped
    }

    /// A table that the page's script can sort. Aligns columns of numbers to the right.
    ///
    /// - Parameters:
    ///   - id: the element's id.
    ///   - columns: titles, and whether the columns are numbers.
    ///   - rows: the cells, not yet escaped.
    package static func table(id: String, _ columns: [(title: String, isNumber: Bool)], _ rows: [[String]]) -> String {
        func cell(_ tag: String, _ text: String, _ index: Int) -> String {
            let isNumber = index < columns.count && columns[index].isNumber
            return "<\(tag)\(isNumber ? " class=\"n\"" : "")>\(escaped(text))</\(tag)>"
        }
        let head = columns.enumerated().map { cell("th", $1.title, $0) }.joined()
        let body = rows.map { row in "<tr>" + row.enumerated().map { cell("td", $1, $0) }.joined() + "</tr>\n" }.joined()
        return "<div class=\"wide\"><table id=\"\(id)\"><thead><tr>\(head)</tr></thead><tbody>\n\(body)</tbody></table></div>\n"
    }

    /// A section with a title and a sentence, both not yet escaped, and content in HTML.
    package static func section(id: String, _ title: String, _ sentence: String, _ content: String) -> String {
        "<section id=\"\(id)\"><h2>\(escaped(title))</h2>\n<p>\(escaped(sentence))</p>\n\(content)</section>\n"
    }

    /// Formats a coordinate with at most one decimal.
    static func coordinate(_ value: Double) -> String {
        guard value.isFinite else { return "0" }
        let tenths = Int((min(max(value, -1e6), 1e6) * 10).rounded())
        let sign = tenths < 0 ? "-" : ""
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(sign)\(abs(tenths) / 10).\(abs(tenths) % 10)"
    }

    /// The style sheet.
    static let style = """
        :root{--ink:#1d2430;--soft:#5d6878;--line:#d5dae2;--ground:#fff;--panel:#f6f7f9;
        --s0:#2f6fb0;--s1:#d9822b;--s2:#3d9970;--s3:#a5467f;--s4:#7c8ea3;--s5:#c9a227;--s6:#5b5ea6;--s7:#b23b3b}
        @media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--line:#38404c;--ground:#161a20;--panel:#1e242c;
        --s0:#6aa6de;--s1:#eea65c;--s2:#6cc39d;--s3:#d284b3;--s4:#a3b1c2;--s5:#e3c768;--s6:#9a9ddf;--s7:#e07f7f}}
        body{font:15px/1.45 system-ui,"DejaVu Sans",sans-serif;color:var(--ink);background:var(--ground);margin:0 auto;max-width:1040px;padding:24px}
        h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 2px}p{margin:2px 0 10px;color:var(--soft)}
        .figures{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}.figures div{background:var(--panel);border-radius:6px;padding:8px 14px}
        .figures b{display:block;font-size:19px;font-variant-numeric:tabular-nums}.figures span{color:var(--soft);font-size:13px}
        svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:11px}svg .grid{stroke:var(--line);stroke-width:1}
        svg .mark{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:4 3}svg .marked{fill:var(--ink)}
        svg .hit{fill:transparent}svg .hit:hover{fill:var(--ink);fill-opacity:.08}.off{display:none}
        .legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin:2px 0 4px}
        .legend button{all:unset;cursor:pointer}.legend button:focus-visible{outline:2px solid var(--s0)}
        .legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}.legend .hidden{opacity:.4}
        .small{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:14px}
        .small figure{margin:0;background:var(--panel);border-radius:6px;padding:10px}
        figcaption{font-size:13px}figcaption span{color:var(--soft)}.wide{overflow-x:auto}
        table{border-collapse:collapse;font-size:13px;min-width:40%}th{text-align:left;cursor:pointer;color:var(--soft);font-weight:600}
        th,td{padding:3px 14px 3px 0;border-bottom:1px solid var(--line)}.n{text-align:right;font-variant-numeric:tabular-nums}
        #tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--ground);border-radius:4px;padding:5px 9px;font-size:12px;
        white-space:pre;opacity:0;z-index:1}#tip.on{opacity:.95}
        """

    /// The script: tooltips, hiding of series, sorting of tables. The page works without it.
    static let script = """
        "use strict";
        const tip = document.getElementById("tip");
        document.addEventListener("mousemove", event => {
          const place = event.target.closest("[data-tip]");
          tip.classList.toggle("on", place !== null);
          if (place === null) return;
          tip.textContent = place.dataset.tip;
          const left = event.clientX + 14 + tip.offsetWidth > innerWidth ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14;
          tip.style.left = left + "px";
          tip.style.top = Math.max(0, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight)) + "px";
        });
        for (const button of document.querySelectorAll(".legend button")) {
          button.addEventListener("click", () => {
            const hidden = button.classList.toggle("hidden");
            button.setAttribute("aria-pressed", String(!hidden));
            for (const part of document.querySelectorAll("#" + button.dataset.chart + " ." + button.dataset.series)) part.classList.toggle("off", hidden);
          });
        }
        const units = {ns: 1, us: 1e3, ms: 1e6, s: 1e9};
        function value(text) {
          const long = /^(\\d+)([hm])(\\d+)[ms]$/.exec(text);
          if (long !== null) return (long[1] * 60 + Number(long[3])) * (long[2] === "h" ? 60e9 : 1e9);
          const match = /^(-?[\\d.,]+)(ns|us|ms|s)?/.exec(text);
          return match === null ? NaN : parseFloat(match[1].replaceAll(",", "")) * (units[match[2]] ?? 1);
        }
        for (const table of document.querySelectorAll("table")) {
          const heads = [...table.tHead.rows[0].cells];
          heads.forEach((head, column) => head.addEventListener("click", () => {
            const down = head.dataset.down !== "yes";
            heads.forEach(other => delete other.dataset.down);
            if (down) head.dataset.down = "yes";
            const rows = [...table.tBodies[0].rows];
            rows.sort((left, right) => {
              const [a, b] = [left.cells[column].textContent, right.cells[column].textContent];
              const order = head.classList.contains("n") ? value(a) - value(b) : a.localeCompare(b);
              return down ? -order : order;
            });
            table.tBodies[0].append(...rows);
          }));
        }
        document.documentElement.dataset.script = "ran";
        """
}
