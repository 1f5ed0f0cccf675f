//! The progress of a run for people: one moving line on a terminal, a plain line now and then elsewhere. It
//! decides what is worth saying while a run goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use coordinator::records::events::{Event, StepMetrics};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{follow::Update, narrate, output, screen};

/// Off a terminal, steps are told at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Off a terminal and on one, events of a kind that come in floods are shown this often and then once in a while.
const FLOOD_BURST: u64 = 5;
const FLOOD_INTERVAL: Duration = Duration::from_secs(10);
/// Utterances left out are named one by one up to this many; `logs` has them all.
const NAMED_UTTERANCES: usize = 5;

/// The view of one run.
pub(crate) struct ProgressView {
    bar: Option<ProgressBar>,
    epochs: u32,
    steps: u64,
    synthetic: bool,
    left_out: usize,
    last_step: Option<StepMetrics>,
    pace: StepPace,
    throughput: Throughput,
    told: Option<Instant>,
    floods: BTreeMap<&'static str, Flood>,
}

impl ProgressView {
    /// The view of a run of `epochs` epochs.
    pub(crate) fn new(epochs: u32) -> Self {
        let bar = output::is_attended().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), screen::target());
            let template = if output::wants_color() {
                "{prefix:.bold} {wide_bar:.cyan/dim} {msg}"
            } else {
                "{prefix} {wide_bar} {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix("preparing");
            bar
        });
        Self {
            bar,
            epochs,
            steps: 0,
            synthetic: false,
            left_out: 0,
            last_step: None,
            pace: StepPace::default(),
            throughput: Throughput::default(),
            told: None,
            floods: BTreeMap::new(),
        }
    }

    /// Shows what is new.
    pub(crate) fn show(&mut self, news: Update) {
        match news {
            Update::Event(record) => self.event(&record.event),
            Update::Step(metrics) => self.step(metrics),
            Update::Line(_) => {}
        }
    }

    /// A line of its own, above the bar.
    pub(crate) fn message(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::message(text)),
            None => output::message(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        } else if let Some(metrics) = self.last_step.take()
            && self.told.is_some()
        {
            output::message(&self.plain(&metrics));
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Prepared {
                steps, synthetic, ..
            } => {
                self.steps = *steps;
                self.synthetic = *synthetic;
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps);
                }
            }
            Event::UtteranceLeftOut { .. } => {
                self.left_out += 1;
                match self.left_out - 1 {
                    ..NAMED_UTTERANCES => {}
                    NAMED_UTTERANCES => {
                        return self.message("more utterances are left out; `unisono logs` names them, and the end counts them");
                    }
                    _ => return,
                }
            }
            // What is found from here on is named anew.
            Event::LeftOut { .. } => self.left_out = 0,
            Event::Evaluated { .. } => self.pace.pause(),
            Event::Checkpointed { .. } | Event::Succeeded { .. } | Event::Failed { .. } => return,
            _ => {}
        }
        let sentence = narrate::sentence(event, self.synthetic);
        let Some(kind) = flooding(event) else {
            return self.message(&sentence);
        };
        match self.floods.entry(kind).or_default().judge(Instant::now()) {
            None => {}
            Some(0) => self.message(&sentence),
            Some(more) => {
                self.message(&format!("{sentence} (and {more} more like this before it)"));
            }
        }
    }

    fn step(&mut self, metrics: StepMetrics) {
        self.pace.step(metrics.step, Instant::now());
        self.throughput.add(&metrics);
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!(
                "epoch {}/{} step {}/{}",
                metrics.epoch, self.epochs, metrics.step, self.steps
            ));
            bar.set_message(format!(
                "{}, {}",
                self.figures(&metrics),
                self.time_left(metrics.step)
            ));
            bar.set_position(metrics.step);
        } else if self.told.is_none_or(|told| told.elapsed() >= PLAIN_EVERY) {
            self.told = Some(Instant::now());
            output::message(&self.plain(&metrics));
            self.last_step = None;
            return;
        }
        self.last_step = Some(metrics);
    }

    fn plain(&self, metrics: &StepMetrics) -> String {
        format!(
            "epoch {}/{} step {}/{}: {}, {}",
            metrics.epoch,
            self.epochs,
            metrics.step,
            self.steps,
            self.figures(metrics),
            self.time_left(metrics.step)
        )
    }

    fn figures(&self, metrics: &StepMetrics) -> String {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("none".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "loss {}, norm {}, coefficient {}, {:.0} audio-s/s",
            number(metrics.loss, 4),
            number(metrics.grad_norm, 3),
            number(metrics.clip_coef, 3),
            self.throughput.rate()
        )
    }

    fn time_left(&self, step: u64) -> String {
        match self.pace.seconds_a_step() {
            Some(each) if self.steps > step => {
                let left = each * (self.steps - step) as f64;
                format!("{} left", output::duration(left.max(1.0).round()))
            }
            _ if self.steps > 0 && step >= self.steps => "last step".to_owned(),
            _ => "time left unknown".to_owned(),
        }
    }
}

/// The kind of an event that may come once a micro-batch, or from each worker at the same time.
const fn flooding(event: &Event) -> Option<&'static str> {
    match event {
        Event::WorkerLost { .. } => Some("lost"),
        Event::LeaseExpired { .. } => Some("expired"),
        Event::GivenBack { .. } => Some("given back"),
        Event::Quarantined { .. } => Some("quarantined"),
        Event::StepSkipped { .. } => Some("skipped"),
        Event::Differed { .. } => Some("differed"),
        Event::ContributionRejected { .. } => Some("rejected"),
        _ => None,
    }
}

/// How often events of a kind were shown.
#[derive(Debug, Default)]
struct Flood {
    shown: u64,
    left_out: u64,
    last: Option<Instant>,
}

impl Flood {
    /// Where one more is to be shown, how many before it were not.
    fn judge(&mut self, now: Instant) -> Option<u64> {
        let recent = |last: Instant| now.saturating_duration_since(last) < FLOOD_INTERVAL;
        if self.shown >= FLOOD_BURST && self.last.is_some_and(recent) {
            self.left_out += 1;
            return None;
        }
        self.shown += 1;
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Seconds of audio trained on in a second, over the last twenty steps or so: batches of short
/// utterances and of long ones differ.
#[derive(Debug, Default)]
struct Throughput {
    audio: f64,
    seconds: f64,
}

impl Throughput {
    const DECAY: f64 = 0.95;

    fn add(&mut self, metrics: &StepMetrics) {
        self.audio = Self::DECAY * self.audio + metrics.audio_seconds;
        self.seconds = Self::DECAY * self.seconds + metrics.seconds;
    }

    fn rate(&self) -> f64 {
        self.audio / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// How long a step takes, evaluations included, over the run so far with more weight on the recent
/// past.
#[derive(Debug, Default)]
struct StepPace {
    last: Option<(u64, Instant)>,
    mean: f64,
    weight: f64,
    paused: bool,
}

impl StepPace {
    /// One step weighs this much against all before it.
    const NEWEST_WEIGHT: f64 = 0.01;

    /// An evaluation lies between this step and the next: its time is no step's.
    const fn pause(&mut self) {
        self.paused = true;
    }

    fn step(&mut self, step: u64, now: Instant) {
        if let Some((last, at)) = self.last
            && step > last
            && !self.paused
        {
            let each = (now - at).as_secs_f64() / (step - last) as f64;
            for _ in last..step.min(last + 1000) {
                self.mean = (1.0 - Self::NEWEST_WEIGHT) * self.mean + Self::NEWEST_WEIGHT * each;
                self.weight = (1.0 - Self::NEWEST_WEIGHT) * self.weight + Self::NEWEST_WEIGHT;
            }
        }
        self.paused = false;
        self.last = Some((step, now));
    }

    fn seconds_a_step(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.mean / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_shown_at_first_and_then_once_in_a_while_with_a_count() {
        let start = Instant::now();
        let mut flood = Flood::default();
        let shown: Vec<(u64, u64)> = (0..250)
            .filter_map(|tenth| {
                let more = flood.judge(start + Duration::from_millis(100 * tenth))?;
                Some((tenth, more))
            })
            .collect();
        let few = (0..5).map(|tenth| (tenth, 0));
        let rest = [(104, 99), (204, 99)];
        assert_eq!(shown, few.chain(rest).collect::<Vec<_>>());
    }

    #[test]
    fn the_pace_leaves_evaluations_out() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut pace = StepPace::default();
        assert_eq!(pace.seconds_a_step(), None);
        pace.step(1, at(0));
        pace.step(2, at(2));
        pace.pause();
        pace.step(3, at(100));
        pace.step(5, at(104));
        let each = pace.seconds_a_step().unwrap();
        assert!((each - 2.0).abs() < 1e-9, "{each}");
    }
}
