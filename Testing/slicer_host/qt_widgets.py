"""Stand-ins for the CTK and qMRML widgets that the module's .ui file uses, working on the real MRML scene."""

from __future__ import annotations

import types

from PySide6 import QtCore, QtWidgets

from .qt_module import add_string_connections


class CollapsibleButton(QtWidgets.QGroupBox):
    """ctkCollapsibleButton: a titled box whose content can be hidden."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._collapsed = False

    def _get_text(self) -> str:
        return self.title

    def _set_text(self, text: str) -> None:
        self.setTitle(text)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed != self._collapsed:
            self._collapsed = collapsed
            self.contentsCollapsed.emit(collapsed)

    text = QtCore.Property(str, _get_text, _set_text)
    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)


class MessageBox(QtWidgets.QMessageBox):
    """ctkMessageBox without its "do not show again" box."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        add_string_connections(self)

    def deleteLater(self) -> None:
        """Called before `exec_` by `slicer.util`: Slicer's main event loop then waits, a test without one must not."""

    def exec_(self):
        answer = QtWidgets.QMessageBox.StandardButton(self.exec())
        super().deleteLater()
        return answer


class MRMLWidget(QtWidgets.QWidget):
    """qMRMLWidget: hands the scene on to the widgets inside it."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene = None
        add_string_connections(self)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class NodeComboBox(QtWidgets.QComboBox):
    """qMRMLNodeComboBox: the nodes of the given classes in the scene, kept up to date by scene events."""

    currentNodeChanged = QtCore.Signal(object)
    EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene, self._tags, self._shown = None, [], None
        self._node_types: list[str] = []
        self._none_enabled = False
        self.currentIndexChanged.connect(self._report)

    def _get_node_types(self) -> list[str]:
        return self._node_types

    def _set_node_types(self, names: list[str]) -> None:
        self._node_types = list(names)
        self._refresh()

    def _get_none_enabled(self) -> bool:
        return self._none_enabled

    def _set_none_enabled(self, enabled: bool) -> None:
        self._none_enabled = enabled
        self._refresh()

    nodeTypes = QtCore.Property("QStringList", _get_node_types, _set_node_types)
    noneEnabled = QtCore.Property(bool, _get_none_enabled, _set_none_enabled)

    def setMRMLScene(self, scene) -> None:
        self._drop_scene()
        self._scene = scene
        if scene is not None:
            self._tags = [scene.AddObserver(getattr(scene, event), self._on_scene_event) for event in self.EVENTS]
        self._refresh()

    def mrmlScene(self):
        return self._scene

    def currentNode(self):
        node_id = self.currentData
        return self._scene.GetNodeByID(node_id) if self._scene is not None and node_id else None

    def setCurrentNode(self, node) -> None:
        index = self.findData(node.GetID()) if node is not None else -1
        self.setCurrentIndex(max(index, 0) if node is None and self._none_enabled else index)

    def nodeCount(self) -> int:
        return self.count - int(self._none_enabled)

    def _drop_scene(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _on_scene_event(self, caller, event) -> None:
        self._refresh()

    def _refresh(self) -> None:
        current = self.currentData
        blocked = self.blockSignals(True)
        self.clear()
        if self._none_enabled:
            self.addItem("None", "")
        for node in self._nodes():
            self.addItem(node.GetName(), node.GetID())
        index = self.findData(current) if current else -1
        self.setCurrentIndex(index if index >= 0 else (0 if self._none_enabled else min(0, self.count - 1)))
        self.blockSignals(blocked)
        self._report()

    def _nodes(self) -> list:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(number) for number in range(self._scene.GetNumberOfNodes())]
        shown = [node for node in nodes if not node.GetHideFromEditors()]
        return [node for node in shown if any(node.IsA(name) for name in self._node_types)]

    def _report(self, *unused) -> None:
        if self.currentData != self._shown:
            self._shown = self.currentData
            self.currentNodeChanged.emit(self.currentNode())


STAND_INS = {
    "ctkCollapsibleButton": CollapsibleButton,
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
}


def build_ctk_module() -> types.ModuleType:
    """Return the module `ctk` with the few classes the module and `slicer.util` need."""
    module = types.ModuleType("ctk")
    module.ctkCollapsibleButton = CollapsibleButton
    module.ctkMessageBox = MessageBox
    return module
