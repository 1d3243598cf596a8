"""What the HTTP API takes and answers, for its documentation; a test holds the answers to it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Exactly(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Parameters(Exactly):
    threshold: float | None = Field(
        None, ge=0, le=1, description="Decision threshold; the model's own unless given."
    )
    model: str = Field(
        "",
        max_length=255,
        description="Of a model of this app; of several, each image goes to the one that knows it best "
        "unless given.",
    )
    tiles: bool = Field(True, description="Inspect a large image in overlapping tiles too.")


class ParametersOfOne(Parameters):
    heatmap: Literal["none", "png"] = Field("none", description="Add the heatmap of the verdict.")
    name: str = Field("", max_length=255, description="Of the file, where the body is the file.")


class Region(Exactly):
    """Pixels of the upright image."""

    x: int
    y: int
    width: int
    height: int
    score: float = Field(description="Its highest heat, 0 to 1.")
    area: int


class ModelName(Exactly):
    name: str
    revision: str


class OtherModel(ModelName):
    distance: float = Field(description="Of the image from its training images, in units of its limit.")


class Image(Exactly):
    sha256: str
    sha256_of: Literal["pixels", "file"] = Field(
        description="The hash of the pixels is the same in any format. Of a large JPEG that is inspected as "
        "a whole, not all pixels are decoded: its hash is of the file."
    )
    width: int = Field(description="Pixels of the whole upright image, as in regions.")
    height: int


class Tiles(Exactly):
    count: int
    seen: int
    out_of_distribution: int
    decide: bool = Field(description="The verdict comes from the tiles.")


class Heatmap(Exactly):
    method: str
    png: str = Field(description="8-bit gray PNG in base64, 255 for 1, of the whole upright image.")


class Inspection(Exactly):
    file: str
    date: str = Field(description="ISO 8601, with time zone.")
    outcome: Literal["normal", "abnormal", "out_of_distribution"]
    verdict: Literal["normal", "abnormal"]
    abnormal_probability: float = Field(description="Calibrated, 0 to 1.")
    threshold: float
    out_of_distribution: bool
    distance: float = Field(description="From the training images; above 1 it is out of distribution.")
    method: str
    regions_method: str
    regions: list[Region]
    model: ModelName
    other_models: list[OtherModel]
    image: Image
    timing_ms: dict[str, float]
    tiles: Tiles | None
    notes: list[str] = Field(description="How the file was read.")
    request_id: str = Field(description="The log of the app names it too.")
    heatmap: Heatmap | None = Field(None, description="Where heatmap=png asked for it.")


class InspectedFile(BaseModel):
    """A line of a batch: an inspection, or why there is none."""

    file: str
    error: str = Field(
        description="Empty where the file was inspected: then all keys of Inspection are there too."
    )


class Model(Exactly):
    name: str
    revision: str
    threshold: float
    image_size: int = Field(description="Side of the network's input, pixels.")
    backbone: str
    attention: str
    data: str = Field(description="What it was trained on.")
    data_license: str
    runtime: str
    methods: list[str] = Field(description="Explanations that it offers; the first is the verdict's.")


class Models(Exactly):
    models: list[Model]


class Status(Exactly):
    status: Literal["ok", "ready"]


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:chip-inspector:problem:unreadable-image"])
    title: str
    status: int
    detail: str
    request_id: str
