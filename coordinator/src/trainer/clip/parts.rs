//! Which part of a gradient each parameter belongs to, and which parameters are left alone.

use speech::model::{ModelSpec, ParameterSpec};

use super::{ClipConfig, ClipScope};

/// A model's parameters by the part of the gradient that they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The part that each parameter belongs to, in the order of the flat vector; `None` where it is left alone.
    of_parameters: Vec<Option<usize>>,
    /// With the scope `unit`, where every row is a part, the length of each parameter's rows.
    rows: Option<Vec<usize>>,
    count: usize,
}

impl Parts {
    pub(crate) fn new(spec: &ModelSpec, config: &ClipConfig) -> Self {
        let scope = config.scope();
        let part = |(place, parameter): (usize, &ParameterSpec)| {
            let part = match scope {
                ClipScope::Global | ClipScope::Unit => 0,
                ClipScope::Tensor => place,
                ClipScope::Layer => spec
                    .layers
                    .iter()
                    .position(|layer| layer.parameters.contains(&parameter.offset))
                    .unwrap_or_default(),
            };
            let exempt = config.exempt.iter();
            let mut exempt = exempt.filter(|pattern| matches(pattern, &parameter.name));
            exempt.next().is_none().then_some(part)
        };
        let of_parameters = spec.parameters.iter().enumerate().map(part);
        let rows = spec.parameters.iter().map(row_length).collect();
        Self {
            of_parameters: of_parameters.collect(),
            rows: (config.uses_norms() && scope == ClipScope::Unit).then_some(rows),
            count: match scope {
                ClipScope::Global | ClipScope::Unit => 1,
                ClipScope::Tensor => spec.parameters.len(),
                ClipScope::Layer => spec.layers.len(),
            },
        }
    }

    /// How many parts there are; with the scope `unit` one stands for all.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The part of a parameter.
    pub(super) fn of(&self, parameter: usize) -> Option<usize> {
        self.of_parameters[parameter]
    }

    /// The length of each parameter's rows, where every row is a part.
    pub(crate) fn rows(&self) -> Option<&[usize]> {
        self.rows.as_deref()
    }
}

/// Elements of a tensor's first dimension; a vector is one row.
fn row_length(parameter: &ParameterSpec) -> usize {
    match &parameter.shape[..] {
        [_, rest @ ..] if !rest.is_empty() => rest.iter().product::<usize>().max(1),
        _ => parameter.elements().max(1),
    }
}

/// The first pattern that no parameter's name fits.
pub(crate) fn unmatched<'a>(patterns: &'a [String], spec: &ModelSpec) -> Option<&'a str> {
    let fits = |pattern: &&String| {
        let mut names = spec.parameters.iter().map(|parameter| &parameter.name);
        names.any(|name| matches(pattern, name))
    };
    let mut patterns = patterns.iter();
    patterns.find(|pattern| !fits(pattern)).map(String::as_str)
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(first) else {
        return false;
    };
    if !rest.contains('*') {
        return name.ends_with(rest);
    }
    let starts = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    starts.into_iter().any(|at| matches(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("head.weight", "head.weight", true),
            ("head.weight", "head.weights", false),
            ("head.*", "head.bias", true),
            ("*.bias", "head.bias", true),
            ("*", "", true),
            ("*weight_hh*", "lstm.weight_hh_l0_reverse", true),
            ("lstm.*_l0*reverse", "lstm.weight_hh_l0_reverse", true),
            ("lstm.*_l1*reverse", "lstm.weight_hh_l0_reverse", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
