//! Which keys a place in a TOML document belongs to, and where a key was written.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line, counted from 1, in which a byte of `text` lies.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The path of keys to the key or value whose span is `span`, or else to the innermost value that
/// holds it.
pub(super) fn keys_at(table: &DeTable<'_>, span: &Range<usize>) -> Vec<String> {
    let mut best: (usize, Vec<String>) = (usize::MAX, Vec::new());
    visit(table, &mut Vec::new(), &mut |keys, found| {
        let size = found.len();
        if found.start <= span.start && span.end <= found.end && size < best.0 {
            best = (size, keys.to_vec());
        }
    });
    best.1
}

/// The longest part of the path `keys` that is there: its length, and the span of its last key.
pub(super) fn span_of(table: &DeTable<'_>, keys: &[String]) -> Option<(usize, Range<usize>)> {
    let mut best: Option<(usize, Range<usize>)> = None;
    visit(table, &mut Vec::new(), &mut |path, span| {
        if keys.starts_with(path) && best.as_ref().is_none_or(|(depth, _)| path.len() > *depth) {
            best = Some((path.len(), span));
        }
    });
    best
}

/// Calls `found` with the path and span of every key, and then of its value.
fn visit(
    table: &DeTable<'_>,
    keys: &mut Vec<String>,
    found: &mut impl FnMut(&[String], Range<usize>),
) {
    for (key, value) in table.iter() {
        keys.push(key.get_ref().to_string());
        found(keys, key.span());
        visit_value(value, keys, found);
        keys.pop();
    }
}

fn visit_value(
    value: &Spanned<DeValue<'_>>,
    keys: &mut Vec<String>,
    found: &mut impl FnMut(&[String], Range<usize>),
) {
    found(keys, value.span());
    match value.get_ref() {
        DeValue::Table(table) => visit(table, keys, found),
        DeValue::Array(array) => {
            for (index, item) in array.iter().enumerate() {
                keys.push(index.to_string());
                visit_value(item, keys, found);
                keys.pop();
            }
        }
        _ => {}
    }
}
