"""Predictions of windows become one of the whole canvas, the same to the bit however they were computed.

Tensors are z_BTCHW: batch, latent frames, channels, rows and columns.
Decides: the order and the precision of the sum, and which predictions are refused. Does not decide: the
weights (windows), or what is done with the sum (canvas).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.windows import Window

Weights = npt.NDArray[np.float64]


class NotFinite(ValueError):
    """A prediction, or a picture, has values that are no numbers; the message says where."""

    code, error_class = "E621_NOT_FINITE", "QUALITY"
    hint = "try model.dtype=float32 if it is another, or another seed; else the weights are damaged"


def blended(
    predictions: Sequence[Tensor], windows: Sequence[Window], weights: Weights, canvas: Tensor, before: str
) -> Tensor:
    """Predictions (B, stop - start, C, H, W) of each window, blended into one of the canvas's shape.

    weights is (n_windows, n_frames). The sum runs in window order, however the predictions were computed,
    because float addition is not associative; in float32, or in float64 if the canvas is. Raises NotFinite,
    which tells the step that is `before` it, where a prediction is NaN or infinite: a black film would come
    of it. Raises ValueError for what would broadcast silently or leave frames uncovered.
    """
    _check(predictions, windows, weights, canvas)
    total = _sum(predictions, windows, weights, canvas)
    if not bool(total.isfinite().all()):  # weights of zero hide nothing: 0 × NaN is NaN
        raise NotFinite(f"{before}: NaN or infinite predictions: {_not_finite(predictions, windows)}")
    return total


def _sum(
    predictions: Sequence[Tensor], windows: Sequence[Window], weights: Weights, canvas: Tensor
) -> Tensor:
    if len(windows) == 1:
        return predictions[0]  # stock arithmetic: a pass through float32 and weights could change bits
    exact = torch.promote_types(canvas.dtype, torch.float32)
    total = torch.zeros(canvas.shape, dtype=exact, device=canvas.device)
    for prediction, window, row in zip(predictions, windows, weights, strict=True):
        weight = torch.tensor(row[window.start : window.stop]).to(total)
        part = prediction.to(total)
        total[:, window.start : window.stop] += weight.view(1, -1, 1, 1, 1) * part
    return total.to(predictions[0].dtype)


def _not_finite(predictions: Sequence[Tensor], windows: Sequence[Window]) -> str:
    """Which windows, and how many of their values, are NaN or infinite."""
    bad = [
        f"{count:,} of {prediction.numel():,} values of latent frames {window.start} to {window.stop - 1}"
        for prediction, window in zip(predictions, windows, strict=True)
        if (count := int((~prediction.isfinite()).sum()))
    ]
    return "; ".join(bad) or "the sum of all windows"  # float16 may overflow in it


def _check(
    predictions: Sequence[Tensor], windows: Sequence[Window], weights: Weights, canvas: Tensor
) -> None:
    batch, n_frames, *rest = canvas.shape
    if not windows or len(predictions) != len(windows):
        raise ValueError(f"{len(predictions)} predictions for {len(windows)} windows")
    if weights.shape != (len(windows), n_frames):
        raise ValueError(f"weights {weights.shape} for {len(windows)} windows, {n_frames} frames")
    if len(windows) == 1 and windows[0] != Window(0, n_frames):
        raise ValueError(f"the only window, {windows[0]}, does not cover {n_frames} frames")
    for prediction, window in zip(predictions, windows, strict=True):
        if prediction.shape != (batch, window.stop - window.start, *rest):
            raise ValueError(f"a prediction of shape {tuple(prediction.shape)} for {window}")
