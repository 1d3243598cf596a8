"""Batch tasks with a fake model."""

from chipdemo.batch.run import Task
from chipdemo.inspection import Model
from tests.fakes import FakeModel, fake_judge


def task(model: Model | None = None, threshold: float = 0.4, **options) -> Task:
    model = model or FakeModel()
    return Task(fake_judge(model), [model], threshold, **options)
