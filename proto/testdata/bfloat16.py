"""Writes bfloat16.txt: bits of float32 and of what torch rounds them to. Ties, neighbours of ties,
subnormals, the largest numbers, infinities, NaN, and random bits.

    python3 proto/testdata/bfloat16.py > proto/testdata/bfloat16.txt
"""

import torch

torch.manual_seed(1)
bits = [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF]
bits += [0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x7F7F8001, 0x00000001, 0x00007FFF, 0x00008000]
bits += [0x00008001, 0x00018000, 0x007FFFFF, 0x00800000, 0x3F808000, 0x3F818000]
for upper in torch.randint(0, 1 << 16, (400,)).tolist():
    bits += [upper << 16 | lower for lower in (0x7FFF, 0x8000, 0x8001)]
bits += torch.randint(0, 1 << 32, (500,)).tolist()
signed = torch.tensor([bit - (1 << 32) if bit >> 31 else bit for bit in bits], dtype=torch.int32)
rounded = signed.view(torch.float32).to(torch.bfloat16).view(torch.int16).tolist()
print(f"# torch {torch.__version__}: float32, bfloat16")
for one, other in zip(bits, rounded):
    print(f"{one:08x} {other & 0xFFFF:04x}")
