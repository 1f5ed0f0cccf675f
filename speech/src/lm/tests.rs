//! Queries against hand-computed values and KenLM's, the trainer against its defining equations and
//! KenLM's `lmplz`, and files that are not what they must be.

use std::path::Path;

use super::*;

/// The textbook shape: a bigram that is listed, one that backs off, and an unknown word.
const SMALL: &str = "made by hand\n\n\\data\\\nngram 1=5\nngram 2=3\nngram 3=1\n\n\\1-grams:\n\
-1.0\t<unk>\n-99\t<s>\t-0.5\n-0.75\t</s>\n-0.5\ta\t-0.25\n-0.625\tb\t-0.125\n\n\\2-grams:\n\
-0.25\t<s> a\t-0.375\n-0.5\ta b\n-0.125\tb </s>\n\n\\3-grams:\n-0.0625\t<s> a b\n\n\\end\\\nand more";

fn read(text: &str) -> Result<NgramModel, LmError> {
    NgramModel::read_from(text.as_bytes(), Path::new("small.arpa"))
}

fn message(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

/// The logarithms of a sentence's words and of its end.
fn logs(model: &NgramModel, sentence: &str) -> Vec<f64> {
    let mut state = model.begin();
    let mut logs = Vec::new();
    for word in sentence.split_whitespace() {
        let (log, next) = model.score(state, model.find(word).unwrap_or(UNKNOWN));
        logs.push(log);
        state = next;
    }
    logs.push(model.end(state));
    logs
}

#[test]
fn a_listed_ngram_counts_and_a_missing_one_backs_off() {
    let model = read(SMALL).unwrap();
    assert_eq!(model.order(), 3);
    assert_eq!([1, 2, 3].map(|length| model.ngrams(length)), [5, 3, 1]);
    // <s> a b is listed whole. a b </s> is not: the backoff weight of `a b` (none: 0), then b </s>.
    assert_eq!(logs(&model, "a b"), [-0.25, -0.0625, -0.125]);
    // <s> b: backoff of <s>, then b. <s> b a: nothing of `<s> b` is listed; backoff of b, then a.
    // b a </s>: backoff of a, then </s>.
    assert_eq!(
        logs(&model, "b a"),
        [-0.5 - 0.625, -0.125 - 0.5, -0.25 - 0.75]
    );
    // <s> a a: backoffs of `<s> a` and of `a`. a a b: nothing of `a a` is listed, but a b is.
    assert_eq!(
        logs(&model, "a a b"),
        [-0.25, -0.375 - 0.25 - 0.5, -0.5, -0.125]
    );
    // An unknown word forgets all.
    assert_eq!(
        logs(&model, "a zzz b"),
        [-0.25, -0.375 - 0.25 - 1.0, -0.625, -0.125]
    );
    assert_eq!(logs(&model, ""), [-0.5 - 0.75]);
}

#[test]
fn a_model_written_and_read_is_the_same() {
    for text in [SMALL.to_owned(), written(&trained(4))] {
        let model = read(&text).unwrap();
        let again = read(&written(&model)).unwrap();
        assert_eq!(written(&again), written(&model));
        for sentence in ["a b", "the cat", "b a zzz", "the dog saw the cat"] {
            assert_eq!(logs(&again, sentence), logs(&model, sentence));
        }
    }
}

#[test]
fn a_file_without_an_unknown_word_or_marks_is_read() {
    let model = read("\\data\\\nngram 1=2\n\\1-grams:\n-0.5 a\n-0.25 b\n\\end\\\n").unwrap();
    assert_eq!(logs(&model, "a zzz"), [-0.5, -100.0, 0.0]);
    let capitals = "\\data\\\nngram 1=2\nngram 2=1\n\\1-grams:\n-0.5 a\n-0.25 <UNK>\n\\2-grams:\n-0.125 a <UNK>\n\\end\\";
    assert_eq!(logs(&read(capitals).unwrap(), "a zzz"), [-0.5, -0.125, 0.0]);
}

#[test]
fn every_bad_line_is_named() {
    let change = |from: &str, to: &str| {
        let changed = SMALL.replacen(from, to, 1);
        assert_ne!(changed, SMALL, "{from:?} is not there");
        message(&changed)
    };
    for (from, to, wanted) in [
        (
            "\\data\\",
            "\\dota\\",
            "small.arpa:24: there is no line `\\data\\`",
        ),
        (
            "ngram 2=3",
            "ngram 3=3",
            "small.arpa:5: expected `ngram 2=COUNT`",
        ),
        (
            "ngram 2=3",
            "ngram 2=x",
            "small.arpa:5: expected `ngram 2=COUNT`",
        ),
        (
            "ngram 2=3",
            "ngram 2=4",
            "small.arpa:20: there are 3 2-grams, and the header announced 4",
        ),
        (
            "ngram 1=5",
            "ngram 1=18446744073709551615",
            "small.arpa:15: there are 5 1-grams",
        ),
        (
            "-0.5\ta\t",
            "0.5\ta\t",
            "small.arpa:12: \"0.5\" is not a logarithm of a probability",
        ),
        ("-0.5\ta\t", "nan\ta\t", "small.arpa:12: \"nan\""),
        ("-0.5\ta\t", "a\t", "small.arpa:12: \"a\""),
        (
            "\ta\t-0.25",
            "\ta\tinf",
            "small.arpa:12: \"inf\" is not a logarithm of a backoff weight",
        ),
        (
            "\ta\t-0.25",
            "\ta\t-0.25\t1",
            "small.arpa:12: a 1-gram has a logarithm, 1 words",
        ),
        (
            "\ta\t-0.25",
            "\tb\t-0.25",
            "small.arpa:13: the n-gram is already that of line 12",
        ),
        (
            "\n-0.5\ta\t-0.25",
            "\n\n-0.5\tb\t-0.25",
            "small.arpa:14: the n-gram is already that of line 13",
        ),
        (
            "\tb </s>",
            "\ta b",
            "small.arpa:18: the n-gram is already that of line 17",
        ),
        (
            "\tb </s>",
            "\tb c",
            "small.arpa:18: \"c\" is not among the 1-grams",
        ),
        (
            "\t<s> a b",
            "\tb a b",
            "small.arpa:21: the n-gram's words but the last, \"b a\", are not among the 2-grams",
        ),
        ("\t<s> a b", "\ta b", "small.arpa:21: a 3-gram has"),
        (
            "\\3-grams:",
            "\\4-grams:",
            "small.arpa:20: expected a 2-gram or `\\3-grams:`",
        ),
        (
            "\\end\\",
            "",
            "small.arpa:24: a 3-gram has a logarithm, 3 words",
        ),
        ("\\end\\\nand more", "", "small.arpa:22: the file ends here"),
    ] {
        let message = change(from, to);
        assert!(message.starts_with(wanted), "{to:?}: {message}");
    }
    let long = format!("\\data\\\n{}", "x".repeat(70_000));
    assert!(message(&long).starts_with("small.arpa:2: the line is longer than"));
    let latin = NgramModel::read_from(&b"\\data\\\nngram \xe9"[..], Path::new("l")).unwrap_err();
    assert!(latin.to_string().starts_with("l:2: the line is not UTF-8"));
    let many: String = (1..=17)
        .map(|length| format!("ngram {length}=0\n"))
        .collect();
    assert!(
        message(&format!("\\data\\\n{many}")).starts_with("small.arpa:18: n-grams of 17 words")
    );
    let missing = NgramModel::read(Path::new("no/such.arpa")).unwrap_err();
    assert!(missing.to_string().contains("no/such.arpa"));
}

#[test]
fn marks_in_capitals_and_byte_order_marks_are_read() {
    let capitals = SMALL
        .replace("<s>", "<S>")
        .replace("</s>", "</S>")
        .replace("<unk>", "<UNK>");
    let marked = format!("\u{feff}{}", &SMALL["made by hand\n\n".len()..]);
    let plain = read(SMALL).unwrap();
    for text in [capitals, marked] {
        let model = read(&text).unwrap();
        for sentence in ["a b", "b a zzz", ""] {
            assert_eq!(logs(&model, sentence), logs(&plain, sentence), "{text}");
        }
    }
    let twice = message(&SMALL.replace("\n-0.5\ta\t", "\n-0.5\t<S>\t"));
    assert!(twice.contains("already that of line 10"), "{twice}");
}

#[test]
fn what_kenlm_refuses_and_is_read_is_remarked_on() {
    let remarks = |text: &str| read(text).unwrap().remarks().join("\n");
    let plain = SMALL
        .replace("made by hand", "# made by hand")
        .replace("\nand more", "\n\n");
    assert_eq!(remarks(&plain), "");
    for (from, to, wanted) in [
        ("# made", "made", "line 1 stands before `\\data\\`"),
        (
            "\\end\\",
            "\\end\\\nand more",
            "line 24 stands behind `\\end\\` and is passed over (\"and more\")",
        ),
        (
            "\\end\\",
            "\\end\\\n\\data\\",
            "is passed over (\"\\\\data\\\\\")",
        ),
        ("-1.0\t<unk>", "-1.0\tc", "`<unk>` is not among the 1-grams"),
        (
            "<s> a b",
            "<s> a b\t-0.5",
            "line 21 has a backoff weight for an n-gram of the longest",
        ),
        (
            "a\t-0.25",
            "a\t-inf",
            "line 12 has a backoff weight of zero",
        ),
        (
            "-0.75\t</s>",
            "-0.01\t</s>",
            "the probabilities of the 1-grams sum to 1.63",
        ),
    ] {
        let changed = plain.replacen(from, to, 1);
        assert_ne!(changed, plain, "{from:?} is not there");
        let found = remarks(&changed);
        assert!(found.contains(wanted), "{wanted:?} is not in {found:?}");
    }
    let unmarked = remarks("\\data\\\nngram 1=1\n\\1-grams:\n-0.5 a\n\\end\\\n");
    assert!(
        unmarked.contains("`<s>` is not among the 1-grams"),
        "{unmarked}"
    );
    assert!(
        unmarked.contains("`</s>` is not among the 1-grams"),
        "{unmarked}"
    );
    // What is made here has nothing unusual about it, and stays so.
    assert_eq!(remarks(&written(&trained(3))), "");
}

#[test]
fn other_forms_of_language_models_are_named() {
    let refused = |bytes: &[u8]| {
        NgramModel::read_from(bytes, Path::new("lm"))
            .unwrap_err()
            .to_string()
    };
    for (start, wanted) in [
        (
            &b"mmap lm http://kheafield.com/code format version 5\n\0\0"[..],
            "a KenLM binary",
        ),
        (b"SRILM_BINARY_NGRAM_002\nindex", "an SRILM binary"),
        (b"iARPA\n\n\\data\\\n", "an intermediate iARPA file"),
        (b"Qblmt 3 10", "an IRSTLM binary"),
        (b"\x11\0\0\0Darpa Trigram LM\0", "a CMU Sphinx binary"),
        (b"\xd6\xfd\xb2\x7e\0", "OpenFst"),
    ] {
        let message = refused(start);
        assert!(
            message.starts_with("the language model lm is") && message.contains(wanted),
            "{message}"
        );
    }
    let packed = refused(b"BZh91AY&SY");
    assert!(packed.contains("packed with bzip2"), "{packed}");
}

#[test]
fn a_model_packed_with_gzip_or_in_utf_16_is_the_same() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, SMALL.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let model = NgramModel::read_from(&packed[..], Path::new("lm.arpa.gz")).unwrap();
    assert_eq!(logs(&model, "a b"), logs(&read(SMALL).unwrap(), "a b"));
    let wide: Vec<u8> = SMALL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = NgramModel::read_from(&wide[..], Path::new("lm.arpa")).unwrap();
    assert_eq!(logs(&wide, "a b"), logs(&model, "a b"));
    let cut = NgramModel::read_from(&packed[..packed.len() / 2], Path::new("lm.arpa.gz"));
    assert!(
        cut.unwrap_err()
            .to_string()
            .starts_with("cannot read the language model")
    );
}

const TEXT: &str = include_str!("../../testdata/lm/text.txt");

fn trained(order: usize) -> NgramModel {
    train(&TEXT.lines().collect::<Vec<_>>(), order)
        .unwrap()
        .model
}

fn written(model: &NgramModel) -> String {
    let mut bytes = Vec::new();
    model.write_to(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn probabilities_after_every_context_sum_to_one() {
    for order in 1..=MAX_TRAINED_ORDER {
        let model = trained(order);
        let begin = model.find(BEGIN_WORD).unwrap();
        // Every node that can be continued is a state.
        for context in 0..model.back.len() {
            let state = LmState(context as u32);
            let sum: f64 = (0..model.words.names.len() as WordId)
                .filter(|&word| word != begin)
                .map(|word| 10f64.powf(model.score(state, word).0))
                .sum();
            assert!((sum - 1.0).abs() < 1e-5, "order {order}, {context}: {sum}");
        }
    }
}

#[test]
fn training_is_deterministic_whatever_the_number_of_threads() {
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let four = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .unwrap();
    let text = |pool: &rayon::ThreadPool| pool.install(|| written(&trained(5)));
    assert_eq!(text(&one), text(&four));
}

#[test]
fn a_tiny_text_falls_back_to_fixed_discounts_and_says_so() {
    let trained = train(&["a b", "", " \t"], 3).unwrap();
    assert!(trained.discounts.iter().all(|found| found.fallback));
    assert_eq!(trained.discounts[0].values, Discounts::FALLBACK);
    assert_eq!((trained.sentences, trained.words), (1, 2));
    // By hand: three words seen before one word each; 0.5 is taken of each 1, and shared by four.
    let uniform = 0.5 / 4.0;
    let unigram = 0.5 / 3.0 + uniform;
    let (log, _) = trained
        .model
        .score(LmState::default(), trained.model.find("a").unwrap());
    assert!((log - f64::log10(unigram)).abs() < 1e-6);
    let (log, _) = trained.model.score(LmState::default(), UNKNOWN);
    assert!((log - f64::log10(uniform)).abs() < 1e-6);
}

#[test]
fn discounts_are_chen_and_goodmans() {
    // 10 once, 4 twice, 2 three times, 1 four times: Y = 10 / 18.
    let counts = [vec![1; 10], vec![2; 4], vec![3; 2], vec![4; 1], vec![9; 7]].concat();
    let found = Discounts::estimate(counts);
    let y = 10.0 / 18.0;
    let wanted = [
        1.0 - 2.0 * y * 0.4,
        2.0 - 3.0 * y * 0.5,
        3.0 - 4.0 * y * 0.5,
    ];
    assert!(!found.fallback);
    for (found, wanted) in found.values.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-12);
    }
    assert_eq!(found.of(3), found.of(300));
    assert!(Discounts::estimate([1, 1, 2]).fallback);
}

#[test]
fn what_cannot_be_trained_on_is_refused() {
    let nothing: [&str; 0] = [];
    assert_eq!(train(&nothing, 2).unwrap_err(), TrainError::Empty);
    assert_eq!(train(&["", " "], 2).unwrap_err(), TrainError::Empty);
    assert_eq!(train(&["a"], 0).unwrap_err(), TrainError::Order(0));
    assert_eq!(train(&["a"], 7).unwrap_err(), TrainError::Order(7));
    let mark = train(&["a", "b </S> c"], 2).unwrap_err().to_string();
    assert!(
        mark.starts_with("sentence 2 has the word \"</S>\""),
        "{mark}"
    );
    let marked = train(&["<s> a b </s>", "<S> a </S>"], 2).unwrap().model;
    let plain = train(&["a b", "a"], 2).unwrap().model;
    assert_eq!(written(&marked), written(&plain));
}

/// Logarithms that KenLM gives the same model's words: `speech/testdata/lm/kenlm_queries.py`.
#[test]
fn queries_are_kenlms() {
    let model = read(include_str!("../../testdata/lm/queries.arpa")).unwrap();
    let mut checked = 0;
    for line in include_str!("../../testdata/lm/queries.txt").lines() {
        let (sentence, wanted) = line.split_once('\t').unwrap();
        let wanted: Vec<f64> = wanted.split(' ').map(|log| log.parse().unwrap()).collect();
        let found = logs(&model, sentence);
        assert_eq!(found.len(), wanted.len(), "{sentence}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                (found - wanted).abs() < 2e-5,
                "{sentence}: {found} {wanted}"
            );
            checked += 1;
        }
    }
    assert!(checked > 1000);
}

/// Logarithms and backoff weights that `lmplz` estimates: `speech/testdata/lm/lmplz.py`.
#[test]
fn the_trainer_estimates_what_lmplz_does() {
    for (order, golden) in [
        (2, include_str!("../../testdata/lm/lmplz-2.arpa")),
        (4, include_str!("../../testdata/lm/lmplz-4.arpa")),
    ] {
        let (ours, wanted) = (trained(order), read(golden).unwrap());
        for length in 1..=order {
            assert_eq!(ours.ngrams(length), wanted.ngrams(length), "{length}");
            for node in wanted.levels[length]..wanted.levels[length + 1] {
                let ngram: Vec<&str> = wanted
                    .ngram(node, length)
                    .into_iter()
                    .map(|word| wanted.words.names[word as usize].as_ref())
                    .collect();
                let at = ngram.iter().fold(0, |context, word| {
                    let word = ours.find(word).unwrap();
                    ours.continuation(context, word).unwrap()
                }) as usize;
                // lmplz gives the start of a sentence, which is never predicted, a logarithm of 0.
                if ngram != [BEGIN_WORD] {
                    let (found, wanted) = (ours.log[at], wanted.log[node]);
                    assert!((found - wanted).abs() < 1e-5, "{ngram:?}: {found} {wanted}");
                }
                if let (Some(&found), Some(&wanted)) = (ours.back.get(at), wanted.back.get(node)) {
                    assert!((found - wanted).abs() < 1e-5, "{ngram:?}: {found} {wanted}");
                }
            }
        }
    }
}

#[test]
fn perplexity_counts_ends_of_sentences_and_sets_unknown_words_apart() {
    let model = read(SMALL).unwrap();
    let mut found = Perplexity::default();
    found.add(&model, "a b");
    found.add(&model, "<s> a  zzz b </S>");
    assert_eq!((found.sentences, found.words, found.oov), (2, 5, 1));
    let log = (-0.25 - 0.0625 - 0.125) + (-0.25 - 1.625 - 0.625 - 0.125);
    assert!((found.log10 - log).abs() < 1e-12);
    assert!((found.with_oov().unwrap() - 10f64.powf(-log / 7.0)).abs() < 1e-9);
    assert!((found.without_oov().unwrap() - 10f64.powf(-(log + 1.625) / 6.0)).abs() < 1e-9);
    assert_eq!(Perplexity::default().with_oov(), None);
}
