"""Loading and saving by file ending, as Slicer's core IO manager does for the kinds of file this project uses."""

from __future__ import annotations

from pathlib import Path

import slicer

from .pictures import PICTURE_SUFFIXES, add_picture

FILE_TYPES = {
    "SceneFile": (".mrml", ".mrb"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "TransformFile": (".h5", ".tfm", ".mat"),
    "ModelFile": (".vtk", ".vtp", ".ply", ".stl", ".obj"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm", *PICTURE_SUFFIXES),
}


class FileManager:
    """The members of qSlicerCoreIOManager that `slicer.util` calls; every method returns what the original returns."""

    def __init__(self, application) -> None:
        self._application = application

    # Reading

    def registeredFileReaderCount(self, file_type: str) -> int:
        return int(file_type in FILE_TYPES)

    def fileType(self, path) -> str:
        name = str(path).lower()
        for file_type, suffixes in FILE_TYPES.items():
            if name.endswith(suffixes):
                return file_type
        return "VolumeFile"  # DICOM files often have no ending

    def loadNodes(self, file_type: str, properties: dict, loaded=None, messages=None) -> bool:
        path = str(properties["fileName"])
        if not Path(path).is_file():
            if messages is not None:
                messages.AddMessage(0x10000, f"There is no file {path}.")
            return False
        if file_type == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear", True)))
        readers = {
            "VolumeFile": self._load_volume,
            "MarkupsFile": self._load_markups,
            "TransformFile": self._load_transform,
            "ModelFile": self._load_model,
        }
        if file_type not in readers:
            return False
        node = readers[file_type](path, properties.get("name") or Path(path).name.split(".")[0])
        if node is None:
            return False
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load_scene(self, path: str, clear: bool) -> bool:
        scene = self._application.scene
        messages = slicer.vtkMRMLMessageCollection()
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear, messages))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def _load_volume(self, path: str, name: str):
        if path.lower().endswith(PICTURE_SUFFIXES):
            node = add_picture(self._application.scene, path, name)
        else:
            node = self._application.logics["Volumes"].AddArchetypeVolume(path, name, 0, None)
        if node is not None:
            self._application.core.GetSelectionNode().SetActiveVolumeID(node.GetID())
            self._application.core.PropagateVolumeSelection(0)
        return node

    def _load_markups(self, path: str, name: str):
        node_id = self._application.logics["Markups"].LoadMarkups(path, name)
        return self._application.scene.GetNodeByID(node_id) if node_id else None

    def _load_transform(self, path: str, name: str):
        return self._application.logics["Transforms"].AddTransform(path, self._application.scene)

    def _load_model(self, path: str, name: str):
        return self._application.logics["Models"].AddModel(path)

    # Writing

    def fileWriterFileType(self, node) -> str:
        for class_name, file_type in (
            ("vtkMRMLMarkupsNode", "MarkupsFile"),
            ("vtkMRMLTransformNode", "TransformFile"),
            ("vtkMRMLModelNode", "ModelFile"),
            ("vtkMRMLVolumeNode", "VolumeFile"),
        ):
            if node.IsA(class_name):
                return file_type
        return "NoFile"

    def fileWriterExtensions(self, node) -> list[str]:
        suffixes = FILE_TYPES.get(self.fileWriterFileType(node), ())
        return [f"{suffix} file (*{suffix})" for suffix in suffixes if suffix not in PICTURE_SUFFIXES]

    def extractKnownExtension(self, path: str, node) -> str:
        known = [s for s in FILE_TYPES.get(self.fileWriterFileType(node), ()) if str(path).lower().endswith(s)]
        return max(known, key=len, default="")

    def saveNodes(self, file_type: str, properties: dict, messages=None) -> bool:
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._save_scene(path)
        node = self._application.scene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode()
        if storage is None or not storage.SupportedFileType(path):
            storage = self._add_storage(node, path)
        storage.SetFileName(path)
        return bool(storage.WriteData(node))

    def _save_scene(self, path: str) -> bool:
        scene = self._application.scene
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None, slicer.vtkMRMLMessageCollection()))
        if not path.lower().endswith(".mrml"):
            return bool(scene.SaveSceneToSlicerDataBundleDirectory(path))
        scene.SetURL(path)
        scene.SetRootDirectory(str(Path(path).parent))
        return bool(scene.Commit(path))

    def _add_storage(self, node, path: str):
        storage = node.CreateDefaultStorageNode()
        self._application.scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        return storage

    def exportNodes(self, node_ids, paths, properties: dict, harden: bool, messages=None) -> bool:
        """Write copies, so that the nodes keep their own file names; `harden` writes world coordinates."""
        written = [self._export(node_id, path, harden) for node_id, path in zip(node_ids, paths, strict=True)]
        return all(written)

    def _export(self, node_id: str, path, harden: bool) -> bool:
        scene = self._application.scene
        source = scene.GetNodeByID(node_id)
        copy = source.CreateNodeInstance()
        copy.UnRegister(None)
        copy.CopyContent(source)
        scene.AddNode(copy)
        copy.SetAndObserveTransformNodeID(source.GetTransformNodeID())
        if harden:
            copy.HardenTransform()
        storage = self._add_storage(copy, str(path))
        storage.SetFileName(str(path))
        written = bool(storage.WriteData(copy))
        scene.RemoveNode(storage)
        scene.RemoveNode(copy)
        return written
