"""An init in PyTorch: the names and orientation of its weights, and a module that loads them."""

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.fields import Field, Theta

ANGULAR = "angular"  # frequencies of a field's features, beside its layers


def state_dict(field: Field, theta: Theta) -> dict[str, np.ndarray]:
    """PyTorch's names and orientation of the weights; `angular` are frequencies of features."""
    named = {}
    for i, (w, b) in enumerate(theta):
        named |= {f"layers.{i}.weight": w.T, f"layers.{i}.bias": b}
    waves = angular(field, theta)
    return named if waves is None else named | {ANGULAR: waves}


def angular(field: Field, theta: Theta) -> np.ndarray | None:
    """The frequencies of a field's features, (dims, n); None if it sees the bare coordinates."""
    if field.spec["kind"] in ("siren", "relu"):
        return None

    def features(x):
        return field.inputs(theta, x)[0]

    slopes = jax.jacobian(features)(jnp.zeros(field.spec["dims"]))
    return np.asarray(slopes[: len(slopes) // 2]).T  # the sines come first


MODULE = '''"""{about} as a PyTorch module: field = Field(torch.load("{name}"))."""

import torch


class Field(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        shapes = [w.shape for name, w in weights.items() if name.endswith("weight")]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(n, m) for m, n in shapes)
{buffer}        self.load_state_dict(weights)

    def forward(self, x):
{encode}        for i, layer in enumerate(self.layers[:-1]):
            x = {act}
        return {head} + {offset!r}
'''


def source(field: Field, name: str) -> str:
    """The source of a PyTorch module that is this field, with weights from a file of that name."""
    s = field.spec
    gain = f"({s.get('omega0')!r} if i == 0 else {s.get('hidden_omega0')!r})"
    act = f"torch.sin({gain} * layer(x))" if s["kind"] == "siren" else "torch.relu(layer(x))"
    waves = s["kind"] not in ("siren", "relu")
    sides = "torch.sin(x @ self.angular), torch.cos(x @ self.angular)"
    last = "self.layers[-1](x)"
    return MODULE.format(
        about=f"A {s['kind']} network of {s['depth']} layers, {s['width']} wide,",
        name=name,
        buffer=f'{" " * 8}self.register_buffer("angular", weights["angular"])\n' if waves else "",
        encode=f"{' ' * 8}x = torch.cat([{sides}], -1)\n" if waves else "",
        act=act,
        head=f"torch.sigmoid({last})" if s["head"] == "sigmoid" else last,
        offset=s["offset"],
    )
