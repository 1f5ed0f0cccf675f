//! From label sequences to words: their text, the frames they lie in, and how sure they are.

use std::ops::Range;

use super::Word;

/// The text of labels, word by word, each with the places of its first label and behind its last. Words
/// are what spaces separate.
pub(super) fn split(labels: &[u32], pieces: &[String]) -> Vec<(String, Range<usize>)> {
    let mut words: Vec<(String, Range<usize>)> = Vec::new();
    let mut open = false;
    for (place, &label) in labels.iter().enumerate() {
        for character in pieces[label as usize].chars() {
            if character == ' ' {
                open = false;
                continue;
            }
            match words.last_mut() {
                Some((word, places)) if open => {
                    word.push(character);
                    places.end = place + 1;
                }
                _ => words.push((character.to_string(), place..place + 1)),
            }
            open = true;
        }
    }
    words
}

/// How probable each of a hypothesis' words is: the share of all hypotheses that have it in its place,
/// by the longest common subsequence of words.
pub(super) fn confidences(words: &[&str], all: &[(Vec<&str>, f64)]) -> Vec<f64> {
    let mut sure = vec![0.0; words.len()];
    for (others, share) in all {
        for place in common(words, others) {
            sure[place] += share;
        }
    }
    // Shares sum to one but for rounding.
    sure.iter().map(|&share: &f64| share.min(1.0)).collect()
}

/// Places in `words` of a longest common subsequence with `others`.
fn common(words: &[&str], others: &[&str]) -> Vec<usize> {
    let columns = others.len() + 1;
    // The lengths of those of what is left of both.
    let mut lengths = vec![0u32; (words.len() + 1) * columns];
    for row in (0..words.len()).rev() {
        for column in (0..others.len()).rev() {
            lengths[row * columns + column] = if words[row] == others[column] {
                lengths[(row + 1) * columns + column + 1] + 1
            } else {
                lengths[(row + 1) * columns + column].max(lengths[row * columns + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut places = Vec::new();
    while row < words.len() && column < others.len() {
        if words[row] == others[column] {
            places.push(row);
            row += 1;
            column += 1;
        } else if lengths[(row + 1) * columns + column] >= lengths[row * columns + column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    places
}

/// Words with their frames, where labels are aligned.
pub(super) fn timed(
    words: Vec<(String, Range<usize>)>,
    spans: Option<&[Range<usize>]>,
    sure: &[f64],
) -> Vec<Word> {
    let timed = words
        .into_iter()
        .zip(sure)
        .map(|((text, places), &confidence)| Word {
            text,
            frames: spans.map_or(0..0, |spans| {
                spans[places.start].start..spans[places.end - 1].end
            }),
            confidence,
        });
    timed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn words_are_what_spaces_separate_whatever_the_units() {
        let letters = pieces(&["", " ", "A", "B"]);
        let found = split(&[2, 3, 1, 1, 2, 1], &letters);
        assert_eq!(found, [("AB".to_owned(), 0..2), ("A".to_owned(), 4..5)]);
        let pairs = pieces(&["", " A", "B", " BA", "A "]);
        let found = split(&[1, 2, 3, 4, 2], &pairs);
        let wanted = [("AB", 0..2), ("BAA", 2..4), ("B", 4..5)];
        assert_eq!(
            found,
            wanted.map(|(word, places)| (word.to_owned(), places))
        );
    }

    #[test]
    fn a_word_is_as_sure_as_the_hypotheses_that_have_it() {
        let all = [
            (vec!["the", "cat", "sat"], 0.5),
            (vec!["a", "cat", "sat"], 0.25),
            (vec!["the", "hat"], 0.25),
        ];
        assert_eq!(confidences(&all[0].0, &all), [0.75, 0.75, 0.75]);
        assert_eq!(confidences(&all[2].0, &all), [0.75, 0.25]);
    }
}
