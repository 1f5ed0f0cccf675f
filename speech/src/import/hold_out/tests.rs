//! Rules against small lists of utterances.

use super::*;

/// Three speakers who say each digit ten times.
fn corpus() -> Vec<Utterance> {
    let mut utterances = Vec::new();
    for speaker in ["ann", "bob", "cy"] {
        for digit in 0..10 {
            for index in 0..10 {
                let id = format!("{digit}_{speaker}_{index}");
                utterances.push(Utterance {
                    audio: format!("{id}.wav").into(),
                    id,
                    offset: 0.0,
                    duration: 1.0,
                    channel: None,
                    text: digit.to_string(),
                    speaker: Some(speaker.to_owned()),
                });
            }
        }
    }
    utterances
}

fn cut(rules: &[&str]) -> Result<(Vec<Utterance>, Vec<Vec<Utterance>>), HoldOutError> {
    let rules: Vec<HoldOut> = rules
        .iter()
        .map(|rule| HoldOut::parse(rule).unwrap())
        .collect();
    split(corpus(), &rules)
}

fn sizes(rules: &[&str]) -> Vec<usize> {
    let (rest, held) = cut(rules).unwrap();
    let mut all: Vec<String> = rest
        .iter()
        .chain(held.iter().flatten())
        .map(|it| it.id.clone())
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(
        all.len(),
        corpus().len(),
        "every utterance is somewhere, once"
    );
    std::iter::once(rest.len())
        .chain(held.iter().map(Vec::len))
        .collect()
}

#[test]
fn an_utterance_goes_to_the_first_rule_that_matches_it() {
    assert_eq!(sizes(&[]), [300]);
    assert_eq!(sizes(&["index:5-9"]), [150, 150]);
    assert_eq!(sizes(&["index:0,2-3"]), [210, 90]);
    assert_eq!(sizes(&["speaker:cy,ann"]), [100, 200]);
    assert_eq!(sizes(&["index:0-1", "speaker:bob"]), [160, 60, 80]);
    assert_eq!(sizes(&["speaker:bob", "index:0-1"]), [160, 100, 40]);
    assert_eq!(sizes(&["id:3_"]), [270, 30]);
}

#[test]
fn a_fraction_is_stable_and_near_its_share() {
    let (rest, held) = cut(&["fraction:0.2"]).unwrap();
    assert!(
        (40..80).contains(&held[0].len()),
        "{} of 300",
        held[0].len()
    );
    // What else is in the corpus does not matter.
    let half: Vec<Utterance> = corpus().into_iter().step_by(2).collect();
    let (_, of_half) = split(half, &[HoldOut::Fraction(0.2)]).unwrap();
    assert!(
        of_half[0]
            .iter()
            .all(|utterance| held[0].contains(utterance))
    );
    assert!(of_half[0].iter().all(|utterance| !rest.contains(utterance)));
    // A smaller fraction is a part of a larger one, and a second one is beside the first.
    let (_, smaller) = cut(&["fraction:0.1"]).unwrap();
    assert!(
        smaller[0]
            .iter()
            .all(|utterance| held[0].contains(utterance))
    );
    let [_, first, second] = sizes(&["fraction:0.1", "fraction:0.1"])[..] else {
        panic!("two rules")
    };
    assert_eq!((first, first + second), (smaller[0].len(), held[0].len()));
}

#[test]
fn a_rule_that_cannot_be_kept_is_named() {
    let error = |rules: &[&str]| cut(rules).unwrap_err().to_string();
    assert_eq!(
        error(&["speaker:ann,zoe,dan"]),
        "hold-out rule \"speaker:ann,dan,zoe\": no utterance is by dan, zoe; the speakers are ann, bob, cy"
    );
    assert!(
        error(&["index:5-9", "index:9"])
            .starts_with("hold-out rule \"index:9\" holds out nothing:")
    );
    assert!(error(&["id:x"]).starts_with("hold-out rule \"id:x\" holds out nothing:"));
    assert_eq!(
        error(&["index:0-9"]),
        "the hold-out rules leave nothing to train on"
    );
    assert_eq!(
        error(&["fraction:0.6", "fraction:0.6"]),
        "the fractions of the hold-out rules add up to more than 1"
    );
    let mut utterances = corpus();
    utterances[4].id = "an4_clstk/fash/an251-fash-b".to_owned();
    assert_eq!(
        split(utterances, &[HoldOut::parse("index:5-9").unwrap()])
            .unwrap_err()
            .to_string(),
        "hold-out rule \"index:5-9\": the utterance \"an4_clstk/fash/an251-fash-b\" has no index; only FSDD's do"
    );
}

#[test]
fn a_rule_that_says_nothing_is_explained() {
    for rule in [
        "",
        "index",
        "index:",
        "index:9-5",
        "index:a",
        "speaker:a,,b",
        "fraction:0",
        "fraction:1",
        "fraction:NaN",
        "digit:3",
    ] {
        let error = HoldOut::parse(rule).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("hold-out rule {rule:?}: "))
                && error.contains("the rules are"),
            "{error}"
        );
    }
    for rule in [
        "index:0,3-4",
        "speaker:a,b",
        "fraction:0.25",
        "id:an4test_clstk/",
    ] {
        assert_eq!(HoldOut::parse(rule).unwrap().to_string(), rule);
    }
}
