"""Stand-in for `slicer.parameterNodeWrapper`: typed members of a parameter node, bound to widgets."""

from __future__ import annotations

import enum
import json
import typing
from dataclasses import dataclass
from typing import Any

import qt
import slicer
import vtk

RESERVED = {"allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "disconnectGui"}


@dataclass
class Default:
    value: Any


def parameterNodeWrapper(classtype):
    """Class decorator: the annotated members become properties that live in a vtkMRMLScriptedModuleNode."""
    members = {}
    for name, hint in typing.get_type_hints(classtype, include_extras=True).items():
        if name in RESERVED:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        base, *annotations = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        given = next((a.value for a in annotations if isinstance(a, Default)), classtype.__dict__.get(name))
        members[name] = (base, given)
        setattr(classtype, name, _member(name))
    classtype.allParameters = members
    for function in (__init__, getValue, setValue, connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(classtype, function.__name__, function)
    return classtype


def _member(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def _is_node(base: type) -> bool:
    return issubclass(base, slicer.vtkMRMLNode)


def __init__(self, parameterNode) -> None:
    self.parameterNode = parameterNode
    self._bindings: dict[int, tuple] = {}
    self._updating = False


def getValue(self, name: str) -> Any:
    base, given = self.allParameters[name]
    if _is_node(base):
        return self.parameterNode.GetNodeReference(name)
    text = self.parameterNode.GetParameter(name)
    if text == "":
        return given if given is not None else (next(iter(base)) if issubclass(base, enum.Enum) else base())
    return base[text] if issubclass(base, enum.Enum) else base(json.loads(text))


def setValue(self, name: str, value: Any) -> None:
    base, _ = self.allParameters[name]
    if _is_node(base):
        self.parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        return
    if not isinstance(value, base) and not (base is float and isinstance(value, int)):
        raise TypeError(f"{name} takes {base.__name__}, not {type(value).__name__}")
    text = value.name if issubclass(base, enum.Enum) else json.dumps(value)
    if text != self.parameterNode.GetParameter(name):
        self.parameterNode.SetParameter(name, text)


def AddObserver(self, event, callback, priority=0.0) -> int:
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self, tag: int) -> None:
    self.parameterNode.RemoveObserver(tag)


class Binding:
    """One widget bound to one parameter."""

    def __init__(self, widget, base: type) -> None:
        self.widget, self.base = widget, base
        if isinstance(widget, qt.QCheckBox):
            self.signal, self.read, self.write = "stateChanged(int)", lambda: widget.checked, widget.setChecked
        elif isinstance(widget, qt.QDoubleSpinBox):
            self.signal, self.read, self.write = "valueChanged(double)", lambda: widget.value, widget.setValue
        elif hasattr(widget, "setCurrentNode"):
            self.signal = "currentNodeChanged(vtkMRMLNode*)"
            self.read, self.write = widget.currentNode, widget.setCurrentNode
        elif isinstance(widget, qt.QComboBox) and issubclass(base, enum.Enum):
            members = list(base)
            widget.clear()
            widget.addItems([member.label() if hasattr(member, "label") else member.name for member in members])
            self.signal, self.read = "currentIndexChanged(int)", lambda: members[widget.currentIndex]
            self.write = lambda value: widget.setCurrentIndex(members.index(value))
        else:
            raise RuntimeError(f"There is no GUI connector from {base} to {type(widget)}.")


def _writer(parameters, name: str, binding: Binding):
    def changed() -> None:
        if not parameters._updating:
            parameters.setValue(name, binding.read())

    return changed


def connectGui(self, gui) -> int:
    """Bind the widgets in `gui` (childWidgetVariables) that carry the property SlicerParameterName; returns a tag."""
    bindings = []
    for widget in vars(gui).values():
        name = widget.property("SlicerParameterName")
        if not name:
            continue
        binding = Binding(widget, self.allParameters[name][0])
        binding.write(self.getValue(name))

        changed = _writer(self, name, binding)
        widget.connect(binding.signal, changed)
        bindings.append((name, binding, changed))

    def refresh(caller, event) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for name, binding, _ in bindings:
                binding.write(self.getValue(name))
        finally:
            self._updating = False

    tag = len(self._bindings)
    self._bindings[tag] = (bindings, self.AddObserver(vtk.vtkCommand.ModifiedEvent, refresh))
    return tag


def disconnectGui(self, tag: int) -> None:
    bindings, observer = self._bindings.pop(tag)
    self.RemoveObserver(observer)
    for _, binding, changed in bindings:
        binding.widget.disconnect(binding.signal, changed)
