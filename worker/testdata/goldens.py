"""Makes gradients.safetensors, kinds.safetensors and ctc.safetensors: losses and gradients by PyTorch
in f64.

    python3 worker/testdata/goldens.py        (made with torch 2.15.0)

Every utterance runs through torch's modules alone, so that there is no padding whose handling could
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


class Model:
    """A model of any kind as its job's [model] section says, out of torch's modules."""

    def __init__(self, config, inputs, outputs):
        self.config, self.inputs, self.outputs = config, inputs, outputs
        self.modules = []

    def own(self, index, make):
        """The module of this number, made when it is first met."""
        if index == len(self.modules):
            self.modules.append(make().double())
            for parameter in self.modules[-1].parameters():
                parameter.data = rounded(1.5 * parameter.data + 0.05 * torch.randn_like(parameter))
        return self.modules[index]

    def parameters(self):
        return [parameter for module in self.modules for parameter in module.parameters()]

    def __call__(self, x):
        """Frames [length, inputs] to outputs [frames, outputs], or [outputs] of a keyword."""
        config, self.met = self.config, 0
        activation = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[
            config.get("activation", "tanh" if config["kind"] == "rnn" else "relu")
        ]
        directions = 2 if config.get("bidirectional") else 1
        if config["kind"] == "cnn":
            x = self.residual(x)
            directions = 1
        else:
            x = self.front(x)
            if config["kind"] == "dnn":
                left, right = config.get("context_left", 0), config.get("context_right", 0)
                padded = F.pad(x, (0, 0, left, right))
                x = torch.cat([padded[k : k + len(x)] for k in range(left + 1 + right)], 1)
                for width in config["widths"]:
                    x = self.norm(activation(self.linear(x, width)))
                directions = 1
            else:
                for width in config["widths"]:
                    x = self.norm(self.recurrent(x, width, directions))
        if config["head"] == "keyword":
            half = x.shape[1] // directions
            if config["pooling"] == "mean":
                x = x.mean(0)
            else:
                x = torch.cat([x[-1, :half], x[0, half:]])
        for width in config.get("dense", []):
            x = self.norm(activation(self.linear(x, width)))
        return self.linear(x, self.outputs)

    def next(self, make):
        self.met += 1
        return self.own(self.met - 1, make)

    def linear(self, x, width):
        return self.next(lambda: torch.nn.Linear(x.shape[-1], width))(x)

    def norm(self, x, always=False):
        if not (always or self.config.get("layer_norm")):
            return x
        return self.next(lambda: torch.nn.LayerNorm(x.shape[-1]))(x)

    def recurrent(self, x, width, directions):
        kind, options = self.config["kind"], {"bidirectional": directions == 2}
        if kind == "lstm":
            options["proj_size"] = self.config.get("projection", 0)
        if kind == "rnn":
            options["nonlinearity"] = self.config.get("activation", "tanh")
        make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[kind]
        return self.next(lambda: make(x.shape[1], width, **options))(x[:, None])[0][:, 0]

    def front(self, x):
        conv = self.config.get("conv", {"channels": []})
        bands, channels = x.shape[1], 1
        for outputs in conv["channels"]:
            make = lambda: torch.nn.Conv2d(
                channels,
                outputs,
                conv["kernel"],
                conv["stride"],
                [size // 2 for size in conv["kernel"]],
            )
            image = F.relu(self.next(make)(as_image(x, channels)))
            x, channels = self.norm(as_frames(image)), outputs
        return x

    def residual(self, x):
        config = self.config["residual"]
        channels, pool = config["channels"], config["pool"]
        conv = lambda inputs, dilation: self.next(
            lambda: torch.nn.Conv2d(inputs, channels, 3, 1, dilation, dilation, bias=False)
        )
        image = F.relu(conv(1, 1)(as_image(x, 1)))
        image = F.avg_pool2d(image, pool, ceil_mode=True, count_include_pad=False)
        around = image
        for index in range(1, 2 * config["blocks"] + 1):
            dilation = 2 ** (index // 3) if config["dilated"] else 1
            image = F.relu(conv(channels, dilation)(image))
            if index % 2 == 0:
                image = around = image + around
            image = as_image(self.norm(as_frames(image), always=True), channels)
        return image.mean(3)[0].T


def as_image(x, channels):
    """Frames of bands of channels to [1, channels, frames, bands]."""
    return x.reshape(len(x), -1, channels).permute(2, 0, 1)[None]


def as_frames(image):
    return image[0].permute(1, 2, 0).flatten(1)


def kinds():
    torch.manual_seed(3)
    inputs, outputs = 7, 6
    conv = lambda channels, kernel, stride: {"channels": channels, "kernel": kernel, "stride": stride}
    residual = {"channels": 4, "blocks": 2, "pool": [4, 3], "dilated": False}
    cases = {
        "gru-keyword": {"kind": "gru", "head": "keyword", "pooling": "last", "widths": [5, 4]},
        "gru-ctc": {
            "kind": "gru",
            "head": "ctc",
            "widths": [5, 6],
            "bidirectional": True,
            "layer_norm": True,
            "conv": conv([3, 4], [3, 5], [2, 1]),
        },
        "rnn-tanh": {"kind": "rnn", "head": "ctc", "widths": [6], "bidirectional": True},
        "rnn-relu": {
            "kind": "rnn",
            "head": "keyword",
            "pooling": "last",
            "widths": [6, 5],
            "activation": "relu",
            "dense": [4],
        },
        "lstm-projection": {
            "kind": "lstm",
            "head": "ctc",
            "widths": [7, 6],
            "projection": 3,
            "bidirectional": True,
            "layer_norm": True,
        },
        "dnn": {
            "kind": "dnn",
            "head": "ctc",
            "widths": [8, 5],
            "context_left": 2,
            "context_right": 1,
            "activation": "sigmoid",
        },
        "dnn-keyword": {
            "kind": "dnn",
            "head": "keyword",
            "pooling": "mean",
            "widths": [8],
            "layer_norm": True,
            "activation": "tanh",
            "conv": conv([2], [5, 3], [3, 2]),
        },
        "cnn": {"kind": "cnn", "head": "keyword", "pooling": "mean", "residual": residual},
        "cnn-dilated": {
            "kind": "cnn",
            "head": "ctc",
            "residual": residual | {"pool": [1, 2], "dilated": True},
        },
    }
    tensors, metadata = {}, {}
    for name, config in cases.items():
        model = Model(config, inputs, outputs)
        keyword = config["head"] == "keyword"
        lengths = [7, 1, 22, 9] if keyword else [19, 1, 22, 10, 5]
        targets = [[2], [0], [5], [2]] if keyword else [[1, 2, 2, 5], [], [3, 1], [4, 4], []]
        loss = 0.0
        for i, (length, target) in enumerate(zip(lengths, targets)):
            x = rounded(torch.randn(length, inputs, dtype=torch.float64))
            tensors[f"{name}/features/{i}"] = x
            y = model(x)
            if keyword:
                loss = loss + F.cross_entropy(y, torch.tensor(target[0]), reduction="sum")
            else:
                loss = loss + F.ctc_loss(
                    y.log_softmax(-1)[:, None, :],
                    torch.tensor([target], dtype=torch.long).reshape(1, len(target)),
                    torch.tensor([len(y)]),
                    torch.tensor([len(target)]),
                    reduction="sum",
                )
        loss.backward()
        parameters = model.parameters()
        tensors[f"{name}/parameters"] = torch.cat([p.data.flatten() for p in parameters])
        tensors[f"{name}/gradient"] = torch.cat([p.grad.flatten() for p in parameters])
        metadata[name] = json.dumps(
            {
                "model": config,
                "inputs": inputs,
                "outputs": outputs,
                "targets": targets,
                "loss": loss.item(),
            }
        )
    save(HERE / "kinds.safetensors", tensors, metadata)


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
kinds()
ctc()
