"""How the images of a part are laid before the network, so that the same patch is at the same position.

position-bound: as they are; a patch is compared with those near its position.
registered: turned and shifted onto a reference image first, then compared like that. A part that lies as no
good one did, such as one upside down, is left as it is: it is not to pass for a good one.
position-free: as they are; a patch is compared with all of them, wherever they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from chipdemo.view import View, reduced, turned
from chipdemo.vision.anomaly.registration import PoseRange, Reference, edges_of, typical_pose, usual_poses
from chipdemo.vision.anomaly.windows import Windows
from chipdemo.vision.checkpoint import HEAD, ModelSpec
from chipdemo.vision.transforms import letterboxed, squeezed

POSITION_BOUND, REGISTERED, POSITION_FREE = "position-bound", "registered", "position-free"
ALIGNMENTS = (POSITION_BOUND, REGISTERED, POSITION_FREE)
REFERENCES = 12  # images of which the one that the others are most like becomes the reference
FINER = 2  # times as large as needed is an image that is turned
CONVINCING = 0.3  # least correlation of edges by which a pose is believed


@dataclass(frozen=True, eq=False)
class Alignment:
    """kind: one of ALIGNMENTS. reference: edges_of an image, poses: the usual ones, where registered.

    windows: in which a view passes through the network; None where it is the network's input itself.
    """

    kind: str = POSITION_BOUND
    reference: np.ndarray | None = None
    poses: PoseRange | None = None
    windows: Windows | None = None

    @cached_property
    def _registration(self) -> Reference:
        return Reference(self.reference)

    def view(self, image: Image.Image, spec: ModelSpec) -> View:
        """An upright RGB image as the network of `spec` gets it.

        Letterboxed for a model that judges by its memory bank; a classifier was trained on squeezed images.
        An image in which the part is not found stays as it is.
        """
        if spec.verdict_by == HEAD:
            return squeezed(image, spec.image_size, spec.interpolation)
        side = self._view_side(spec)
        if self.kind != REGISTERED:
            return letterboxed(image, side, spec.interpolation)
        return self.registered(letterboxed(image, FINER * side, "bilinear"), side)

    def scaled_to(self, spec: ModelSpec) -> int:
        """Pixels of the side to which view scales an image."""
        registered = self.kind == REGISTERED and spec.verdict_by != HEAD
        return (FINER if registered else 1) * self._view_side(spec)

    def _view_side(self, spec: ModelSpec) -> int:
        return self.windows.side if self.windows else spec.image_size

    def registered(self, view: View, side: int) -> View:
        """A view of `side` pixels in the pose of the reference, or as it is where that pose is not usual.

        view: a larger one, so that what is turned stays sharp.
        """
        pose = self._registration.pose(edges_of(view.pixels))
        found = pose.correlation >= CONVINCING and self.poses.holds(pose)
        return reduced(turned(view, pose.matrix) if found else view, side)


def alignment_of(kind: str, views: Sequence[View]) -> Alignment:
    """An alignment of this kind. views: of some good images, one of which may become the reference."""
    if kind != REGISTERED:
        return Alignment(kind)
    edges = [edges_of(view.pixels) for view in views]
    first = Reference(best_reference(edges[:REFERENCES]))
    reference = edges[typical_pose([first.coarse_pose(one) for one in edges])]  # one that lies as most do
    registration = Reference(reference)
    found = [pose for one in edges if (pose := registration.pose(one)).correlation >= CONVINCING]
    return Alignment(kind, reference, usual_poses(found))


def best_reference(edges: Sequence[np.ndarray]) -> np.ndarray:
    """Of edges_of some images, the one that the others are most like."""
    references = map(Reference, edges)
    likeness = [np.mean([reference.likeness(other) for other in edges]) for reference in references]
    return edges[int(np.argmax(likeness))]
