"""Makes the goldens of speech/tests/kaldi.rs: run in this folder, with numpy and kaldi-native-fbank 1.23.

    python front_end.py

The signals are made of a pulse train through resonances, noise, an offset, near silence and silence.
"""

import wave

import kaldi_native_fbank as knf
import numpy as np


def signal(rate, seconds):
    rng = np.random.default_rng(rate)
    n = int(rate * seconds)
    t = np.arange(n) / rate
    source = (np.diff(np.floor(t * (110 + 40 * t)), prepend=0) > 0).astype(float)
    source += 0.02 * rng.standard_normal(n)
    x = source
    for hz, width in [(650, 80), (1100, 90), (2400, 120), (3300, 200)]:
        r = np.exp(-np.pi * width / rate)
        a1, a2 = 2 * r * np.cos(2 * np.pi * hz / rate), -r * r
        y = np.zeros(n + 2)
        for i in range(n):
            y[i] = (1 - a1 - a2) * x[i] + a1 * y[i - 1] + a2 * y[i - 2]
        x = y[:n]
    x = x / np.abs(x).max() * 20000 + 300
    x[n // 2 : 5 * n // 8] = 2 * rng.standard_normal(5 * n // 8 - n // 2)
    x[5 * n // 8 : 6 * n // 8] = 0
    x[6 * n // 8 :] = 5000 * rng.standard_normal(n - 6 * n // 8)
    return np.clip(np.round(x), -32768, 32767).astype(np.int16)


def save_wav(name, rate, samples):
    with wave.open(name, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(samples.tobytes())


def frame_options(o, rate, bins, low=20, high=0):
    o.frame_opts.dither = 0
    o.frame_opts.samp_freq = rate
    o.mel_opts.num_bins = bins
    o.mel_opts.low_freq = low
    o.mel_opts.high_freq = high
    return o


def frames(computer, rate, samples):
    computer.accept_waveform(rate, samples.astype(np.float32).tolist())
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def log_mel(rate, samples, bins, **edges):
    options = frame_options(knf.FbankOptions(), rate, bins, **edges)
    return frames(knf.OnlineFbank(options), rate, samples)


def mfcc(rate, samples, bins, cepstra, use_energy):
    options = frame_options(knf.MfccOptions(), rate, bins)
    options.num_ceps = cepstra
    options.use_energy = use_energy
    return frames(knf.OnlineMfcc(options), rate, samples)


def save(name, matrix):
    np.savetxt(name, matrix, fmt="%.5f")
    print(name, matrix.shape)


def deltas(features, order):
    return knf.compute_deltas(knf.DeltaOptions(order=order, window=2), features.astype(np.float32))


def cmvn(utterances):
    """Each of the utterances, with the mean and variance of all of them."""
    utterances = [one.astype(np.float32) for one in utterances]
    stats = sum(knf.compute_cmvn_stats(one) for one in utterances)
    return [knf.apply_cmvn(stats, knf.CmvnOptions(norm_vars=True), one) for one in utterances]


wide, narrow = signal(16000, 0.4), signal(8000, 0.4)
save_wav("speechlike-16k.wav", 16000, wide)
save_wav("speechlike-8k.wav", 8000, narrow)
save("log-mel-40-16k.txt", log_mel(16000, wide, 40))
save("log-mel-40-8k.txt", log_mel(8000, narrow, 40))
save("log-mel-24-100-to-minus-400.txt", log_mel(16000, wide, 24, low=100, high=-400))
save("mfcc-energy.txt", mfcc(16000, wide, 23, 13, True))
save("mfcc-c0.txt", mfcc(16000, wide, 23, 13, False))
of_wide = log_mel(16000, wide, 24, low=100, high=-400)
save("mfcc-c0-deltas.txt", deltas(mfcc(16000, wide, 23, 13, False), 2))
save("log-mel-cmvn-utterance.txt", cmvn([of_wide])[0])
# A speaker of two utterances: the whole and its second half.
save("log-mel-cmvn-speaker.txt", cmvn([of_wide, log_mel(16000, wide[3200:], 24, low=100, high=-400)])[1])
