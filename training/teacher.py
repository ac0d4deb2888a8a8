"""What the parent does, seen from outside: nothing here changes it or keeps its gradients."""

import torch
from torch import Tensor, nn

from engine.model import Layer, Model


@torch.no_grad()
def capture_mixer_io(model: Model, token_ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Input and output [T, D] of each layer's mixer over `token_ids` [T] from position 0.

    [T, B, D] over `token_ids` [T, B], each column a sequence.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, object, int], output: Tensor) -> None:
        seen.append((inputs[0], output))

    layers = [layer for layer in model.layers if isinstance(layer, Layer)]
    hooks = [layer.mixer.register_forward_hook(note) for layer in layers]
    try:
        num_sequences = token_ids[:1].numel()
        model(token_ids, model.empty_states(differentiable=True, num_sequences=num_sequences), 0)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
