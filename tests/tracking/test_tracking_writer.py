import threading
import time

from bmapest_ray.tracking.writer import Writer


def fail() -> None:
    raise ConnectionError("no answer\nsecond line")


def test_calls_are_made_in_order_in_another_thread() -> None:
    writer, seen = Writer(), []
    for number in range(50):
        writer.put(lambda number=number: seen.append((number, threading.get_ident())))
    writer.close()
    assert [number for number, _ in seen] == list(range(50))
    assert threading.get_ident() not in {thread for _, thread in seen}
    assert writer.state.complete
    assert writer.state.written == 50


def test_put_does_not_wait_for_a_slow_store() -> None:
    writer, answered = Writer(), threading.Event()
    for _ in range(5):
        writer.put(lambda: answered.wait(60))
    assert (writer.state.written, writer.state.waiting) == (0, 5)
    time.sleep(0.05)
    answered.set()
    writer.close()
    assert writer.state.written == 5
    assert writer.state.lag_s > 0.04


def test_a_failure_is_counted_and_the_next_call_is_made() -> None:
    writer, seen = Writer(), []
    writer.put(fail)
    writer.put(lambda: seen.append(1))
    writer.close()
    state = writer.state
    assert seen == [1]
    assert (state.written, state.failed, state.left_out) == (1, 1, 0)
    assert state.last_error == "ConnectionError: no answer"
    assert not state.complete


def test_a_dead_store_is_left_alone_after_three_failures() -> None:
    writer = Writer(patience=3, pause_s=60.0)
    for _ in range(100):
        writer.put(fail)
    writer.close()
    assert (writer.state.failed, writer.state.left_out) == (3, 97)


def test_a_store_that_comes_back_is_written_to_again() -> None:
    writer = Writer(patience=1, pause_s=0.05)
    writer.put(fail)
    writer.drain()
    time.sleep(0.06)
    writer.put(lambda: None)
    writer.close()
    assert (writer.state.failed, writer.state.written) == (1, 1)


def test_a_full_queue_drops_and_counts() -> None:
    writer, gate = Writer(limit=2), threading.Event()
    for _ in range(6):
        writer.put(gate.wait)
    gate.set()
    writer.close()
    assert writer.state.left_out >= 3
    assert writer.state.written + writer.state.left_out == 6


def test_drain_gives_up_after_its_time_and_says_so() -> None:
    writer, gate = Writer(), threading.Event()
    writer.put(gate.wait)
    waits = []
    assert not writer.drain(1.2, waits.append)
    assert [state.waiting for state in waits] == [1]
    gate.set()
    assert writer.drain(5.0)
    writer.close()
