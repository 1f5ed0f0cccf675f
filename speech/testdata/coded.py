"""The coded recordings in `coded/`, and what libsndfile decodes of them: pip install numpy soundfile.

An eighth of a second of a chirp with some noise; beside each, `.pcm` is what
libsndfile (FLAC, Vorbis, LAME and mpg123 behind it) gives back, as 16-bit little-endian samples.
"""

import pathlib

import numpy as np
import soundfile as sf

out = pathlib.Path(__file__).parent / "coded"
time = np.arange(2000) / 16000
chirp = 0.4 * np.sin(2 * np.pi * (200 * time + 6000 * time**2)) * np.sin(np.pi * time / 0.125)
chirp += 0.01 * np.random.default_rng(1).standard_normal(2000)
mono = np.round(chirp * 32767).astype(np.int16)
stereo = np.stack([mono, np.roll(mono, 7) // 2], axis=1)[:500]


def write(name, samples, rate, **form):
    path = out / name
    sf.write(path, samples, rate, **form)
    decoded = np.round(sf.read(path)[0] * 32768)
    (out / f"{name}.pcm").write_bytes(decoded.astype("<i2").tobytes())
    print(name, path.stat().st_size)


write("chirp.flac", mono, 16000, format="FLAC", subtype="PCM_16")
write("stereo.flac", stereo, 16000, format="FLAC", subtype="PCM_24")
write("chirp.ogg", mono, 16000, format="OGG", subtype="VORBIS")
write("chirp.mp3", mono, 16000, format="MP3", subtype="MPEG_LAYER_III")
write("ulaw.wav", mono, 16000, format="WAV", subtype="ULAW")
write("alaw.wav", mono, 16000, format="WAV", subtype="ALAW")
write("ima.wav", mono, 16000, format="WAV", subtype="IMA_ADPCM")
write("ms.wav", mono, 16000, format="WAV", subtype="MS_ADPCM")
write("extensible.wav", stereo, 16000, format="WAVEX", subtype="PCM_16")
write("double.wav", mono[:500] / 32768, 16000, format="WAV", subtype="DOUBLE")
write("chirp.sph", mono[:500], 16000, format="NIST", subtype="PCM_16", endian="BIG")
