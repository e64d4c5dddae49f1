"""Worlds whose windows can be denoised exactly, to see what stitching keeps (research/stitching.md, 2.5).

Dims: B films, T latent frames, C channels, H = W = 1. Flow matching: x = (1 - sigma) x0 + sigma eps, and a
model answers the velocity eps - x0. A frame that is held has no noise, and the model knows it.
"""

from dataclasses import dataclass

import numpy as np
import torch

TIME = 6.0  # latent frames in which motion is forgotten


def motion_covariance(n_frames, share):
    """Covariance (T, T) of motion whose variance is `share`."""
    frames = torch.arange(n_frames, dtype=torch.float64)
    return share * torch.exp(-(frames[:, None] - frames).abs() / TIME)


def levels(n_frames, sigma, held):
    """Signal and noise (T,) of every frame; a little noise stays on held ones, so that matrices invert."""
    s = torch.full((n_frames,), sigma, dtype=torch.float64)
    s[:held] = 1e-3
    return 1 - s, s


def posterior(x_BTC, mean_C, covariance_TT, a_T, s_T):
    """E[x0 | x] for Gaussian x0 in every channel, and the log density (B,) of x, but for a constant."""
    spread = a_T[:, None] * covariance_TT * a_T + torch.diag(s_T**2)
    rest = x_BTC - a_T[:, None] * mean_C
    solved = torch.linalg.inv(spread) @ rest
    return mean_C + (covariance_TT * a_T) @ solved, -0.5 * (rest * solved).sum(dim=(1, 2))


def velocity(x_BTCHW, x0_BTC, sigma, held):
    """eps - x0 of the frames that have noise; 0 of held ones, which the canvas restores anyway."""
    v = (x_BTCHW[..., 0, 0].double() - x0_BTC) / sigma
    v[:, :held] = 0
    return v[..., None, None].to(x_BTCHW)


@dataclass(frozen=True)
class Motion:
    """A film is something that lasts, half of its variance, and something that moves: Gaussian throughout."""

    channels: int = 8
    lasting: float = 0.5

    def velocity(self, x_BTCHW, sigma, held):
        n_frames = x_BTCHW.shape[1]
        covariance = motion_covariance(n_frames, 1 - self.lasting) + self.lasting
        mean = torch.zeros(self.channels, dtype=torch.float64)
        x0, _ = posterior(x_BTCHW[..., 0, 0].double(), mean, covariance, *levels(n_frames, sigma, held))
        return velocity(x_BTCHW, x0, sigma, held)

    def correlation(self, z_BTCHW, lag):
        """Of frames so far apart, over films, channels and places."""
        z = z_BTCHW[..., 0, 0].double()
        a, b = z[:, :-lag].flatten(), z[:, lag:].flatten()
        return float((a * b).mean() / (a.var() * b.var()).sqrt())


@dataclass(frozen=True)
class Identities:
    """A film shows one of eight identities from end to end, which no prompt names, and moves."""

    channels: int = 16
    n: int = 8

    @property
    def means_KC(self):
        """Where the identities lie, all equally far from each other: half of a film's variance."""
        signs = torch.ones(1, 1, dtype=torch.float64)
        while len(signs) < self.channels:
            signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
        return 0.5**0.5 * signs[: self.n]

    def velocity(self, x_BTCHW, sigma, held):
        x, n_frames = x_BTCHW[..., 0, 0].double(), x_BTCHW.shape[1]
        a, s = levels(n_frames, sigma, held)
        covariance = motion_covariance(n_frames, 0.5)
        guesses, logs = zip(*(posterior(x, mean, covariance, a, s) for mean in self.means_KC), strict=True)
        chances_KB = torch.softmax(torch.stack(logs), dim=0)
        x0 = torch.einsum("kb,kbtc->btc", chances_KB, torch.stack(guesses))
        return velocity(x_BTCHW, x0, sigma, held)

    def seen(self, z_BTCHW):
        """The nearest identity of each film (B,)."""
        mean_BC = z_BTCHW[..., 0, 0].double().mean(dim=1)
        return np.asarray(torch.cdist(mean_BC, self.means_KC).argmin(dim=1))

    def kept(self, z_BTCHW):
        """The share of films whose last frames show whom the first ones show."""
        return float(np.mean(self.seen(z_BTCHW[:, :13]) == self.seen(z_BTCHW[:, -13:])))
