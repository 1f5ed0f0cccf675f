//! A run's chart: loss, gradient norm and clip coefficient over the steps, as one SVG file that a
//! person can open. It decides what is drawn and how much of it, and does not depend on how a run goes.

use std::{
    fs,
    io::{self, Write as _},
    ops::Range,
    path::Path,
};

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordu64;
use plotters::prelude::*;
use speech::regular_file;

use crate::records::curves::{Curves, Point, Series};

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 240;
const TITLE_HEIGHT: u32 = 48;
/// A smoothed line looks back over this share of the run.
const SMOOTHING: f64 = 0.02;

const RAW: RGBColor = RGBColor(158, 188, 218);
const SMOOTH: RGBColor = RGBColor(8, 81, 156);
const HELD_OUT: RGBColor = RGBColor(204, 76, 2);
const TEXT: RGBColor = RGBColor(60, 60, 60);

/// One plot of the chart.
struct Panel<'a> {
    caption: &'static str,
    lines: Vec<ChartLine<'a>>,
}

struct ChartLine<'a> {
    label: &'static str,
    series: &'a Series,
    kind: LineKind,
}

#[derive(Clone, Copy, PartialEq)]
enum LineKind {
    /// Every step, noisy: drawn pale, with its moving average.
    Steps,
    /// A few measurements, drawn with a dot each.
    Epochs,
}

const COEFFICIENT: &str = "Clip coefficient";

/// A label and the name of the number it stands for.
type Source = (&'static str, &'static str, LineKind);

/// What is drawn, in this order, where the run has it.
const PANELS: [(&str, &[Source]); 5] = [
    (
        "Loss",
        &[
            ("training", "loss", LineKind::Steps),
            ("held out", "valid.loss", LineKind::Epochs),
        ],
    ),
    (
        "Held-out rate",
        &[
            ("accuracy", "valid.accuracy", LineKind::Epochs),
            ("word error rate", "valid.wer", LineKind::Epochs),
            ("character error rate", "valid.cer", LineKind::Epochs),
        ],
    ),
    (
        "Gradient norm before clipping",
        &[
            ("global norm", "grad_norm", LineKind::Steps),
            ("threshold", "clip_threshold", LineKind::Steps),
        ],
    ),
    (
        COEFFICIENT,
        &[("coefficient", "clip_coef", LineKind::Steps)],
    ),
    (
        "Share of elements clipped",
        &[("share", "share_clamped", LineKind::Steps)],
    ),
];

/// Whether the figure of this name is drawn.
pub fn shows(name: &str) -> bool {
    let mut sources = PANELS.iter().flat_map(|(_, sources)| *sources);
    sources.any(|(_, source, _)| *source == name)
}

/// Draws `curves` to `path`, whole or not at all.
///
/// # Errors
/// When the chart cannot be drawn, or its file cannot be written.
pub fn draw(curves: &Curves, title: &str, path: &Path) -> io::Result<()> {
    let svg = render(curves, title).map_err(io::Error::other)?;
    let partial = path.with_extension("svg.partial");
    regular_file::create(&partial)?.write_all(svg.as_bytes())?;
    fs::rename(&partial, path)
}

fn render(curves: &Curves, title: &str) -> Result<String, String> {
    let panels: Vec<Panel> = PANELS
        .iter()
        .map(|(caption, lines)| Panel {
            caption,
            lines: lines
                .iter()
                .filter_map(|&(label, name, kind)| {
                    let series = curves.get(name).filter(|series| !series.is_empty())?;
                    Some(ChartLine {
                        label,
                        series,
                        kind,
                    })
                })
                .collect(),
        })
        .filter(|panel| !panel.lines.is_empty())
        .collect();
    // Every panel shows the same stretch of the run.
    let lines = panels.iter().flat_map(|panel| &panel.lines);
    let spans: Vec<(u64, u64)> = lines.filter_map(|line| line.series.steps()).collect();
    let first = spans.iter().map(|span| span.0).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.1).max().unwrap_or(0);
    let steps = first..last.max(first + 1);
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len().max(1) as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        let heading = ("sans-serif", 20).into_font().color(&TEXT);
        let area = area
            .titled(title, heading)
            .map_err(|error| error.to_string())?;
        for (panel, area) in panels
            .iter()
            .zip(area.split_evenly((panels.len().max(1), 1)))
        {
            panel
                .draw(&area, &steps)
                .map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'c, 'a, Y> = ChartContext<'c, SVGBackend<'a>, Cartesian2d<RangedCoordu64, Y>>;
type DrawResult<'a> =
    Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl Panel<'_> {
    fn draw<'a>(&self, area: &Area<'a>, steps: &Range<u64>) -> DrawResult<'a> {
        let values = self.values();
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(self.caption, ("sans-serif", 15).into_font().color(&TEXT))
            .margin_right(24)
            .x_label_area_size(28)
            .y_label_area_size(64);
        if self.wants_logarithm() {
            let range = (values.0 * 0.9..values.1 * 1.1).log_scale();
            self.fill(builder.build_cartesian_2d(steps.clone(), range)?)
        } else {
            let room = ((values.1 - values.0) * 0.06)
                .max(values.1.abs() * 1e-3)
                .max(1e-9);
            // How far a coefficient lies below one is seen against zero.
            let low = if self.caption == COEFFICIENT {
                0.0
            } else {
                values.0
            };
            let range = low - room..values.1 + room;
            self.fill(builder.build_cartesian_2d(steps.clone(), range)?)
        }
    }

    fn fill<'c, 'a: 'c, Y>(&self, mut chart: Chart<'c, 'a, Y>) -> DrawResult<'a>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .axis_style(TEXT)
            .label_style(("sans-serif", 12).into_font().color(&TEXT))
            .y_labels(6)
            .y_label_formatter(&|value| number(*value))
            .x_desc("step")
            .draw()?;
        let mut colors = [HELD_OUT, SMOOTH].into_iter().cycle();
        for line in &self.lines {
            let points: Vec<Point> = line.series.points().collect();
            match line.kind {
                LineKind::Steps => {
                    let smooth = smooth(&points);
                    chart.draw_series(LineSeries::new(points, RAW.stroke_width(1)))?;
                    chart
                        .draw_series(LineSeries::new(smooth, SMOOTH.stroke_width(2)))?
                        .label(line.label)
                        .legend(|(x, y)| key(x, y, SMOOTH));
                }
                LineKind::Epochs => {
                    let color = colors.next().unwrap_or(HELD_OUT);
                    chart
                        .draw_series(LineSeries::new(
                            points.iter().copied(),
                            color.stroke_width(2),
                        ))?
                        .label(line.label)
                        .legend(move |(x, y)| key(x, y, color));
                    chart.draw_series(
                        points
                            .into_iter()
                            .map(|point| Circle::new(point, 3, color.filled())),
                    )?;
                }
            }
        }
        if self.lines.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .label_font(("sans-serif", 12).into_font().color(&TEXT))
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(200, 200, 200))
                .draw()?;
        }
        Ok(())
    }

    fn values(&self) -> (f64, f64) {
        self.lines
            .iter()
            .flat_map(|line| line.series.points().map(|(_, value)| value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
    }

    /// Where values lie over more than a factor of a hundred, a linear axis shows only the largest.
    fn wants_logarithm(&self) -> bool {
        let (low, high) = self.values();
        self.lines[0].kind == LineKind::Steps && low > 0.0 && high / low > 100.0
    }
}

fn key(x: i32, y: i32, color: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
}

/// An exponential moving average, corrected for its start as Adam's moments are.
fn smooth(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let window = (points.len() as f64 * SMOOTHING).max(1.0);
    let keep = 1.0 - 1.0 / window;
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|(step, value)| {
            sum = keep * sum + (1.0 - keep) * value;
            weight = keep * weight + (1.0 - keep);
            (*step, sum / weight)
        })
        .collect()
}

fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(values: &[(&str, u64, f64)]) -> Curves {
        let mut curves = Curves::default();
        for (name, step, value) in values {
            curves.push(name, *step, *value);
        }
        curves
    }

    #[test]
    fn the_chart_shows_what_the_run_has_and_nothing_else() {
        let mut run = Curves::default();
        for step in 1..=50u32 {
            run.push("loss", step.into(), 3.0 / f64::from(step));
            run.push("grad_norm", step.into(), step.into());
        }
        let svg = render(&run, "digits").unwrap();
        assert!(svg.contains("digits") && svg.contains("Loss") && svg.contains("Gradient norm"));
        assert!(!svg.contains("Clip coefficient") && !svg.contains("Held-out rate"));
        assert!(svg.contains("<polyline"));
    }

    #[test]
    fn a_run_of_one_step_or_none_has_a_chart_too() {
        assert!(render(&Curves::default(), "nothing yet").is_ok());
        let one = [("loss", 1, 1.0), ("clip_coef", 1, 1.0)];
        assert!(render(&curves(&one), "one").is_ok());
        assert!(render(&curves(&[("loss", 1, 0.0)]), "zero").is_ok());
    }

    #[test]
    fn what_is_drawn_is_known_by_name() {
        assert!(shows("loss") && shows("valid.wer") && !shows("update_s"));
    }

    #[test]
    fn numbers_on_the_axis_are_short() {
        let texts: Vec<_> = [0.0, 0.25, 1200.0, 1e-6].map(number).into_iter().collect();
        assert_eq!(texts, ["0", "0.25", "1200", "1.0e-6"]);
    }
}
