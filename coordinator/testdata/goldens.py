"""Writes goldens.json: clipping and optimizers as torch computes them.

    python goldens.py            (torch 2.15, CPU, one thread)

Every number is an f32 or f64 that JSON carries exactly. The inputs are made here and written down
too, so that the test needs no generator of its own.
"""

import json
import pathlib

import torch

torch.set_num_threads(1)
torch.manual_seed(20)


def numbers(tensor):
    return [float(value) for value in tensor.detach().reshape(-1)]


def clipping():
    # Two parameters, so that torch's norm is one of norms; ours is over the flat vector.
    for scale in [0.01, 1.0, 30.0]:
        parameters = [torch.zeros(7, 5), torch.zeros(23)]
        gradients = [scale * torch.randn_like(parameter) for parameter in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])

        def attach():
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient.clone()
            return parameters

        def result():
            return numbers(torch.cat([parameter.grad.reshape(-1) for parameter in parameters]))

        case = {"gradient": numbers(flat), "max_norm": 5.0, "max_value": 0.5}
        case["norm"] = float(torch.nn.utils.clip_grad_norm_(attach(), 5.0))
        case["by_norm"] = result()
        torch.nn.utils.clip_grad_value_(attach(), 0.5)
        case["by_value"] = result()
        yield case


OPTIMIZERS = [
    ({"kind": "sgd"}, torch.optim.SGD, {}),
    ({"kind": "sgd", "weight_decay": 0.01}, torch.optim.SGD, {"weight_decay": 0.01}),
    ({"kind": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    (
        {"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    ({"kind": "adam"}, torch.optim.Adam, {}),
    (
        {"kind": "adam", "weight_decay": 0.01, "beta1": 0.8, "beta2": 0.98, "epsilon": 1e-6},
        torch.optim.Adam,
        {"weight_decay": 0.01, "betas": (0.8, 0.98), "eps": 1e-6},
    ),
    ({"kind": "adamw", "weight_decay": 0.05}, torch.optim.AdamW, {"weight_decay": 0.05}),
]

STEPS = 8
RATES = [0.01, 0.02, 0.02, 0.01, 0.005, 0.005, 0.001, 0.001]


def optimizers():
    elements = 16
    weights = torch.randn(elements)
    # Gradients of very different sizes, with exact zeros among them.
    gradients = [torch.randn(elements) * 10 ** torch.linspace(-4, 1, elements) for _ in range(STEPS)]
    for gradient in gradients:
        gradient[3] = 0.0
    for config, optimizer, arguments in OPTIMIZERS:
        parameter = torch.nn.Parameter(weights.clone())
        optimizer = optimizer([parameter], lr=0.01, foreach=False, **arguments)
        after = []
        for rate, gradient in zip(RATES, gradients):
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = gradient.clone()
            optimizer.step()
            after.append(numbers(parameter))
        state = optimizer.state[parameter]
        names = ["momentum_buffer", "exp_avg", "exp_avg_sq"]
        yield {
            "config": config,
            "rates": RATES,
            "weights": numbers(weights),
            "gradients": [numbers(gradient) for gradient in gradients],
            "after": after,
            "state": {name: numbers(state[name]) for name in names if state.get(name) is not None},
        }


SCHEDULES = [
    ({"kind": "step", "step_size": 4, "gamma": 0.3}, lambda o: torch.optim.lr_scheduler.StepLR(o, 4, 0.3)),
    ({"kind": "exponential", "step_size": 1, "gamma": 0.93}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.93)),
    ({"kind": "cosine", "final_fraction": 0.1}, lambda o: torch.optim.lr_scheduler.LambdaLR(
        o, lambda t: 0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * t / 40, dtype=torch.float64)).item()) / 2)),
    ({"kind": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40)),
    ({"kind": "constant", "warmup_steps": 10}, lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 9)),
]


def schedules():
    for config, scheduler in SCHEDULES:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
        scheduler = scheduler(optimizer)
        rates = []
        for _ in range(40):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        yield {"config": config, "base": 0.02, "total_steps": 40, "rates": rates}


PLATEAUS = [
    ({"gamma": 0.5, "patience": 0, "threshold": 0.0}, False),
    ({"gamma": 0.3, "patience": 2, "threshold": 1e-4}, False),
    ({"gamma": 0.5, "patience": 1, "threshold": 0.05, "cooldown": 2}, True),
    ({"gamma": 0.1, "patience": 1, "threshold": 1e-4, "final_fraction": 0.02}, True),
]


def plateaus():
    for config, rises in PLATEAUS:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max" if rises else "min", factor=config["gamma"], patience=config["patience"],
            threshold=config["threshold"], cooldown=config.get("cooldown", 0),
            min_lr=0.02 * config.get("final_fraction", 0.0), eps=0.0)
        # A noisy way from 0.5 to what cannot be beaten.
        way = 0.5 + 0.4 * (1 - torch.exp(-torch.arange(40) / 8)) + 0.03 * torch.randn(40)
        figures = numbers(way if rises else 1 - way)
        rates = []
        for figure in figures:
            scheduler.step(figure)
            rates.append(optimizer.param_groups[0]["lr"])
        yield {"config": {"kind": "plateau", **config}, "base": 0.02, "rises": rises, "figures": figures, "rates": rates}


def averages():
    from torch.optim import swa_utils
    for decay in [0.0, 0.9, 0.999]:
        model = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(20))])
        weights = numbers(model[0])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        moving = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay))
        mean = swa_utils.AveragedModel(model)
        gradients, after = [], []
        for _ in range(STEPS):
            model[0].grad = torch.randn(20)
            gradients.append(numbers(model[0].grad))
            optimizer.step()
            moving.update_parameters(model)
            mean.update_parameters(model)
            after.append(numbers(moving.module[0]))
        yield {"decay": decay, "weights": weights, "gradients": gradients, "after": after, "mean": numbers(mean.module[0])}


goldens = {
    "torch": torch.__version__,
    "clipping": list(clipping()),
    "optimizers": list(optimizers()),
    "schedules": list(schedules()),
    "plateaus": list(plateaus()),
    "averages": list(averages()),
}
path = pathlib.Path(__file__).with_name("goldens.json")
path.write_text(json.dumps(goldens, indent=None, separators=(",", ":")) + "\n")
