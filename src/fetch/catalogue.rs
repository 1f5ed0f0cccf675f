//! The corpora that may be had by anybody: where they lie, under which licence, and what their archives'
//! checksums are where somebody answers for them. Nothing here was computed by this project.

/// An archive of a corpus, or of a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Archive {
    pub name: &'static str,
    pub url: &'static str,
    pub checksum: Checksum,
    pub licence: &'static str,
    /// Where its publisher describes it.
    pub home: &'static str,
    /// How it is imported.
    pub format: &'static str,
    /// The folder of the corpus in the archive; empty for the archive's own.
    pub folder: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// SHA-256, as torchaudio 2 checks its downloads.
    Sha256(&'static str),
    /// Nobody publishes one that we could be sure of.
    Unpublished,
}

const CC_BY: &str = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)";

const fn librispeech(name: &'static str, url: &'static str, sum: &'static str) -> Archive {
    Archive {
        name,
        url,
        checksum: Checksum::Sha256(sum),
        licence: CC_BY,
        home: "https://www.openslr.org/12/",
        format: "librispeech",
        folder: "LibriSpeech",
    }
}

const fn mini_librispeech(name: &'static str, url: &'static str) -> Archive {
    Archive {
        name,
        url,
        checksum: Checksum::Unpublished,
        licence: CC_BY,
        home: "https://www.openslr.org/31/",
        format: "librispeech",
        folder: "LibriSpeech",
    }
}

const fn speech_commands(name: &'static str, url: &'static str, sum: &'static str) -> Archive {
    Archive {
        name,
        url,
        checksum: Checksum::Sha256(sum),
        licence: CC_BY,
        home: "https://arxiv.org/abs/1804.03209",
        format: "speech-commands-12",
        folder: "",
    }
}

pub(crate) const ARCHIVES: [Archive; 14] = [
    Archive {
        name: "an4",
        url: "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
        checksum: Checksum::Unpublished,
        licence: "CMU's own, free for any use with its notice (LICENSE in the archive)",
        home: "http://www.speech.cs.cmu.edu/databases/an4/",
        format: "an4",
        folder: "an4",
    },
    Archive {
        name: "fsdd",
        // Made by the host on demand, so that its bytes may change while its contents do not.
        url: "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
        checksum: Checksum::Unpublished,
        licence: "CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)",
        home: "https://github.com/Jakobovski/free-spoken-digit-dataset",
        format: "fsdd",
        folder: "free-spoken-digit-dataset-1.0.9",
    },
    speech_commands(
        "speech-commands-0.01",
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    ),
    speech_commands(
        "speech-commands-0.02",
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
    Archive {
        name: "ljspeech",
        url: "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        checksum: Checksum::Sha256(
            "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        ),
        licence: "public domain",
        home: "https://keithito.com/LJ-Speech-Dataset/",
        format: "ljspeech",
        folder: "LJSpeech-1.1",
    },
    mini_librispeech(
        "librispeech-mini-dev-clean-2",
        "https://www.openslr.org/resources/31/dev-clean-2.tar.gz",
    ),
    mini_librispeech(
        "librispeech-mini-train-clean-5",
        "https://www.openslr.org/resources/31/train-clean-5.tar.gz",
    ),
    librispeech(
        "librispeech-dev-clean",
        "https://www.openslr.org/resources/12/dev-clean.tar.gz",
        "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    ),
    librispeech(
        "librispeech-dev-other",
        "https://www.openslr.org/resources/12/dev-other.tar.gz",
        "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    ),
    librispeech(
        "librispeech-test-clean",
        "https://www.openslr.org/resources/12/test-clean.tar.gz",
        "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    ),
    librispeech(
        "librispeech-test-other",
        "https://www.openslr.org/resources/12/test-other.tar.gz",
        "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    ),
    librispeech(
        "librispeech-train-clean-100",
        "https://www.openslr.org/resources/12/train-clean-100.tar.gz",
        "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    ),
    librispeech(
        "librispeech-train-clean-360",
        "https://www.openslr.org/resources/12/train-clean-360.tar.gz",
        "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    ),
    librispeech(
        "librispeech-train-other-500",
        "https://www.openslr.org/resources/12/train-other-500.tar.gz",
        "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    ),
];

pub(crate) fn find(name: &str) -> Option<Archive> {
    ARCHIVES.into_iter().find(|entry| entry.name == name)
}
