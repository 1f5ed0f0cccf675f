//! Files of language models that are no ARPA files, by their first bytes, and how to make one of them.

/// Bytes from the start that tell what a file is.
pub(super) const SNIFF_BYTES: u64 = 64;

/// A form of language models that is not read.
pub(super) struct Foreign {
    pub(super) what: &'static str,
    pub(super) advice: &'static str,
}

/// Which of them a file is that begins with `start`.
pub(super) fn recognise(start: &[u8]) -> Option<Foreign> {
    let begins = |with: &str| start.starts_with(with.as_bytes());
    let has = |name: &str| {
        start
            .windows(name.len())
            .any(|window| window == name.as_bytes())
    };
    let foreign = |what, advice| Some(Foreign { what, advice });
    if begins("mmap lm http://kheafield.com/code") {
        return foreign(
            "a KenLM binary",
            "KenLM cannot turn it back: give the ARPA file that it was made of",
        );
    }
    if begins("SRILM_BINARY_NGRAM") {
        return foreign(
            "an SRILM binary",
            "write it as an ARPA file with `ngram -lm FILE -write-lm NEW.arpa`",
        );
    }
    if begins("iARPA") {
        return foreign(
            "an intermediate iARPA file of IRSTLM, whose numbers are no logarithms of probabilities",
            "make an ARPA file with `compile-lm FILE --text=yes NEW.arpa`",
        );
    }
    if begins("blmt") || begins("Qblmt") {
        return foreign(
            "an IRSTLM binary",
            "make an ARPA file with `compile-lm FILE --text=yes NEW.arpa`",
        );
    }
    if has("Darpa Trigram LM") || has("Trie Language Model") {
        return foreign(
            "a CMU Sphinx binary",
            "make an ARPA file with `sphinx_lm_convert -i FILE -o NEW.arpa -ofmt arpa`",
        );
    }
    if start.starts_with(&[0xd6, 0xfd, 0xb2, 0x7e]) {
        return foreign(
            "an automaton of OpenFst",
            "give the ARPA file that it was made of",
        );
    }
    None
}
