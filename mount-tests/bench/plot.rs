//! The chart: a bar a target, as a share of whom it is measured beside, with its interval (SVG).

use crate::measure::Run;
use crate::report::{Report, ratio};
use crate::stats::Ratio;
use crate::works::{FLOOR, FUSE2FS, Metric, NBD, Place, QEMU, SPINDLE, TMPFS, Work};
use std::fmt::Write;

const NAMES_WIDTH: f64 = 190.0;
/// Pixels of a ratio of 1; longer bars than [`LONGEST`] are cut, their number says how long.
const ONE: f64 = 380.0;
const LONGEST: f64 = 1.3;
const WIDTH: f64 = 860.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 24.0;

/// A colour a target, told apart by all eyes (the palette of Okabe and Ito).
fn colour(target: &str) -> &'static str {
    match target {
        SPINDLE => "#0072B2",
        FLOOR => "#999999",
        QEMU => "#E69F00",
        NBD => "#D55E00",
        FUSE2FS => "#CC79A7",
        TMPFS => "#56B4E9",
        _ => "#009E73",
    }
}

/// Draws all works that have runs.
pub fn draw(report: &Report, works: &[Work]) -> String {
    let mut body = String::new();
    let mut y = 58.0;
    for work in works {
        for place in [Place::Same, Place::Free] {
            let has_runs =
                report.runs.iter().any(|run| run.work == work.name && run.place == place);
            if has_runs {
                group(&mut body, report, work, place, &mut y);
            }
        }
    }
    let one = NAMES_WIDTH + ONE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        y + 10.0
    );
    let size = report.file_bytes >> 20;
    let title = format!("Calls a second beside the one marked 1.00 ({size} MiB file)");
    label(&mut svg, 10.0, 22.0, &title, "font-size=\"15\" font-weight=\"bold\"");
    let rounds = format!("{}; medians of {} rounds, 95 % intervals", report.host, report.rounds);
    label(&mut svg, 10.0, 40.0, &rounds, "fill=\"#555\"");
    let _ = writeln!(
        svg,
        "<line x1=\"{one}\" y1=\"50\" x2=\"{one}\" y2=\"{y:.0}\" stroke=\"#bbb\" \
         stroke-dasharray=\"3 3\"/>"
    );
    svg + &body + "</svg>\n"
}

fn group(body: &mut String, report: &Report, work: &Work, place: Place, y: &mut f64) {
    let Some(reference) = reference(report, work, place) else { return };
    let title = format!("{} ({})", work.title, place.name());
    label(body, 10.0, *y + 14.0, &title, "font-weight=\"bold\"");
    *y += HEAD;
    for target in work.all() {
        let pair = (target, reference);
        if let Some(share) = ratio(&report.runs, (work.name, place), pair, Metric::Rate) {
            bar(body, target, share, *y);
            *y += BAR + 4.0;
        }
    }
    *y += 8.0;
}

/// The first of the others that has runs; ours alone is measured beside itself.
fn reference(report: &Report, work: &Work, place: Place) -> Option<&'static str> {
    let has_runs = |target: &&str| {
        let of_it = |run: &&Run| run.work == work.name && run.place == place;
        report.runs.iter().filter(of_it).any(|run| run.target == *target)
    };
    work.others().chain([work.ours]).find(has_runs)
}

fn bar(body: &mut String, target: &str, share: Ratio, y: f64) {
    let x = |ratio: f64| NAMES_WIDTH + ONE * ratio.min(LONGEST);
    let middle = y + BAR / 2.0;
    label(body, 24.0, y + 12.0, target, "");
    let _ = writeln!(
        body,
        "<rect x=\"{NAMES_WIDTH}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
        x(share.value) - NAMES_WIDTH,
        colour(target)
    );
    let _ = writeln!(
        body,
        "<path d=\"M{l:.1} {middle:.1}H{h:.1}M{l:.1} {t:.1}v8M{h:.1} {t:.1}v8\" stroke=\"black\"/>",
        l = x(share.low),
        h = x(share.high),
        t = middle - 4.0
    );
    let figures = format!("{:.2}  [{:.2} {:.2}]", share.value, share.low, share.high);
    label(body, x(share.high.max(share.value)) + 8.0, y + 12.0, &figures, "fill=\"#333\"");
}

fn label(body: &mut String, x: f64, y: f64, text: &str, style: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::works::WORKS;

    #[test]
    fn a_chart_has_a_bar_a_target_and_escapes_what_it_shows() {
        let svg = draw(&report(50.0), WORKS);
        assert_eq!(svg.matches(" fill=\"#0072B2\"").count(), 1);
        assert_eq!(svg.matches(" fill=\"#999999\"").count(), 1);
        assert!(svg.contains("0.50  [0.50 0.50]") && svg.contains("1.00  [1.00 1.00]"));
        assert!(svg.contains("Linux &lt;test> &amp; co"));
    }

    #[test]
    fn a_bar_that_is_too_long_is_cut_and_still_tells_its_number() {
        let svg = draw(&report(1000.0), WORKS);
        assert!(svg.contains("10.00  ["));
        assert!(svg.contains(&format!("width=\"{:.1}\"", ONE * LONGEST)));
    }
}
