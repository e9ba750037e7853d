"""Small facts about Gaussian distributions that the priors and the session share."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_ANGLES = (_NODES + 1.0) * np.pi / 4


def expected_radius(covariances: np.ndarray) -> np.ndarray:
    """Expected length (...) of a zero-mean Gaussian vector with covariances (..., d, d), in the same units.

    ``E|e| = pi^(-1/2) * integral over u > 0 of (1 - prod_k (1 + 2 l_k u^2)^(-1/2)) / u^2`` with the eigenvalues ``l_k``
    (Mathai and Provost, Quadratic Forms in Random Variables, 1992), by Gauss-Legendre after ``u = tan(angle)``.
    Isotropic in two dimensions this is ``sigma * sqrt(pi / 2)``. NaN in, NaN out.
    """
    covariances = np.asarray(covariances, dtype=float)
    known = np.isfinite(covariances).all(axis=(-2, -1))
    safe = np.where(known[..., None, None], covariances, 0.0)
    eigenvalues = np.clip(np.linalg.eigvalsh(safe), 0.0, None)
    largest = eigenvalues[..., -1:]
    relative = eigenvalues / np.where(largest > 0, largest, 1.0)
    growth = 1.0 + 2.0 * relative[..., None, :] * (np.tan(_ANGLES) ** 2)[:, None]
    integrand = (1.0 - np.prod(growth, axis=-1) ** -0.5) / np.sin(_ANGLES) ** 2
    radius = np.sqrt(largest[..., 0]) * (integrand @ _WEIGHTS) * np.sqrt(np.pi) / 4
    return np.where(known, radius, np.nan)


def shrunk_covariance(samples: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf covariance (p, p) of zero-mean samples (m, p).

    ``(1 - a) S + a tr(S)/p I`` with ``S`` the sample covariance and ``a = min(b^2, g^2) / g^2``, where
    ``g^2 = |S - tr(S)/p I|^2`` and ``b^2 = (mean |x|^4 - |S|^2) / m`` (J. Multivariate Analysis 88, 2004, section 3.2).
    """
    count, dims = samples.shape
    sample = samples.T @ samples / count
    level = np.trace(sample) / dims
    spread = ((sample - level * np.eye(dims)) ** 2).sum()
    noise = ((samples**2).sum(axis=1) ** 2).mean() - (sample**2).sum()
    amount = min(max(noise / count, 0.0), spread) / spread if spread > 0 else 1.0
    return (1 - amount) * sample + amount * level * np.eye(dims)


def student_excess(squared_distances: np.ndarray, dims: int) -> float:
    """Maximum-likelihood degrees of freedom, less two, of a multivariate Student t with a known covariance.

    Args:
        squared_distances: (m,) squared Mahalanobis distances under that covariance, of samples not used to estimate it.
        dims: dimensions of one sample.
    Returns:
        A number in 1 .. 1000; large means Gaussian.
    """

    def cost(logarithm: float) -> float:
        excess = np.exp(logarithm)
        half = (excess + 2 + dims) / 2
        constant = gammaln(half) - gammaln((excess + 2) / 2) - dims / 2 * np.log(excess)
        return -float(np.mean(constant - half * np.log1p(squared_distances / excess)))

    return float(np.exp(minimize_scalar(cost, bounds=(0.0, np.log(1000.0)), method="bounded").x))
