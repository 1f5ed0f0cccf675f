//! Graphs and their sums against brute force over all paths, and against hmmlearn (`testdata/hmm.py`).

use std::path::Path as FilePath;

use serde::Deserialize;

use super::{topology::WordPosition, transcript::Place, *};
use crate::{decode, lexicon::pronunciations::Pronunciations, random::Stream};

/// The score of each path through a graph, by its states.
fn all_paths(graph: &Graph, scores: &[f64], pdfs: usize) -> Vec<(Vec<u32>, f64)> {
    let frames = scores.len() / pdfs;
    let at = |frame: usize, state: u32| scores[frame * pdfs + graph.pdf(state) as usize];
    let mut paths: Vec<(Vec<u32>, f64)> = (0..)
        .zip(graph.starts())
        .map(|(state, start)| (vec![state], start + at(0, state)))
        .collect();
    for frame in 1..frames {
        let longer = |(path, score): &(Vec<u32>, f64)| {
            let mut found = Vec::new();
            for state in 0..graph.states() as u32 {
                for arc in graph.arcs_into(state) {
                    if arc.from == path[frame - 1] {
                        let mut path = path.clone();
                        path.push(state);
                        found.push((path, score + arc.log_weight + at(frame, state)));
                    }
                }
            }
            found
        };
        paths = paths.iter().flat_map(longer).collect();
    }
    let ended = |(path, score): &(Vec<u32>, f64)| {
        let last = path[path.len() - 1];
        let ends = graph.ends().iter().filter(move |(state, _)| *state == last);
        let (path, score) = (path.clone(), *score);
        ends.map(move |(_, weight)| (path.clone(), score + weight))
            .collect::<Vec<_>>()
    };
    let ended = paths.iter().flat_map(ended);
    ended
        .filter(|(_, score)| *score > f64::NEG_INFINITY)
        .collect()
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

/// A graph with skips, double arcs and states that no path reaches.
fn random_graph(stream: &mut Stream, states: u32, pdfs: u64) -> Graph {
    let mut builder = GraphBuilder::default();
    for _ in 0..states {
        builder.state(stream.below(pdfs) as u32);
    }
    let some = |stream: &mut Stream| stream.below(u64::from(states)) as u32;
    for _ in 0..stream.below(3 * u64::from(states) + 1) {
        let (from, to, log_weight) = (some(stream), some(stream), stream.normal());
        builder.arc(from, to, log_weight);
    }
    for _ in 0..=stream.below(2) {
        let (start, end) = (some(stream), some(stream));
        builder.start(start, stream.normal());
        builder.end(end, stream.normal());
    }
    builder.build()
}

fn occupancies(graph: &Graph, scores: &[f64], pdfs: usize, max_bytes: usize) -> (f64, Vec<f64>) {
    let mut found = vec![0.0; scores.len() / pdfs * graph.states()];
    let scores = Scores::new(scores, pdfs);
    let total = sums::forward_backward_within(max_bytes, graph, scores, |frame, state, share| {
        found[frame * graph.states() + state as usize] += share;
    });
    (total, found)
}

#[test]
fn sums_are_those_of_all_paths() {
    let mut with_paths = 0;
    for seed in 0..400 {
        let stream = &mut Stream::new(15, &[seed]);
        let (frames, pdfs) = (1 + stream.below(6) as usize, 1 + stream.below(4) as usize);
        let states = 1 + stream.below(5) as u32;
        let graph = random_graph(stream, states, pdfs as u64);
        let score = |_| match stream.below(9) {
            0 => f64::NEG_INFINITY,
            _ => 3.0 * stream.normal(),
        };
        let scores: Vec<f64> = (0..frames * pdfs).map(score).collect();
        let paths = all_paths(&graph, &scores, pdfs);
        let rows = Scores::new(&scores, pdfs);
        let best = sums::viterbi(&graph, rows);
        let total = sums::forward(&graph, rows);
        let (whole, found) = occupancies(&graph, &scores, pdfs, usize::MAX);
        assert_eq!(total, whole, "seed {seed}");
        if paths.is_empty() {
            assert_eq!((best, total), (None, f64::NEG_INFINITY), "seed {seed}");
            assert!(found.iter().all(|share| *share == 0.0));
            continue;
        }
        with_paths += 1;
        let most = paths
            .iter()
            .map(|(_, score)| *score)
            .fold(f64::NEG_INFINITY, f64::max);
        let best = best.expect("a path");
        assert!(close(best.log_score, most), "seed {seed}");
        let is_best = |(path, score): &(Vec<u32>, f64)| *path == best.states && close(*score, most);
        assert!(paths.iter().any(is_best), "seed {seed}");
        let sum: f64 = paths.iter().map(|(_, score)| (score - most).exp()).sum();
        assert!(close(total, most + sum.ln()), "seed {seed}");
        let mut shares = vec![0.0; found.len()];
        for (path, score) in &paths {
            for (frame, state) in path.iter().enumerate() {
                shares[frame * graph.states() + *state as usize] += (score - total).exp();
            }
        }
        for (share, found) in shares.iter().zip(&found) {
            assert!((share - found).abs() < 1e-9, "seed {seed}: {share} {found}");
        }
        let least = graph.least_frames().expect("a path");
        assert!(least <= frames, "seed {seed}");
    }
    assert!(with_paths > 100, "{with_paths}");
}

#[test]
fn the_least_frames_are_those_of_the_shortest_path() {
    for seed in 0..200 {
        let stream = &mut Stream::new(16, &[seed]);
        let graph = random_graph(stream, 5, 1);
        let has_path = |frames: &usize| !all_paths(&graph, &vec![0.0; *frames], 1).is_empty();
        assert_eq!(graph.least_frames(), (1..=5).find(has_path), "seed {seed}");
    }
}

#[test]
fn frames_a_block_at_a_time_give_the_same_bits() {
    let stream = &mut Stream::new(3, &[]);
    let pdfs = 4;
    for frames in (1..40).chain([99, 100, 101, 400]) {
        let scores = (0..frames * pdfs).map(|_| stream.normal() * 3.0);
        let scores: Vec<f64> = scores.collect();
        for count in [0, 1, frames / 3, frames / 2] {
            let label = |_| 1 + stream.below(pdfs as u64 - 1) as u32;
            let labels: Vec<u32> = (0..count).map(label).collect();
            let graph = Graph::ctc(&labels, 0);
            let rows = Scores::new(&scores, pdfs);
            let whole = sums::viterbi_within(usize::MAX, &graph, rows);
            assert_eq!(
                whole,
                sums::viterbi_within(0, &graph, rows),
                "{frames} frames"
            );
            let whole = occupancies(&graph, &scores, pdfs, usize::MAX);
            assert_eq!(
                whole,
                occupancies(&graph, &scores, pdfs, 0),
                "{frames} frames"
            );
            assert_eq!(whole.0, sums::forward(&graph, rows));
        }
    }
}

#[test]
fn posteriors_of_a_frame_sum_to_one_and_no_path_beats_the_total() {
    for seed in 0..50 {
        let stream = &mut Stream::new(17, &[seed]);
        let (frames, pdfs) = (30 + stream.below(40) as usize, 6);
        let labels: Vec<u32> = (0..10).map(|_| 1 + stream.below(5) as u32).collect();
        let graph = Graph::ctc(&labels, 0);
        // As far apart as a confident network's outputs.
        let scores: Vec<f64> = (0..frames * pdfs)
            .map(|_| stream.normal() * 300.0)
            .collect();
        let (total, found) = occupancies(&graph, &scores, pdfs, 1000);
        for frame in found.chunks(graph.states()) {
            assert!(close(frame.iter().sum(), 1.0), "seed {seed}");
        }
        let best = sums::viterbi(&graph, Scores::new(&scores, pdfs)).expect("a path");
        assert!(best.log_score <= total + 1e-9 * total.abs(), "seed {seed}");
    }
}

#[test]
fn the_least_frames_of_ctc_are_those_that_decoding_counts() {
    for seed in 0..50 {
        let stream = &mut Stream::new(18, &[seed]);
        let labels: Vec<u32> = (0..stream.below(12))
            .map(|_| 1 + stream.below(3) as u32)
            .collect();
        let least = Graph::ctc(&labels, 0).least_frames();
        // An empty transcript has a path of one blank.
        assert_eq!(
            least,
            Some(decode::ctc_required_frames(&labels).max(1)),
            "{labels:?}"
        );
    }
}

/// What hmmlearn makes of a model and its frames.
#[derive(Deserialize)]
struct Golden {
    start: Vec<f64>,
    transitions: Vec<Vec<f64>>,
    /// `[frames, states]`.
    scores: Vec<Vec<f64>>,
    log_probability: f64,
    best_log_probability: f64,
    best_path: Vec<u32>,
    posteriors: Vec<Vec<f64>>,
}

#[test]
fn sums_are_those_of_hmmlearn() {
    let text = include_str!("../../testdata/hmm.json");
    let goldens: Vec<Golden> = serde_json::from_str(text).expect("goldens");
    assert!(goldens.len() >= 4);
    for golden in goldens {
        let states = golden.start.len() as u32;
        let mut builder = GraphBuilder::default();
        for state in 0..states {
            builder.state(state);
            builder.start(state, golden.start[state as usize].ln());
            builder.end(state, 0.0);
        }
        for (from, row) in (0..).zip(&golden.transitions) {
            for (to, probability) in (0..).zip(row) {
                builder.arc(from, to, probability.ln());
            }
        }
        let graph = builder.build();
        let scores = golden.scores.concat();
        let rows = Scores::new(&scores, states as usize);
        assert!(close(sums::forward(&graph, rows), golden.log_probability));
        let best = sums::viterbi(&graph, rows).expect("a path");
        assert!(close(best.log_score, golden.best_log_probability));
        assert_eq!(best.states, golden.best_path);
        let (_, found) = occupancies(&graph, &scores, states as usize, usize::MAX);
        for (found, wanted) in found.iter().zip(golden.posteriors.concat()) {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
    }
}

fn lexicon(text: &str) -> Pronunciations {
    Pronunciations::parse(text.as_bytes(), FilePath::new("a.dic")).expect("a lexicon")
}

#[test]
fn a_transcript_is_its_words_in_all_their_pronunciations() {
    let lexicon = lexicon("a 0.5 ah\na 0.25 ey y\non 1.0 aa n\n");
    let topology = PhoneTopology {
        states: 1,
        silence_states: 1,
        stay: 0.25,
        silence: 0.5,
        positions: true,
    };
    let states = PhoneStates::new(topology, lexicon.phones().len()).expect("a topology");
    let transcript = TranscriptGraph::new("a  on", &lexicon, &states).expect("words");
    let graph = &transcript.graph;
    // Words of one and of two phones; silence adds three frames at most.
    assert_eq!(graph.least_frames(), Some(3));
    let number = |phone: &str| {
        lexicon
            .phones()
            .iter()
            .position(|it| it == phone)
            .expect("a phone") as u32
    };
    let pdf = |phone: &str, position| states.pdf(number(phone), position, 0);
    use WordPosition::{Begin, End, Single};
    let silence = states.silence_pdf(0);
    let (ah, ey, y) = (pdf("ah", Single), pdf("ey", Begin), pdf("y", End));
    let (aa, n) = (pdf("aa", Begin), pdf("n", End));
    assert_eq!(states.pdfs(), 1 + 5 * 4);
    // The score of frames in each of which one density is possible is the weight of that path.
    let weight = |path: &[u32]| {
        let mut scores = vec![f64::NEG_INFINITY; path.len() * states.pdfs()];
        for (frame, pdf) in path.iter().enumerate() {
            scores[frame * states.pdfs() + *pdf as usize] = 0.0;
        }
        sums::forward(graph, Scores::new(&scores, states.pdfs())).exp()
    };
    let (leave, none) = (0.75f64, 0.5f64.powi(3));
    assert!(close(weight(&[ah, aa, n]), none * 0.5 * leave.powi(3)));
    assert!(close(weight(&[ey, y, aa, n]), none * 0.25 * leave.powi(4)));
    assert!(close(
        weight(&[ah, ah, aa, n]),
        none * 0.5 * 0.25 * leave.powi(3)
    ));
    let all = [silence, ah, silence, aa, n, silence];
    assert!(close(weight(&all), none * 0.5 * leave.powi(6)));
    assert_eq!(weight(&[ah, y, aa, n]), 0.0);
    assert_eq!(weight(&[ah, aa]), 0.0);
    let places = transcript.places.iter();
    assert_eq!(places.filter(|place| **place == Place::Silence).count(), 3);
    let word = Place::Phone {
        word: 1,
        pronunciation: 0,
        phone: 1,
    };
    assert!(transcript.places.contains(&word));

    let missing = TranscriptGraph::new("on b a c b", &lexicon, &states).unwrap_err();
    assert_eq!(missing.words, ["b", "c"]);
    // Nothing but silence is said.
    let nothing = TranscriptGraph::new("", &lexicon, &states).expect("no words");
    assert_eq!(nothing.graph.least_frames(), Some(1));
}

#[test]
fn phones_have_densities_of_their_own_and_a_topology_that_cannot_be_is_refused() {
    let states = PhoneStates::new(PhoneTopology::default(), 4).expect("a topology");
    let mut seen: Vec<u32> = (0..3).map(|state| states.silence_pdf(state)).collect();
    for phone in 0..4 {
        for count in [1, 3] {
            for place in 0..count {
                let position = WordPosition::of(place, count);
                seen.extend((0..3).map(|state| states.pdf(phone, position, state)));
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..states.pdfs() as u32).collect::<Vec<_>>());
    let refused = |change: fn(&mut PhoneTopology)| {
        let mut topology = PhoneTopology::default();
        change(&mut topology);
        PhoneStates::new(topology, 4).unwrap_err().to_string()
    };
    assert!(refused(|it| it.states = 0).contains("0 states"));
    assert!(refused(|it| it.silence_states = 17).contains("17 states"));
    assert!(refused(|it| it.stay = 1.0).contains("the probability of staying is 1"));
    assert!(refused(|it| it.silence = f64::NAN).contains("the probability of silence is NaN"));
}
