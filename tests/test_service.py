"""Images of many callers: judged together, answered one by one, none lost."""

import threading
from concurrent.futures import Future
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from chipdemo.batch.service import InspectionService, Order
from chipdemo.errors import BusyError, StoppingError, UnreadableImageError
from chipdemo.judge import Judge
from chipdemo.models import Models
from tests.fakes import Breaks, FakeModel, Knows
from tests.waiting import until


class Held(FakeModel):
    """Waits with each forward pass until go is set. together: how many images each had."""

    def __init__(self):
        super().__init__()
        self.go, self.begun, self.together = threading.Event(), threading.Event(), []

    def predict(self, views, methods=()):
        self.together.append(len(views))
        self.begun.set()
        assert self.go.wait(20)
        return super().predict(views, methods)


def file_of(color: str | int) -> bytes:
    color = (color,) * 3 if isinstance(color, int) else color
    Image.new("RGB", (32, 24), color).save(stream := BytesIO(), "PNG")
    return stream.getvalue()


def running(model, most=100, workers=1, together=4) -> InspectionService:
    models = model if isinstance(model, Models) else Models(model)
    service = InspectionService(Judge(models), 64, most, workers, together)
    service.start()
    return service


def order(service: InspectionService, **more) -> Order:
    return Order(lambda: service.judge.models.every, **more)


def submitted(service: InspectionService, *colors, **more) -> list[Future]:
    return [service.submit(file_of(color), order(service, **more)) for color in colors]


def test_what_waits_when_the_model_becomes_free_shares_a_forward_pass():
    model = Held()
    service = running(model)
    (first,) = submitted(service, 0)
    model.begun.wait(20)
    rest = submitted(service, 10, 20, 30, 40, 50)
    until(lambda: service.waiting == 5)
    model.go.set()
    probabilities = [one.result(20).inspection.abnormal_probability for one in (first, *rest)]
    assert probabilities == sorted(probabilities, reverse=True) and len(set(probabilities)) == 6
    assert model.together == [1, 4, 1]
    service.stop()


def test_each_image_of_a_forward_pass_has_its_own_threshold():
    model = Held()
    service = running(model)
    first = submitted(service, 100)
    model.begun.wait(20)
    wishes = [service.submit(file_of(100), order(service, threshold=one)) for one in (0.2, 0.9)]
    until(lambda: service.waiting == 2)
    model.go.set()
    assert [one.result(20).inspection.verdict for one in wishes] == ["abnormal", "normal"]
    assert first[0].result(20).inspection.threshold == 0.4
    service.stop()


def test_images_for_other_models_do_not_share_a_forward_pass():
    dark, light = Knows("dark", 0.0), Knows("light", 1.0)
    service = running(Models(dark, light))
    wishes = [
        service.submit(file_of(9), Order(lambda model=model: (model,))) for model in (dark, light, dark)
    ]
    assert [one.result(20).inspection.model_name for one in wishes] == ["dark", "light", "dark"]
    service.stop()


def test_more_than_the_most_are_refused_at_once_and_accepted_again_later():
    model = Held()
    service = running(model, most=2)
    accepted = submitted(service, 0, 1)
    with pytest.raises(BusyError, match="2 images wait already"):
        submitted(service, 2)
    model.go.set()
    assert all(one.result(20) for one in accepted)
    assert submitted(service, 3)[0].result(20)
    service.stop()


def test_what_was_accepted_is_answered_before_it_stops_and_nothing_is_accepted_then():
    model = Held()
    service = running(model)
    accepted = submitted(service, *range(7))
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    until(lambda: service.stopping)
    with pytest.raises(StoppingError):
        submitted(service, 9)
    model.go.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert len({one.result(0).inspection.abnormal_probability for one in accepted}) == 7


def test_an_image_that_breaks_the_forward_pass_spoils_no_other():
    model = Breaks()
    service = running(model)
    wishes = submitted(service, 0, "red", 10, 20)
    assert isinstance(wishes[1].exception(20), ValueError)
    assert [wishes[row].result(20).inspection.verdict for row in (0, 2, 3)] == ["abnormal"] * 3
    assert service.accepted == 0
    service.stop()


def test_a_file_that_is_no_image_is_an_error_of_its_own():
    service = running(FakeModel())
    wrong = service.submit(b"no image", order(service))
    assert isinstance(wrong.exception(20), UnreadableImageError)
    assert submitted(service, 0)[0].result(20)
    service.stop()


def test_who_has_gone_costs_no_forward_pass():
    model = Held()
    service = running(model)
    first = submitted(service, 0)
    model.begun.wait(20)
    ahead = submitted(service, *range(1, 16))  # as many as are decoded ahead
    gone = submitted(service, 200)
    assert gone[0].cancel()
    model.go.set()
    assert all(one.result(20) for one in (*first, *ahead))
    assert sum(model.together) == 16
    service.stop()


def test_a_hot_reload_mixes_no_models_up():
    """The probability of an image is by one model, and the answer names that model."""
    old, new = Knows("chip", 0.2), Knows("chip", 0.8)
    old.info, new.info = replace(old.info, revision="old"), replace(new.info, revision="new")
    models = Models(old)
    service = running(models, workers=2)
    wishes = []
    for number in range(60):
        wishes += submitted(service, number)
        models.first.replace((old, new)[number // 5 % 2])
    for wish in wishes:
        inspection = wish.result(20).inspection
        level = {"old": 0.2, "new": 0.8}[inspection.model_revision]
        brightness = 1 - inspection.abnormal_probability
        assert inspection.distance == pytest.approx(4 * abs(brightness - level), abs=0.02)
    assert {wish.result(0).inspection.model_revision for wish in wishes} == {"old", "new"}
    service.stop()
