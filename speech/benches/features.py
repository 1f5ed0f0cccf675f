"""`unisono bench features` beside the usual libraries, in one run on one thread: log-mel features (80
bands, 25 ms every 10 ms) of a manifest's recordings, samples in memory. Prints seconds of audio in a
second (medians) and how many times the fastest of the others ours is. A library that is not installed
is passed over.

    python3 speech/benches/features.py target/release/unisono MANIFEST [--repeats 5]
"""

import argparse
import json
import statistics
import subprocess
import time
import wave
from pathlib import Path

import numpy as np


def recordings(manifest):
    """Samples between -1 and 1, and the sample rate."""
    samples, rate = [], None
    for line in Path(manifest).read_text().splitlines():
        path = Path(manifest).parent / json.loads(line)["audio_filepath"]
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            values = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            samples.append(values.astype(np.float32) / 32768)
    return samples, rate


def kaldi_native_fbank(rate):
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80

    def features(samples):
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(rate, samples * 32768)
        fbank.input_finished()
        return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])

    return features


def torchaudio(rate):
    import torch
    from torchaudio.compliance.kaldi import fbank

    torch.set_num_threads(1)

    def features(samples):
        wave_form = torch.from_numpy(samples)[None] * 32768
        return fbank(wave_form, num_mel_bins=80, sample_frequency=rate, dither=0.0)

    return features


def librosa(rate):
    from librosa.feature import melspectrogram

    sizes = dict(n_fft=512 if rate > 8000 else 256, win_length=rate // 40, hop_length=rate // 100)

    def features(samples):
        power = melspectrogram(y=samples, sr=rate, n_mels=80, center=False, **sizes)
        return np.log(np.maximum(power, 1e-10))

    return features


def speed(features, samples, rate, repeats):
    features(samples[0])
    passes = []
    for _ in range(repeats):
        start = time.perf_counter()
        for values in samples:
            features(values)
        passes.append(time.perf_counter() - start)
    return sum(map(len, samples)) / rate / statistics.median(passes)


def unisono(program, manifest, repeats):
    arguments = [program, "bench", "features", "--manifest", manifest, "--threads", "1", "-o", "json"]
    arguments += ["--repeats", str(repeats)]
    out = subprocess.run(arguments, check=True, capture_output=True).stdout
    return json.loads(out)["audio_s_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("manifest")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    samples, rate = recordings(args.manifest)
    others = {}
    for library in (kaldi_native_fbank, torchaudio, librosa):
        try:
            features = library(rate)
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{library.__name__:20} passed over: {str(error).splitlines()[0]}")
            continue
        others[library.__name__] = speed(features, samples, rate, args.repeats)
        print(f"{library.__name__:20} {others[library.__name__]:8.0f} s of audio a second")
    ours = unisono(args.program, args.manifest, args.repeats)
    print(f"{'unisono':20} {ours:8.0f} s of audio a second")
    if others:
        fastest = max(others, key=others.get)
        print(f"{ours / others[fastest]:.2f} times {fastest}")


if __name__ == "__main__":
    main()
