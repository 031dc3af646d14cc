"""The networks in PyTorch, from deeplabctl's tables and weights: prediction, and a training step."""

from functools import partial, reduce
from operator import add

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

from deeplabctl.network import ARCHITECTURES, Weights, layer_of, part_of
from deeplabctl.network.ops import Convolution, DepthwiseConvolution, Norm, Pooling, Resize
from deeplabctl.network.ops.operation import Operation, fold

ACTIVATIONS = {
    None: lambda x: x, "relu": F.relu, "relu6": F.relu6, "hard_silu": F.hardswish, "hard_sigmoid": F.hardsigmoid
}  # fmt: skip


class Network(torch.nn.Module):
    """Compute the logits of preprocessed images (N, 3, H, W) as they are trained, at one scale."""

    def __init__(self, architecture: str, weights: Weights) -> None:
        super().__init__()
        self.table = ARCHITECTURES[architecture]
        self.arrays = torch.nn.ParameterDict()
        depthwise = {row.name for row in self.table.rows if isinstance(row, DepthwiseConvolution)}
        facts = self.table.parameters(weights_classes(self.table, weights))
        for name, array in weights.items():
            if array.ndim == 4:
                array = array.transpose((2, 3, 0, 1) if layer_of(name) in depthwise else (3, 2, 0, 1))
            tensor = torch.from_numpy(array.copy())
            tensor = tensor.to(memory_format=torch.channels_last) if array.ndim == 4 else tensor
            trained = facts[name].lr_multiplier > 0
            self.arrays[name] = torch.nn.Parameter(tensor, requires_grad=trained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, C, h, w)."""
        return list(fold(self.table.rows, x, self._compute).values())[-1]

    def _compute(self, row: Operation, inputs: list[torch.Tensor]) -> torch.Tensor:
        x, own = inputs[0], {part_of(n): a for n, a in self.arrays.items() if layer_of(n) == row.name}
        kind = type(row).__name__
        if isinstance(row, Convolution):
            pad: int | tuple[int, int] = row.pad
            if row.same and row.stride == 2:
                before = [1 - side % 2 for side in x.shape[2:]]  # an even side has none before
                x = F.pad(x, (1 - before[1], 1, 1 - before[0], 1))
                pad = 0
            groups = len(own["kernel"]) if row.is_depthwise else 1
            x = F.conv2d(x, own["kernel"], own.get("bias"), row.stride, pad, row.dilation, groups)
            x = ACTIVATIONS[row.activation.keras](x)
            return F.dropout(x, self.table.dropout, self.training) if row.dropout else x
        if isinstance(row, Norm):
            statistics = own["moving_mean"], own["moving_variance"], own["gamma"], own["beta"]
            return ACTIVATIONS[row.activation.keras](F.batch_norm(x, *statistics, eps=row.epsilon))
        if isinstance(row, Pooling):
            pool = F.max_pool2d if row.kind == "max" else F.avg_pool2d
            return pool(x, 3, row.stride, 1, ceil_mode=row.rounds_up and row.stride == 2)
        if isinstance(row, Resize):
            return F.interpolate(x, inputs[1].shape[2:], mode="bilinear", align_corners=True)
        return {
            "Sum": lambda: ACTIVATIONS[row.activation.keras](reduce(add, inputs)),
            "Concatenation": lambda: torch.cat(inputs, 1),
            "ImageMean": lambda: x.mean((2, 3), keepdim=True),
            "Broadcast": lambda: x.expand_as(inputs[1]),
            "Product": lambda: x * inputs[1],
            "Rectifier": lambda: ACTIVATIONS[row.activation.keras](x),
            "Dropout": partial(F.dropout, x, self.table.dropout, self.training),
        }[kind]()


def weights_classes(table, weights: Weights) -> int:
    """Return the number of classes."""
    return weights[f"{table.classifiers[0]}/kernel"].shape[-1]


@torch.inference_mode()
def label(network: Network, image: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Return the label (H, W) uint8 of an image (H, W, 3) uint8 RGB."""
    table, (height, width) = network.table, image.shape[:2]
    full = [table.padded_size(side) for side in (height, width)]
    x = torch.zeros((1, 3, *full)).to(memory_format=torch.channels_last)
    x[0, :, :height, :width] = torch.from_numpy(table.preprocessing(image)).permute(2, 0, 1)
    logits = network(x.to(dtype)).float()
    aligned = not table.half_pixel
    logits = F.interpolate(logits, full, mode="bilinear", align_corners=aligned)[0, :, :height, :width]
    return logits.argmax(0).to(torch.uint8).numpy()


class TrainingStep:
    """Train on a batch with SGD, momentum, weight decay and the table's multipliers; ``dtype`` is autocast's.

    The loss is taken at every pixel of the label for networks that are trained so, and else at every eighth.
    """

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network, self.dtype = network.train(), dtype
        facts = network.table.parameters(21)
        groups = [
            {
                "params": [network.arrays[name]],
                "lr": 1e-3 * (10 if fact.op.is_classifier else 1) * fact.lr_multiplier,
                "weight_decay": 5e-4 * fact.decay_multiplier,
            }
            for name, fact in facts.items()
            if fact.lr_multiplier
        ]
        self.optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Update the network by images (N, 3, S, S) and labels (N, S, S); return the loss that it had."""
        stride = self.network.table.label_stride
        labels = labels[:, ::stride, ::stride]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(images)
        if logits.shape[2:] != labels.shape[1:]:
            logits = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True)
        loss = F.cross_entropy(logits.float(), labels.long(), ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
