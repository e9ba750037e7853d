"""A fresh application for every test, and a detection on a film drawn here: real types, real scene, no stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed; the tests of the scene need it")

from mrml.scenes import begin, film_volume
from slicer_host import Application, SliceView, ThreeDView, make_app


@pytest.fixture
def application() -> Iterator[Application]:
    """Slicer's scene and logics; views opened on it are closed with it."""
    app = make_app()
    yield app
    app.close()


@pytest.fixture
def film(application: Application):
    """A one-slice volume node of 224 x 224 pixels, placed as Slicer places a picture."""
    return film_volume("film.png")


@pytest.fixture
def work(film) -> SimpleNamespace:
    """A detection on the film in the scene, under a tracker.

    Has `volume`, `detection`, `session`, `node`, `placement`, `tracker`, `errors` (told by the tracker).
    """
    return begin(film)


@pytest.fixture
def slice_view(application: Application, work: SimpleNamespace) -> SliceView:
    """A real slice view in the plane of the film."""
    return SliceView(application, work.volume)


@pytest.fixture
def three_d_view(application: Application, work: SimpleNamespace) -> ThreeDView:
    """A real 3-D view that looks at the film obliquely, so that a drag leaves its plane."""
    view = ThreeDView(application)
    bounds = np.zeros(6)
    work.volume.GetRASBounds(bounds)
    view.look_at(bounds.reshape(3, 2).mean(axis=1), direction=(0.5, 0.3, -0.8), up=(0.0, 1.0, 0.0), distance=700.0)
    return view
