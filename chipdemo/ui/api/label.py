"""The API of labeling. The page uses the same endpoints.

gr.api will do here, unlike in inspect.py: no value is a file. Nothing waits in the queue of the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chipdemo.labeling.queue import INFORMATIVE
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import shown_errors
from chipdemo.ui.label import logic
from chipdemo.ui.label.logic import REVIEW, Answer, Desk

# queue=False: the page posts to /run/NAME, which a Space refuses for events of the queue
AT_ONCE = {"queue": False, "concurrency_limit": None}


def add_label_api(desk: Desk, annotators: Annotators) -> None:
    """Add /queue, /label and /undo, and what only the page calls, to the gr.Blocks around the call.

    Annotators decides who may call. Each endpoint raises gr.Error with the reason where the caller may not.
    """
    endpoints = PublicEndpoints(desk, annotators)
    for function in (endpoints.queue, endpoints.label, endpoints.undo):
        gr.api(function, api_name=function.__name__, **AT_ONCE)
    add_page_endpoints(desk, annotators)


@dataclass(frozen=True)
class PublicEndpoints:
    """The functions behind /queue, /label and /undo; their docstrings are the API's documentation."""

    desk: Desk
    annotators: Annotators

    def queue(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        count: int = 1,
        order: str = INFORMATIVE,
        known: list[str] = [],  # noqa: B006  gradio shows it as the default; it is never changed
        page: str = "",
    ) -> dict[str, Any]:
        """The next images for the annotator who is signed in; asked again, the same ones.

        count: 1 to 20. order: "informative", "plain", "random", or "review" for reviewers. known: sha256
        of images whose pictures are not needed. page: an id of your own; images given to one page are not
        given to another. Returns annotator, images [{sha256, name, reason, width, height (pixels of the
        upright image), mask_size, picture (data URI), error}, ...], progress.
        """
        with shown_errors():
            who = self.annotators.reviewer if order == REVIEW else self.annotators.name
            return logic.next_images(self.desk, who(request, profile), count, order, known, page)

    def label(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        sha256: str,
        label: str,
        defect_type: str = "",
        boxes: list[dict[str, Any]] = [],  # noqa: B006  as above
        note: str = "",
        event_id: str = "",
        decides: bool = False,
        mask: str = "",
        page: str = "",
        replaces: str = "",
        polygons: list[dict[str, Any]] = [],  # noqa: B006  as above
        mask_type: str = "",
    ) -> dict[str, Any]:
        """Save a label of the annotator who is signed in; when this returns, it is on the disk.

        sha256: of the image, from /queue. label: "normal", "abnormal" or "unsure". defect_type: in
        words, for abnormal. boxes: of the defects, [{x, y, width, height, defect_type}, ...], pixels of the
        upright image; without a defect_type, it is that of the label. event_id: a UUID of your own, so that a
        call may be repeated; the same is the same label. decides: settles a disputed image, for reviewers.
        mask: base64 of a black and white PNG, as large as the upright image or as mask_size of /queue. page:
        as for /queue. replaces: event_id of your label of this image that was given on another page.
        polygons: of the defects, [{points: [[x, y], ...], defect_type}, ...]; x is 0 to the width, y 0 to the
        height. mask_type: defect type of the mask; "" for that of the label. Returns event (as saved, with
        the model's prediction), progress, and for a decision the votes by label.
        """
        with shown_errors():
            who = self.annotators.reviewer if decides else self.annotators.name
            about = defect_type, boxes, mask, note, event_id, decides, page, replaces, polygons, mask_type
            answer = Answer(sha256, label, *about)
            return logic.save(self.desk, who(request, profile), answer)

    def undo(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        event_id: str = "",
        page: str = "",
        label_id: str = "",
    ) -> dict[str, Any]:
        """Take back the last label that stands of the annotator who is signed in; again, the one before.

        event_id: a UUID of your own, so that a call may be repeated. page: only labels given with this page
        id. label_id: the event_id of the label to take back instead. Returns event (the retraction), undone
        (the label), image and progress.
        """
        with shown_errors():
            return logic.undo(self.desk, self.annotators.name(request, profile), event_id, page, label_id)


def add_page_endpoints(desk: Desk, annotators: Annotators) -> None:
    def label_desk(request: gr.Request, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        with shown_errors():
            annotator = annotators.name(request, profile)
            return logic.opened(desk, annotator, annotators.reviews(annotator))

    def label_look(request: gr.Request, profile: gr.OAuthProfile | None, sha256: str) -> dict[str, Any]:
        with shown_errors():
            annotators.name(request, profile)
            return logic.look(desk, sha256)

    def label_give_back(
        request: gr.Request, profile: gr.OAuthProfile | None, sha256s: list[str], page: str
    ) -> dict[str, Any]:
        with shown_errors():
            return logic.give_back(desk, annotators.name(request, profile), sha256s, page)

    def of_one_value(action: Callable[[Desk, str, Any], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def endpoint(request: gr.Request, profile: gr.OAuthProfile | None, value: Any) -> dict[str, Any]:
            with shown_errors():
                return action(desk, annotators.name(request, profile), value)

        return endpoint

    for name, function in (
        ("label_desk", label_desk),
        ("label_look", label_look),
        ("label_give_back", label_give_back),
        ("label_again", of_one_value(logic.again)),
        ("label_skip", of_one_value(logic.skip)),
        ("label_bring_back", of_one_value(logic.bring_back)),
    ):
        gr.api(function, api_name=name, api_visibility="private", **AT_ONCE)
