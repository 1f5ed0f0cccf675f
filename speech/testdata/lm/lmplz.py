"""Writes lmplz-2.arpa and lmplz-4.arpa: KenLM's estimates of modified Kneser-Ney over text.txt.

    LMPLZ=path/to/lmplz python3 lmplz.py

`lmplz` is in KenLM's source distribution (`pip download --no-binary :all: kenlm==0.3.0`, then cmake).
"""

import os
import subprocess

for order in (2, 4):
    with open("text.txt") as text, open(f"lmplz-{order}.arpa", "w") as out:
        command = [os.environ["LMPLZ"], "-o", str(order), "-S", "64M", "-T", "."]
        subprocess.run(command, stdin=text, stdout=out, check=True)
