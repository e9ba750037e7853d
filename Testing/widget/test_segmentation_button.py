"""Stand-in host tests: the bones of a knee film at the press of a button, and what it says where there are none."""

from __future__ import annotations

import slicer
import slicer.util


def test_bones_are_drawn_about_the_landmarks(host, widget, film):
    widget.ui.applyButton.click()
    assert host.process(lambda: not widget.panel.busy)
    widget.bonesButton.button.click()
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert len(nodes) == 1
    segmentation = nodes[0].GetSegmentation()
    names = [segmentation.GetNthSegment(number).GetName() for number in range(segmentation.GetNumberOfSegments())]
    assert names == ["Femur", "Tibia"]
    assert nodes[0].GetName() in widget.ui.statusLabel.text
    widget.bonesButton.button.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_without_landmarks_the_button_says_what_to_do(host, widget):
    widget.bonesButton.button.click()
    assert "landmarks" in widget.ui.statusLabel.text
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
