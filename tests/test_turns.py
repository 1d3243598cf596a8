import threading
from copy import deepcopy

from chipdemo.ui.turns import Turns


def test_a_new_turn_ends_the_earlier_ones_of_its_kind():
    turns = Turns()
    first, second = turns.begin("image"), turns.begin("image")
    explanation = turns.begin("explanation")
    assert not turns.is_current("image", first)
    assert turns.is_current("image", second)
    assert turns.is_current("explanation", explanation)
    assert not turns.is_current("threshold", 1)


def test_turns_begun_side_by_side_differ_and_one_is_current():
    turns, begun, barrier = Turns(), [], threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        begun.extend(turns.begin("image") for _ in range(100))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) == list(range(1, 801))
    assert [turn for turn in begun if turns.is_current("image", turn)] == [800]


def test_a_slow_answer_is_dropped_where_a_newer_request_came():
    turns, shown = Turns(), []
    started, release = threading.Event(), threading.Event()

    def answer(name: str, turn: int, wait: bool) -> None:
        if wait:
            started.set()
            assert release.wait(10)
        if turns.is_current("image", turn):
            shown.append(name)

    slow = threading.Thread(target=answer, args=("large", turns.begin("image"), True))
    slow.start()
    assert started.wait(10)
    answer("small", turns.begin("image"), False)
    release.set()
    slow.join()
    assert shown == ["small"]


def test_each_visitor_has_turns_of_their_own():
    turns = Turns()
    turn = turns.begin("image")
    other = deepcopy(turns)
    assert not other.is_current("image", turn)
    other.begin("image")
    other.begin("image")
    assert turns.is_current("image", turn)
