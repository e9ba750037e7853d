"""The module `qt` for a stand-in host: PySide6 seen the way PythonQt shows Qt.

In PythonQt a Qt property is an attribute (`button.enabled = False`) and signals are connected by their C++ signature
(`button.connect("clicked()", function)`). Both are added to PySide6's classes here, for the whole process.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

SIGNATURE = re.compile(r"^(\w+)\((.*)\)$")
# Qt calls the first two as methods of Python objects; the third is a static method of QTimer as well.
STAY_METHODS = {"sizeHint", "minimumSizeHint", "singleShot"}
NON_QT_CONNECTION = re.compile(
    r"<connection>\s*<sender>(\w+)</sender>\s*<signal>([^<]*vtk[^<]*)</signal>\s*"
    r"<receiver>(\w+)</receiver>\s*<slot>(\w+)\([^<]*</slot>.*?</connection>",
    re.DOTALL,
)


def connect(sender: QtCore.QObject, signature: str, function: Callable) -> bool:
    """Connect the signal with this C++ signature; `function` gets as many arguments as it and the signature have."""
    match = SIGNATURE.match(signature)
    if match is None:
        raise ValueError(f"'{signature}' is not a signal signature such as clicked() or toggled(bool).")
    count = len(match[2].split(",")) if match[2].strip() else 0
    accepted = min(count, _positional_count(function))

    def relay(*values: Any) -> None:
        function(*values[:accepted])

    getattr(sender, match[1]).connect(relay)
    sender.__dict__.setdefault("_relays", []).append((signature, function, relay))
    return True


def disconnect(sender: QtCore.QObject, signature: str, function: Callable) -> bool:
    """Undo `connect`; returns whether there was such a connection."""
    relays = sender.__dict__.get("_relays", [])
    for entry in relays:
        if entry[0] == signature and entry[1] == function:
            getattr(sender, SIGNATURE.match(signature)[1]).disconnect(entry[2])
            relays.remove(entry)
            return True
    return False


def _positional_count(function: Callable) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a method implemented in C++ does not tell
        return 0
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return 99
    return sum(parameter.kind in kinds for parameter in parameters)


def add_string_connections(instance: QtCore.QObject) -> None:
    """PySide6 resolves `connect` in C, past any class attribute: only the instance dictionary comes before it."""

    def connect_any(*arguments: Any) -> Any:
        if len(arguments) == 2 and isinstance(arguments[0], str):
            return connect(instance, *arguments)
        return QtCore.QObject.connect(*arguments)  # PySide6's own Python code, as in QTimer.singleShot

    instance.__dict__.setdefault("connect", connect_any)
    instance.__dict__.setdefault("disconnect", functools.partial(disconnect, instance))


def _property(cls: type, name: str) -> property:
    capital = name[0].upper() + name[1:]
    candidates = (cls.__dict__.get(name), getattr(cls, "is" + capital, None))
    getter = next((method for method in candidates if callable(method)), None)
    setter = getattr(cls, "set" + capital, None)

    def read(instance: QtCore.QObject) -> Any:
        return getter(instance) if getter is not None else instance.property(name)

    def write(instance: QtCore.QObject, value: Any) -> None:
        if setter is not None:
            setter(instance, value)
        elif not instance.setProperty(name, value):
            raise AttributeError(f"property '{name}' of {cls.__name__} cannot be written")

    return property(read, write)


def _adapt(cls: type) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name not in STAY_METHODS:
            setattr(cls, name, _property(cls, name))
    if cls is QtCore.QObject:
        cls.name = cls.objectName
        cls.className = lambda self: self.metaObject().className()
    if "__init__" in cls.__dict__:
        construct = cls.__init__

        @functools.wraps(construct)
        def initialise(self, *arguments, **keywords):
            construct(self, *arguments, **keywords)
            add_string_connections(self)

        cls.__init__ = initialise


class UiLoader(QtUiTools.QUiLoader):
    """Reads a .ui file, building registered stand-ins for the classes that Qt does not know."""

    stand_ins: dict[str, type] = {}

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._created: list[QtCore.QObject] = []

    def createWidget(self, class_name: str, parent=None, name: str = ""):
        if class_name in self.stand_ins:
            widget = self.stand_ins[class_name](parent)
            widget.setObjectName(name)
        else:
            widget = super().createWidget(class_name, parent, name)
            if class_name not in self.availableWidgets():
                raise RuntimeError(f"{class_name} in the .ui file has no stand-in.")
        self._created.append(widget)
        return widget

    def load(self, device, parent=None):
        text = bytes(device.readAll()).decode("utf-8")
        # Signals with MRML arguments are unknown to PySide6: they are cut here and connected below.
        connections = NON_QT_CONNECTION.findall(text)
        buffer = QtCore.QBuffer()
        buffer.setData(NON_QT_CONNECTION.sub("", text).encode("utf-8"))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = super().load(buffer, parent)
        if root is None:
            return None
        objects = {child.objectName: child for child in [root, *root.findChildren(QtCore.QObject)]}
        for child in objects.values():
            add_string_connections(child)
        root.__dict__["_kept"] = list(objects.values()) + self._created  # a dropped wrapper would lose its connections
        for sender, signal, receiver, slot in connections:
            connect(objects[sender], signal, getattr(objects[receiver], slot))
        return root


@functools.cache
def build_qt_module() -> types.ModuleType:
    """Return the module `qt`, one flat namespace. The adaptation of PySide6's classes is made once per process."""
    module = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if not name.startswith("_"):
                setattr(module, name, getattr(source, name))
    classes = {value for value in vars(module).values() if isinstance(value, type)}
    for cls in sorted({cls for cls in classes if issubclass(cls, QtCore.QObject)}, key=lambda cls: len(cls.__mro__)):
        _adapt(cls)
    QtWidgets.QDialog.exec_ = QtWidgets.QDialog.exec
    QtWidgets.QMenu.exec_ = QtWidgets.QMenu.exec
    module.QUiLoader = UiLoader
    return module
