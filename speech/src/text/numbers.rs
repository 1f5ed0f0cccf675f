//! Digits as they are read aloud in English. It knows cardinals ("21"), separators of thousands ("1,250"),
//! decimals ("3.5", ".5"), ordinals ("2nd"), "%" with and without a space, and a minus, and reads what
//! begins with a zero or is longer than a quadrillion digit by digit. A year, a time or a telephone number
//! is read as the number that it looks like.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const POWERS: [(u64, &str); 4] = [
    (1_000_000_000_000, "trillion"),
    (1_000_000_000, "billion"),
    (1_000_000, "million"),
    (1_000, "thousand"),
];
/// Digits that are read as one number.
const MAX_DIGITS: usize = 15;

/// `text` with the numbers in it spelled in lower case, and a space where they would touch letters.
pub fn spell(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        spelled.push_str(before);
        let point = before_point(&spelled);
        spelled.truncate(point.unwrap_or(spelled.len()));
        if let Some(end) = before_minus(&spelled) {
            spelled.truncate(end);
            spelled.push_str("minus ");
        }
        let (words, length) = match point {
            Some(_) => decimals(from),
            None => number(from),
        };
        apart(&mut spelled, &words);
        rest = &from[length..];
        if rest.starts_with(char::is_alphanumeric) {
            spelled.push(' ');
        }
    }
    spelled.push_str(rest);
    spelled
}

/// Where a decimal point begins that ends `text` and has no digits before it (".5", "$.99").
fn before_point(text: &str) -> Option<usize> {
    let before = text.strip_suffix('.')?;
    let last = before.chars().next_back();
    last.is_none_or(|c| !c.is_alphanumeric() && c != '.')
        .then_some(before.len())
}

/// Where a minus begins that ends `text`: it stands behind a space, a bracket or nothing ("-5", but not
/// "3-5").
pub(super) fn before_minus(text: &str) -> Option<usize> {
    let before = text.strip_suffix(['-', '\u{2212}'])?;
    let last = before.chars().next_back();
    last.is_none_or(|c| c.is_whitespace() || ['(', '[', '{'].contains(&c))
        .then_some(before.len())
}

/// The words of a percent or per mille sign at the beginning of `text`, behind a space or none, and its
/// length in bytes; empty where there is none.
pub(super) fn share(text: &str) -> (&'static str, usize) {
    let sign = text.strip_prefix(char::is_whitespace).unwrap_or(text);
    let behind = |c: char| text.len() - sign.len() + c.len_utf8();
    match sign.chars().next() {
        Some(c @ ('%' | '\u{66a}' | '\u{fe6a}' | '\u{ff05}')) => (" percent", behind(c)),
        Some(c @ '\u{2030}') => (" per mille", behind(c)),
        _ => ("", 0),
    }
}

/// A fraction by itself.
pub(super) fn fraction(numerator: u64, denominator: u64) -> String {
    let mut part = match denominator {
        2 => "half".to_owned(),
        4 => "quarter".to_owned(),
        other => ordinal(other),
    };
    if numerator != 1 {
        part = match denominator {
            2 => "halves".to_owned(),
            _ => part + "s",
        };
    }
    format!("{} {part}", cardinal(numerator))
}

fn apart(text: &mut String, words: &str) {
    if text.ends_with(char::is_alphanumeric) {
        text.push(' ');
    }
    text.push_str(words);
}

/// The words of the number that `text` begins with, and its length in bytes.
fn number(text: &str) -> (String, usize) {
    let (digits, length) = whole(text);
    let mut words = match digits.parse::<u64>() {
        Ok(value)
            if digits.len() <= MAX_DIGITS
                && (value == 0 && digits.len() == 1 || !digits.starts_with('0')) =>
        {
            if let Some(suffix) = ordinal_suffix(&text[length..]) {
                return (ordinal(value), length + suffix);
            }
            cardinal(value)
        }
        _ => one_by_one(&digits),
    };
    if let Some(behind) = text[length..].strip_prefix('.')
        && behind.starts_with(|c: char| c.is_ascii_digit())
    {
        let (decimals, more) = decimals(behind);
        return (format!("{words} {decimals}"), length + 1 + more);
    }
    let (share, more) = share(&text[length..]);
    words.push_str(share);
    (words, length + more)
}

/// The words of the digits behind a decimal point, and their length in bytes.
fn decimals(text: &str) -> (String, usize) {
    let digits = digits_at(text);
    let (share, more) = share(&text[digits..]);
    let words = format!("point {}{share}", one_by_one(&text[..digits]));
    (words, digits + more)
}

/// The digits before a decimal point, separators of thousands left out, and how long they are with them.
fn whole(text: &str) -> (String, usize) {
    let first = digits_at(text);
    let mut digits = text[..first].to_owned();
    let mut length = first;
    if first <= 3 {
        while let Some(group) = text[length..].strip_prefix(',')
            && digits_at(group) == 3
        {
            digits.push_str(&group[..3]);
            length += 4;
        }
    }
    (digits, length)
}

fn digits_at(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len())
}

fn ordinal_suffix(text: &str) -> Option<usize> {
    let end = text
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(text.len());
    let suffix = text[..end].to_ascii_lowercase();
    ["st", "nd", "rd", "th"]
        .contains(&suffix.as_str())
        .then_some(end)
}

fn one_by_one(digits: &str) -> String {
    let words: Vec<&str> = digits
        .bytes()
        .map(|digit| ONES[usize::from(digit - b'0')])
        .collect();
    words.join(" ")
}

fn cardinal(value: u64) -> String {
    if value < 20 {
        return ONES[value as usize].to_owned();
    }
    let (head, rest) = if value < 100 {
        (TENS[value as usize / 10].to_owned(), value % 10)
    } else if let Some((power, name)) = POWERS.iter().find(|(power, _)| value >= *power) {
        (format!("{} {name}", cardinal(value / power)), value % power)
    } else {
        (
            format!("{} hundred", ONES[value as usize / 100]),
            value % 100,
        )
    };
    match rest {
        0 => head,
        rest => format!("{head} {}", cardinal(rest)),
    }
}

fn ordinal(value: u64) -> String {
    let words = cardinal(value);
    let (head, last) = words
        .rsplit_once(' ')
        .map_or(("", words.as_str()), |(head, last)| (head, last));
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        ty if ty.ends_with('y') => format!("{}ieth", &ty[..ty.len() - 1]),
        other => format!("{other}th"),
    };
    format!("{head} {last}").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_in_english() {
        for (text, wanted) in [
            ("0", "zero"),
            ("10 13 20 47", "ten thirteen twenty forty seven"),
            ("100, 101", "one hundred, one hundred one"),
            ("1984", "one thousand nine hundred eighty four"),
            ("1,000,000", "one million"),
            ("12,34", "twelve,thirty four"),
            (
                "999999999999999",
                "nine hundred ninety nine trillion nine hundred ninety nine billion nine hundred ninety nine million nine hundred ninety nine thousand nine hundred ninety nine",
            ),
            (
                "1234567890123456",
                "one two three four five six seven eight nine zero one two three four five six",
            ),
            ("007", "zero zero seven"),
            ("3.14, 0.5.", "three point one four, zero point five."),
            (
                "1st 2nd 3rd 4th 12th 21st 40th 100th",
                "first second third fourth twelfth twenty first fortieth one hundredth",
            ),
            ("5% -7 3-5", "five percent minus seven three-five"),
            (
                "5 % 0.5\u{202f}%x 3.% 7‰ 2nd %",
                "five percent zero point five percent x three.% seven per mille second %",
            ),
            (
                ".5 mm, $.99 -.25 (-3) x.5 ..5 1.2.3",
                "point five mm, $point nine nine minus point two five (minus three) x.five ..five one point two.three",
            ),
            ("R2D2", "R two D two"),
            ("90s", "ninety s"),
            ("no digits, at all", "no digits, at all"),
            ("", ""),
        ] {
            assert_eq!(spell(text), wanted);
        }
    }
}
