"""Knee radiograph phantoms: films with exact landmarks, drawn from a seed.

A parametric bone model of plain anatomical dimensions (`bones`, in millimetres) becomes a volume of labels and
attenuation (`volume`) or is projected onto a film (`film`); `outline` reads the sixteen landmarks off the projected
bone edge; `knee.make_knee` does all of it. Its numbers are round
figures chosen by hand, see `dimensions`.
"""

from __future__ import annotations

from .knee import KneePhantom, make_knee

__all__ = ["KneePhantom", "make_knee"]
