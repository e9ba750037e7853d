"""The commands and their options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .output import command

app = typer.Typer(
    name="landmark-detection",
    help="Anatomical landmarks in radiographs and volumes, with an error estimate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="The model bundles on this computer.", no_args_is_help=True)
app.add_typer(models, name="models")


class Side(StrEnum):
    """Side of the body."""

    auto = "auto"
    left = "left"
    right = "right"


class Device(StrEnum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class ProtocolName(StrEnum):
    """How corrections are simulated and counted."""

    ours = "ours"
    kim = "kim"
    student = "student"


Model = Annotated[str, typer.Option(help="Name of a model, or the folder of a bundle.")]
Out = Annotated[Path, typer.Option(help="Folder for the results, made where needed; old results are replaced.")]
Data = Annotated[Path, typer.Option(help="Folder with images/, landmarks.csv and dataset.json.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]


@app.command()
@command
def detect(
    images: Annotated[list[Path], typer.Argument(help="Films or volumes: DICOM, NIfTI, NRRD, MHA, PNG or JPG.")],
    model: Model,
    out: Out,
    spacing: Annotated[float | None, typer.Option(help="Millimeters per pixel, where the file does not tell.")] = None,
    side: Annotated[Side, typer.Option(help="Side of the body shown; auto lets the model tell.")] = Side.auto,
    device: DeviceOption = Device.auto,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture with the landmarks.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Detect even on images the model would refuse; check the result.")
    ] = False,
) -> int:
    """Find the landmarks of each image: landmarks.csv, one .mrk.json for Slicer per image."""
    from .detect import run_detect

    return run_detect(images, model, out, spacing, side.value, device.value, overlay, force)


@app.command()
@command
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Folder with images/, landmarks.csv and dataset.json.")],
    model: Model,
    out: Out = Path("evaluation"),
    split: Annotated[str | None, typer.Option(help="Only the images of this split.")] = None,
    clicks: Annotated[int, typer.Option(min=0, help="Simulate up to this many corrections.")] = 0,
    protocol: Annotated[ProtocolName, typer.Option(help="How corrections are simulated.")] = ProtocolName.ours,
    device: DeviceOption = Device.auto,
) -> int:
    """Measure a model on a data set: metrics.json and report.html."""
    from .evaluate import run_evaluate

    return run_evaluate(dataset, model, out, split, clicks, protocol.value, device.value)


@app.command()
@command
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (.toml), or the name of one that comes with the library.")],
    data: Data,
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
) -> int:
    """Train a model by a recipe."""
    from .training import run_train

    return run_train(recipe, data, out, resume)


@app.command()
@command
def calibrate(
    bundle: Annotated[str, typer.Argument(help="Name of a model, or the folder of a bundle.")],
    data: Data,
    split: Annotated[str | None, typer.Option(help="Use the images of this split only.")] = None,
) -> int:
    """Fit a bundle's temperatures, review threshold and prediction regions on a data set."""
    from .training import run_calibrate

    return run_calibrate(bundle, data, split)


@models.command("list")
@command
def models_list() -> int:
    """Name, version and terms of every model found."""
    from .models import run_list

    return run_list()


@models.command("verify")
@command
def models_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Models to check; all by default.")] = None,
) -> int:
    """Check every file of the models against its SHA-256."""
    from .models import run_verify

    return run_verify(names or [])
