"""LargeFOV in PyTorch, from deeplabctl's table and weights: prediction, and a training step with Caffe's solver."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

from deeplabctl.network import ARCHITECTURES, Weights, preprocess
from deeplabctl.network.ops import Convolution

ROWS = ARCHITECTURES["largefov"].rows


class Network(torch.nn.Module):
    """Compute logits at stride 8 of images (N, 3, H, W), BGR minus the mean."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.kernels, self.biases = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        for row in ROWS:
            if isinstance(row, Convolution):
                kernel = torch.from_numpy(weights[f"{row.name}/kernel"].transpose(3, 2, 0, 1).copy())
                self.kernels[row.name] = torch.nn.Parameter(kernel.to(memory_format=torch.channels_last))
                self.biases[row.name] = torch.nn.Parameter(torch.from_numpy(weights[f"{row.name}/bias"].copy()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, C, h, w)."""
        for row in ROWS:
            if isinstance(row, Convolution):
                kernel, bias = self.kernels[row.name], self.biases[row.name]
                x = F.conv2d(x, kernel, bias, padding=row.pad, dilation=row.dilation)
                x = F.relu(x) if row.relu else x
                if row.dropout and self.training:
                    x = F.dropout(x)
            elif row.kind == "max":
                x = F.max_pool2d(x, 3, row.stride, 1)
            else:
                x = F.avg_pool2d(x, 3, row.stride, 1)
        return x


@torch.inference_mode()
def label(network: Network, image: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Return the label (H, W) uint8 of an image (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    full = [-(-(side - 1) // 8) * 8 + 1 for side in (height, width)]
    x = torch.zeros((1, 3, *full)).to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(preprocess(image))
    x[0, :, :height, :width] = pixels.permute(2, 0, 1)
    logits = network(x.to(dtype)).float()
    logits = F.interpolate(logits, full, mode="bilinear", align_corners=True)[0, :, :height, :width]
    return logits.argmax(0).to(torch.uint8).numpy()


class TrainingStep:
    """Train on a batch with SGD, momentum, weight decay and Caffe's multipliers; ``dtype`` is autocast's."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network, self.dtype = network.train(), dtype
        groups = []
        for row in ROWS:
            if isinstance(row, Convolution):
                head = 10 if row.classifier else 1
                for table, index in ((network.kernels, 0), (network.biases, 1)):
                    groups.append(
                        {
                            "params": [table[row.name]],
                            "lr": 1e-3 * head * row.lr_multipliers[index],
                            "weight_decay": 5e-4 * row.decay_multipliers[index],
                        }
                    )
        self.optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Update the network and return the loss that it had."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels, ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return float(loss)
