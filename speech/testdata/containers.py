"""More forms of the chirp of coded.py in `coded/`, as ffmpeg writes them, and what ffmpeg decodes of them: a `.pcm` of 16-bit
little-endian samples beside each. Needs ffmpeg (5.1 was used) with libopus, libvorbis and libmp3lame.
"""

import pathlib
import subprocess

out = pathlib.Path(__file__).parent / "coded"
EXACT = ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
FORMS = {
    "rf64.wav": ["-rf64", "always"],
    "wave64.w64": ["-c:a", "pcm_s24le"],
    "chirp.aiff": [],
    "sowt.aifc": ["-c:a", "pcm_s16le", "-f", "aiff"],
    "float.aifc": ["-c:a", "pcm_f32be", "-f", "aiff"],
    "chirp.caf": ["-c:a", "pcm_s24le"],
    "mulaw.caf": ["-c:a", "pcm_mulaw"],
    "chirp.au": [],
    "mp3.wav": ["-c:a", "libmp3lame", "-b:a", "32k", "-write_xing", "0"],
    "chirp.mp2": ["-b:a", "48k"],
    "untagged.mp3": ["-q:a", "5", "-write_xing", "0", "-id3v2_version", "0"],
    "chirp.opus": ["-c:a", "libopus", "-b:a", "24k"],
    "opus.webm": ["-c:a", "libopus", "-b:a", "24k"],
    "opus-live.webm": ["-c:a", "libopus", "-b:a", "24k", "-live", "1"],
    "vorbis.webm": ["-c:a", "libvorbis"],
    "flac.oga": ["-c:a", "flac"],
    "chirp.m4a": ["-c:a", "aac", "-b:a", "48k"],
    "alac.m4a": ["-c:a", "alac"],
    "alac.caf": ["-c:a", "alac"],
    "chirp.aac": ["-c:a", "aac", "-b:a", "48k"],
}

for name, form in FORMS.items():
    path = out / name
    source = ["-f", "s16le", "-ar", "16000", "-ac", "1", "-i", str(out / "chirp.flac.pcm")]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *EXACT, *form, str(path)], check=True)
    decoded = ["-c:a", "libopus"] if "opus" in name else []
    command = ["ffmpeg", "-v", "error", *decoded, "-i", str(path), "-f", "s16le", "-"]
    samples = subprocess.run(command, check=True, capture_output=True).stdout
    (out / f"{name}.pcm").write_bytes(samples)
    print(name, path.stat().st_size, len(samples) // 2)
