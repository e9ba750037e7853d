"""Images with their landmarks drawn on them, as pictures for people: films whole, volumes as three slices."""

from .film import draw_landmarks
from .slices import draw_slices

__all__ = ["draw_landmarks", "draw_slices"]
