//! Byte-pair encoding (Sennrich et al. 2016) over characters: which runs of them occur so often that they
//! are a unit, and how a word is cut into units. A word's units are the same wherever it stands, since none
//! reaches over a word's end; a space is the first character of each word. What is learned follows from
//! the transcripts alone: no order of a hash map reaches it. It does not depend on labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The words of `text` as units are made of them: each with the space before it.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(|word| format!(" {word}"))
}

/// Units in the order in which they were found: the characters that occur, by code points, then one for each
/// merge, until there are `size` or no pair occurs twice.
///
/// # Errors
/// How many characters there are, when `size` is less.
pub(super) fn train<'a>(
    transcripts: impl IntoIterator<Item = &'a str>,
    size: usize,
) -> Result<Vec<String>, usize> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for transcript in transcripts {
        for word in words(transcript) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let characters: BTreeSet<char> = counts.keys().flat_map(|word| word.chars()).collect();
    let mut units: Vec<String> = characters.into_iter().map(String::from).collect();
    if units.len() > size {
        return Err(units.len());
    }
    let mut known: HashMap<String, u32> = (0..)
        .map(|n: u32| n)
        .zip(&units)
        .map(|(n, unit)| (unit.clone(), n))
        .collect();
    let mut corpus: Vec<(Vec<u32>, i64)> = counts
        .iter()
        .map(|(word, count)| {
            let symbols = word.chars().map(|c| known[c.encode_utf8(&mut [0; 4])]);
            (symbols.collect(), *count)
        })
        .collect();
    let mut pairs = Pairs::default();
    for (index, (symbols, count)) in corpus.iter().enumerate() {
        pairs.count(symbols, *count, index);
    }
    while units.len() < size {
        let Some((left, right)) = pairs.most_frequent(&units) else {
            break;
        };
        let joined = format!("{}{}", units[left as usize], units[right as usize]);
        // The same run can come of two pairs; it is one unit.
        let merged = *known.entry(joined.clone()).or_insert_with(|| {
            units.push(joined);
            units.len() as u32 - 1
        });
        for index in pairs.places(left, right) {
            let (symbols, count) = &mut corpus[index];
            pairs.count(symbols, -*count, index);
            merge(symbols, left, right, merged);
            pairs.count(symbols, *count, index);
        }
    }
    Ok(units)
}

/// How often each pair of neighbours occurs, and in which words.
#[derive(Default)]
struct Pairs {
    counts: HashMap<(u32, u32), i64>,
    places: HashMap<(u32, u32), BTreeSet<usize>>,
}

impl Pairs {
    fn count(&mut self, symbols: &[u32], count: i64, index: usize) {
        for pair in symbols.windows(2) {
            let pair = (pair[0], pair[1]);
            *self.counts.entry(pair).or_default() += count;
            let places = self.places.entry(pair).or_default();
            // A word that is counted off is counted anew at once, or has the pair no more.
            if count > 0 {
                places.insert(index);
            } else {
                places.remove(&index);
            }
        }
    }

    /// The most frequent pair; among equally frequent ones, the one that is first as text.
    fn most_frequent(&self, units: &[String]) -> Option<(u32, u32)> {
        let text = |pair: (u32, u32)| (&units[pair.0 as usize], &units[pair.1 as usize]);
        let frequent = self.counts.iter().filter(|(_, count)| **count > 1);
        let best = frequent.max_by(|(a, count_a), (b, count_b)| {
            count_a.cmp(count_b).then_with(|| text(**b).cmp(&text(**a)))
        });
        best.map(|(pair, _)| *pair)
    }

    fn places(&mut self, left: u32, right: u32) -> BTreeSet<usize> {
        self.places.remove(&(left, right)).unwrap_or_default()
    }
}

fn merge(symbols: &mut Vec<u32>, left: u32, right: u32, merged: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < symbols.len() {
        if symbols[at] == left && symbols.get(at + 1) == Some(&right) {
            symbols[kept] = merged;
            at += 2;
        } else {
            symbols[kept] = symbols[at];
            at += 1;
        }
        kept += 1;
    }
    symbols.truncate(kept);
}

/// Cuts `word` into units: neighbours are joined as long as they make a unit, the one found first before
/// all others, the leftmost before its like.
///
/// `rank` gives a unit's place in the order of [`train`]. Characters without a rank are given back.
pub(super) fn cut(word: &str, rank: impl Fn(&str) -> Option<u32>) -> Result<Vec<u32>, Vec<char>> {
    let unknown: Vec<char> = word
        .chars()
        .filter(|c| rank(c.encode_utf8(&mut [0; 4])).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    // Where each unit ends; the word's parts between are units.
    let mut starts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
    starts.push(word.len());
    loop {
        let joined = |n: usize| Some((rank(&word[starts[n]..starts[n + 2]])?, n + 1));
        let first = (0..starts.len().saturating_sub(2)).filter_map(joined).min();
        match first {
            Some((_, between)) => drop(starts.remove(between)),
            None => break,
        }
    }
    let parts = starts.windows(2).map(|part| &word[part[0]..part[1]]);
    Ok(parts.filter_map(rank).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rank(units: &[String]) -> impl Fn(&str) -> Option<u32> {
        |unit| Some(units.iter().position(|known| known == unit)? as u32)
    }

    fn cut_with(units: &[String], word: &str) -> Vec<String> {
        let ranks = cut(word, rank(units)).expect("known characters");
        ranks
            .into_iter()
            .map(|at| units[at as usize].clone())
            .collect()
    }

    #[test]
    fn merges_are_those_of_the_paper() {
        // Sennrich et al., section 3.2, with the mark before the word instead of behind it.
        let text = ["low"; 5]
            .iter()
            .chain(&["lower"; 2])
            .chain(&["newest"; 6])
            .chain(&["widest"; 3]);
        let units = train(text.copied(), 17).expect("room");
        let characters = [" ", "d", "e", "i", "l", "n", "o", "r", "s", "t", "w"];
        assert_eq!(units[..11], characters);
        // "es" and "st" occur nine times each: the first as text goes first. Then "est", then "lo" and "ow"
        // (seven times each, like " l"): " l" first.
        assert_eq!(units[11..], ["es", "est", " l", " lo", " low", " n"]);
        assert_eq!(cut_with(&units, " lowest"), [" low", "est"]);
        assert_eq!(cut_with(&units, " newer"), [" n", "e", "w", "e", "r"]);
    }

    #[test]
    fn too_few_units_for_the_characters_say_how_many_there_are() {
        assert_eq!(train(["ab ab"], 2), Err(3));
        assert_eq!(train(["ab ab"], 3).expect("room").len(), 3);
        // No pair occurs twice.
        assert_eq!(train(["abc"], 100).expect("room").len(), 4);
    }

    #[test]
    fn unknown_characters_are_given_back() {
        let units = train(["ab"], 3).expect("room");
        assert_eq!(cut(" axb", rank(&units)), Err(vec!['x']));
    }

    proptest! {
        #[test]
        fn what_is_cut_is_whole(texts in prop::collection::vec("[abc]{1,6}( [abcd]{1,6}){0,4}", 1..12), size in 5usize..60) {
            let units = train(texts.iter().map(String::as_str), size.max(6)).expect("room");
            prop_assert!(units.len() <= size.max(6));
            let again = train(texts.iter().map(String::as_str), size.max(6)).expect("room");
            prop_assert_eq!(&units, &again);
            for text in &texts {
                for word in words(text) {
                    prop_assert_eq!(cut_with(&units, &word).concat(), word);
                }
            }
            let mut distinct = units.clone();
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), units.len());
        }
    }
}
