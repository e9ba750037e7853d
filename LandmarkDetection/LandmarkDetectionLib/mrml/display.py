"""How sure each landmark is, in the views: one model of 95 % regions and one heatmap volume per detection."""

from __future__ import annotations

import functools

import numpy as np
import slicer
import slicer.util
import vtk
from scipy.stats import chi2
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

from ..geometry import Frame
from ..landmarks import LandmarkSet
from .markups import input_volume
from .placement import Placement

REGIONS_ROLE = "LandmarkDetection.regions"
HEATMAP_ROLE = "LandmarkDetection.heatmap"
COLOR_ARRAY = "color"
ERROR_ARRAY = "expectedError"

REGION_LEVEL = 0.95
"""Probability with which a region holds the true point; covariances are calibrated so that it does."""

SEGMENTS = 48
"""Corners of an ellipse: the polygon stays within 0.3 % of it."""

SOLID = 0.35
"""Opacity of the surfaces in 3-D views: the point inside must be seen, and be found by the mouse."""

UNUSUAL_ERROR = 8.0
"""Expected error in index units that is drawn in the color of review where no model and no user says from which on."""

SURE, DOUBTFUL, REVIEW = (46, 160, 67), (240, 173, 0), (214, 39, 40)
"""Colors (RGB) of an expected error of zero, of the review threshold, and of more than that."""


def error_colors(errors: np.ndarray, limit: float) -> np.ndarray:
    """(n, 3) uint8 colors: from sure to doubtful, and of review above the limit, so that red means review only.

    Args:
        errors: (n,) expected errors.
        limit: error, in the same unit, above which a landmark is to be reviewed.
    """
    share = np.clip(errors / limit, 0.0, 1.0)
    colors = np.array(SURE) + share[:, None] * (np.array(DOUBTFUL) - np.array(SURE))
    return np.where((errors <= limit)[:, None], colors.round(), REVIEW).astype(np.uint8)


def update_regions(
    node, landmarks: LandmarkSet, placement: Placement, limit: float | None = None, scale: float | None = None
):
    """Draw the 95 % prediction region of every landmark; the model node is made once and then updated in place.

    Args:
        node: the markups node of the detection.
        limit: expected error in index units above which a region is drawn in the color of review; where there is none,
            `UNUSUAL_ERROR`.
        scale: radius in standard deviations; by default the 95 % quantile of a Gaussian in d dimensions.

    Returns:
        The vtkMRMLModelNode, under the transform of the markups node.
    """
    model = node.GetNodeReference(REGIONS_ROLE) or _add_regions(node, landmarks.frame.dims)
    radius = float(np.sqrt(chi2.ppf(REGION_LEVEL, landmarks.frame.dims))) if scale is None else scale
    # A region is drawn for each landmark that the model placed: what the user placed has no region.
    placed = np.isfinite(landmarks.positions).all(axis=1) & np.isfinite(landmarks.covariances).all(axis=(1, 2))
    shown = placed & np.array([status in ("predicted", "review") for status in landmarks.statuses])
    surface = _ellipse_rings if landmarks.frame.dims == 2 else _ellipsoids
    data = surface(landmarks, placement, np.flatnonzero(shown), radius)
    _color(data, landmarks.expected_errors[shown], UNUSUAL_ERROR if limit is None else limit)
    with slicer.util.NodeModify(model):
        model.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        if model.GetPolyData() is None:
            model.SetAndObservePolyData(data)
        else:
            model.GetPolyData().ShallowCopy(data)
        model.GetDisplayNode().SetActiveScalar(COLOR_ARRAY, vtk.vtkAssignAttribute.POINT_DATA)
    return model


def _add_regions(node, dims: int):
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", f"{node.GetName()} 95 % regions")
    model.SetSelectable(0)
    model.CreateDefaultDisplayNodes()
    display = model.GetDisplayNode()
    display.SetVisibility2D(True)
    display.SetSliceIntersectionThickness(2)
    display.SetOpacity(SOLID if dims == 3 else 1.0)
    display.SetScalarVisibility(True)
    display.SetScalarRangeFlag(display.UseDirectMapping)
    display.SetBackfaceCulling(False)
    display.SetLighting(False)
    node.SetNodeReferenceID(REGIONS_ROLE, model.GetID())
    return model


def _square_roots(covariances: np.ndarray) -> np.ndarray:
    """(n, d, d) symmetric square roots; negative eigenvalues from rounding become zero."""
    values, vectors = np.linalg.eigh(covariances)
    return vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :] @ vectors.transpose(0, 2, 1)


def _ellipse_rings(landmarks: LandmarkSet, placement: Placement, rows: np.ndarray, radius: float) -> vtk.vtkPolyData:
    """A ring standing across the film's plane for each landmark: every slice view cuts it in exactly the ellipse.

    A flat disk lies in the plane of the view, where its intersection with the slice is not defined.
    """
    angles = np.linspace(0.0, 2.0 * np.pi, SEGMENTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    offsets = circle @ _square_roots(landmarks.covariances[rows]) * radius  # a symmetric root is its own transpose
    points = placement.to_local(landmarks.positions[rows][:, None, :] + offsets)
    steps = placement.to_local(np.vstack([np.zeros(2), np.eye(2)]))
    normal = np.cross(steps[1] - steps[0], steps[2] - steps[0])
    half = 0.5 * placement.thickness * normal / np.linalg.norm(normal)
    corner = np.arange(SEGMENTS)
    following = (corner + 1) % SEGMENTS
    quads = np.stack([corner, following, following + SEGMENTS, corner + SEGMENTS], axis=-1)
    return _polydata(np.concatenate([points - half, points + half], axis=1), quads, landmarks.expected_errors[rows])


def _ellipsoids(landmarks: LandmarkSet, placement: Placement, rows: np.ndarray, radius: float) -> vtk.vtkPolyData:
    """A closed surface around each landmark of a volume."""
    unit, faces = _sphere()
    offsets = unit @ _square_roots(landmarks.covariances[rows]) * radius
    points = placement.to_local(landmarks.positions[rows][:, None, :] + offsets)
    return _polydata(points, faces, landmarks.expected_errors[rows])


@functools.cache
def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Points (m, 3) on the unit sphere and the triangles (f, 3) between them."""
    source = vtk.vtkSphereSource()
    source.SetRadius(1.0)
    source.SetThetaResolution(24)
    source.SetPhiResolution(16)
    source.Update()
    sphere = source.GetOutput()
    corners = vtk_to_numpy(sphere.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vtk_to_numpy(sphere.GetPoints().GetData()).astype(float), corners.copy()


def _polydata(points: np.ndarray, faces: np.ndarray, errors: np.ndarray) -> vtk.vtkPolyData:
    """One polydata of n equal pieces: points (n, m, 3), faces (f, corners) of one piece, errors (n,)."""
    count, per_piece = points.shape[:2]
    data = vtk.vtkPolyData()
    holder = vtk.vtkPoints()
    holder.SetData(numpy_to_vtk(np.ascontiguousarray(points.reshape(-1, 3)), deep=True))
    data.SetPoints(holder)
    corners = (faces[None] + np.arange(count)[:, None, None] * per_piece).reshape(-1, faces.shape[1])
    cells = vtk.vtkCellArray()
    offsets = np.arange(len(corners) + 1, dtype=np.int64) * faces.shape[1]
    cells.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(corners, dtype=np.int64).ravel(), deep=True),
    )
    data.SetPolys(cells)
    values = numpy_to_vtk(np.repeat(errors, per_piece).astype(np.float64), deep=True)
    values.SetName(ERROR_ARRAY)
    data.GetPointData().AddArray(values)
    return data


def _color(data: vtk.vtkPolyData, errors: np.ndarray, limit: float) -> None:
    per_piece = data.GetNumberOfPoints() // max(1, len(errors))
    colors = numpy_to_vtk(np.repeat(error_colors(errors, limit), per_piece, axis=0), deep=True)
    colors.SetNumberOfComponents(3)
    colors.SetName(COLOR_ARRAY)
    data.GetPointData().SetScalars(colors)


def update_heatmap(node, heatmaps, landmark: int, image_frame: Frame, placement: Placement, opacity: float = 0.4):
    """Lay the heatmap of one landmark over its image; one volume per detection, updated in place, not saved.

    Args:
        node: the markups node.
        heatmaps: `logits` (n, h, w) and `frame_of` a landmark, in the physical space of `image_frame`.
        landmark: row of the landmark.
        image_frame: the frame of the image as it was searched.
        placement: the grid of that image in the scene.

    Returns:
        The vtkMRMLScalarVolumeNode; the most probable cell is 1.
    """
    logits = np.asarray(heatmaps.logits[landmark], dtype=np.float32)
    values = np.exp(logits - logits.max())
    if values.ndim == 2:
        values = values[None]
    cells = heatmaps.frame_of(landmark)
    to_image = cells.index_map(image_frame)
    scene = placement.frame
    grid = Frame(cells.size, scene.to_physical(to_image[:, -1]), scene.steps @ to_image[:, :-1], scene.spacing_source)
    volume = node.GetNodeReference(HEATMAP_ROLE) or _add_heatmap(node)
    with slicer.util.NodeModify(volume):
        slicer.util.updateVolumeFromArray(volume, values)
        volume.SetIJKToRASMatrix(placement.ijk_to_ras(grid))
        volume.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    _show_over(input_volume(node), volume, opacity)
    return volume


def hide_heatmap(node) -> None:
    """Take the heatmap of a detection out of the views and the scene."""
    volume = node.GetNodeReference(HEATMAP_ROLE)
    if volume is not None:
        slicer.mrmlScene.RemoveNode(volume)
        node.RemoveNodeReferenceIDs(HEATMAP_ROLE)


def _add_heatmap(node):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{node.GetName()} heatmap")
    volume.SetSaveWithScene(False)
    volume.SetHideFromEditors(True)  # it is no image to choose or to search
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeWarm1")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAutoThreshold(False)
    display.SetThreshold(0.01, 1.0)  # the rest of the image stays as it is
    display.SetApplyThreshold(True)
    node.SetNodeReferenceID(HEATMAP_ROLE, volume.GetID())
    return volume


def _show_over(background, volume, opacity: float) -> None:
    """Make the heatmap the foreground of every slice view that shows its image."""
    if background is None:
        return
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetBackgroundVolumeID() == background.GetID():
            composite.SetForegroundVolumeID(volume.GetID())
            composite.SetForegroundOpacity(opacity)
