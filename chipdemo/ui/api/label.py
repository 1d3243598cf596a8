"""The API of labeling. The page uses the same endpoints, so there is one way in and one decision.

gr.api will do here, unlike in api.py: no value is a file. Nothing waits in the queue of the model.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from chipdemo.labeling.queue import INFORMATIVE
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import shown_errors
from chipdemo.ui.label import logic as labeling
from chipdemo.ui.label.logic import REVIEW, Desk


def add_label_api(desk: Desk, annotators: Annotators) -> None:
    """Add /queue, /label and /undo, and what only the page asks, to the gr.Blocks around the call.

    Who may call: annotators.Annotators, from what the server knows of the caller. Each raises gr.Error
    with the reason where that is nobody who may label.
    """

    def queue(
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        count: int = 1,
        order: str = INFORMATIVE,
        known: list[str] = [],  # noqa: B006  gradio shows it as the default; it is never changed
    ) -> dict[str, Any]:
        """The next images for the annotator who is signed in; asked again, the same ones.

        count: 1 to 20. order: "informative", "plain", "random", or "review" for reviewers. known: sha256
        of those whose pictures need not come. Returns annotator, images [{sha256, name, reason,
        width, height (pixels of the upright image), picture (data URI), error}, ...], progress.
        """
        with shown_errors():
            who = annotators.reviewer if order == REVIEW else annotators.name
            return labeling.next_images(desk, who(request, profile), count, order, known)

    def label(
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        sha256: str,
        label: str,
        defect_type: str = "",
        boxes: list[dict[str, int]] = [],  # noqa: B006  as above
        note: str = "",
        event_id: str = "",
        decides: bool = False,
        mask: str = "",
    ) -> dict[str, Any]:
        """Keep a label of the annotator who is signed in; when this returns, it is on the disk.

        sha256: of the image, from /queue. label: "normal", "abnormal" or "unsure". defect_type: in
        words, where abnormal. boxes: of the defects, [{x, y, width, height}, ...], pixels of the upright
        image. event_id: a UUID of your own, so that a call may be repeated; the same is the same
        label. decides: settles a disagreement, by reviewers. mask: base64 of a PNG of one channel, 0 or
        255, as large as the upright image. Returns event (as kept, with what the model said),
        progress, and for a decision the votes by label.
        """
        with shown_errors():
            who = annotators.reviewer if decides else annotators.name
            given = {
                "sha256": sha256, "label": label, "defect_type": defect_type, "boxes": boxes, "note": note,
                "event_id": event_id, "decides": decides, "mask": mask,
            }  # fmt: skip
            return labeling.keep(desk, who(request, profile), given)

    def undo(request: gr.Request, profile: gr.OAuthProfile | None, event_id: str = "") -> dict[str, Any]:
        """Take back the last standing label of the annotator who is signed in; again, the one before.

        event_id: a UUID of your own, so that a call may be repeated. Returns event (the retraction),
        undone (the label), image and progress.
        """
        with shown_errors():
            return labeling.undo(desk, annotators.name(request, profile), event_id)

    def label_desk(request: gr.Request, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        with shown_errors():
            annotator = annotators.name(request, profile)
            return labeling.opened(desk, annotator, annotators.reviews(annotator))

    def label_look(request: gr.Request, profile: gr.OAuthProfile | None, sha256: str) -> dict[str, Any]:
        with shown_errors():
            annotators.name(request, profile)
            return labeling.look(desk, sha256)

    def told(action: Callable[[Desk, str, Any], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def tell(request: gr.Request, profile: gr.OAuthProfile | None, value: Any) -> dict[str, Any]:
            with shown_errors():
                return action(desk, annotators.name(request, profile), value)

        return tell

    # queue=False: the page posts to /run/NAME, which a Space refuses for events of the queue
    at_once = {"queue": False, "concurrency_limit": None}
    for function in (queue, label, undo):
        gr.api(function, api_name=function.__name__, **at_once)
    for name, function in (
        ("label_desk", label_desk),
        ("label_look", label_look),
        ("label_again", told(labeling.again)),
        ("label_skip", told(labeling.skip)),
        ("label_bring_back", told(labeling.bring_back)),
        ("label_give_back", told(labeling.give_back)),
    ):
        gr.api(function, api_name=name, api_visibility="private", **at_once)
