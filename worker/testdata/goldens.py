"""Makes gradients.safetensors and ctc.safetensors: losses and gradients by PyTorch in f64.

    python3 worker/testdata/goldens.py        (made with torch 2.15.0)

Every utterance runs through torch.nn.LSTM alone, so that there is no padding whose handling could
be shared with the code under test.
"""

import json
import pathlib
import struct

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent


def save(path, tensors, metadata):
    """The safetensors format, f32 throughout."""
    header, blob = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        values = tensor.detach().to(torch.float32).flatten().tolist()
        data = struct.pack(f"<{len(values)}f", *values)
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(blob), len(blob) + len(data)],
        }
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def rounded(tensor):
    """Values that f32 holds exactly, in f64."""
    return tensor.to(torch.float32).to(torch.float64)


def gradients():
    torch.manual_seed(1)
    inputs, hidden, layers, outputs = 4, 5, 2, 6
    cases = {
        "keyword-last": ("keyword", "last", False),
        "keyword-last-bidirectional": ("keyword", "last", True),
        "keyword-mean-bidirectional": ("keyword", "mean", True),
        "ctc": ("ctc", "last", False),
        "ctc-bidirectional": ("ctc", "last", True),
    }
    tensors, metadata = {}, {}
    for name, (head, pooling, bidirectional) in cases.items():
        lstm = torch.nn.LSTM(inputs, hidden, layers, bidirectional=bidirectional).double()
        linear = torch.nn.Linear(hidden * (2 if bidirectional else 1), outputs).double()
        parameters = list(lstm.parameters()) + list(linear.parameters())
        for parameter in parameters:
            parameter.data = rounded(2.0 * parameter.data)
        lengths = [7, 1, 11, 4] if head == "keyword" else [9, 1, 11, 4, 5]
        targets = [[2], [0], [5], [2]] if head == "keyword" else [[1, 2, 2, 5], [], [3, 1], [4, 4], []]
        loss = 0.0
        for i, (length, target) in enumerate(zip(lengths, targets)):
            x = rounded(torch.randn(length, inputs, dtype=torch.float64))
            tensors[f"{name}/features/{i}"] = x
            y, _ = lstm(x[:, None, :])
            y = y[:, 0]
            if head == "keyword":
                if pooling == "mean":
                    y = y.mean(0)
                else:
                    y = torch.cat([y[-1, :hidden], y[0, hidden:]])
                loss = loss + F.cross_entropy(linear(y), torch.tensor(target[0]), reduction="sum")
            else:
                log_probs = linear(y).log_softmax(-1)[:, None, :]
                loss = loss + F.ctc_loss(
                    log_probs,
                    torch.tensor([target], dtype=torch.long).reshape(1, len(target)),
                    torch.tensor([length]),
                    torch.tensor([len(target)]),
                    reduction="sum",
                )
        loss.backward()
        tensors[f"{name}/parameters"] = torch.cat([p.data.flatten() for p in parameters])
        tensors[f"{name}/gradient"] = torch.cat([p.grad.flatten() for p in parameters])
        metadata[name] = json.dumps(
            {
                "head": head,
                "pooling": pooling,
                "bidirectional": bidirectional,
                "inputs": inputs,
                "hidden": hidden,
                "layers": layers,
                "outputs": outputs,
                "targets": targets,
                "loss": loss.item(),
            }
        )
    save(HERE / "gradients.safetensors", tensors, metadata)


def ctc():
    torch.manual_seed(2)
    cases = {
        "labels": (30, 8, [1, 2, 3, 4, 5, 6, 7, 1, 3]),
        "repeats": (20, 5, [1, 1, 1, 2, 2, 4, 4]),
        "tight": (9, 5, [1, 1, 2, 3, 3, 4, 1]),
        "empty": (12, 4, []),
        "single-frame": (1, 4, [2]),
        "long": (150, 12, [1 + (3 * i) % 11 for i in range(40)]),
    }
    tensors, metadata = {}, {}
    for name, (frames, outputs, target) in cases.items():
        logits = rounded(2.0 * torch.randn(frames, outputs, dtype=torch.float64)).requires_grad_()
        loss = F.ctc_loss(
            logits.log_softmax(-1)[:, None, :],
            torch.tensor([target], dtype=torch.long).reshape(1, len(target)),
            torch.tensor([frames]),
            torch.tensor([len(target)]),
            reduction="sum",
        )
        loss.backward()
        tensors[f"{name}/logits"] = logits
        tensors[f"{name}/gradient"] = logits.grad
        metadata[name] = json.dumps({"outputs": outputs, "target": target, "loss": loss.item()})
    save(HERE / "ctc.safetensors", tensors, metadata)


gradients()
ctc()
