"""The pretended cluster: its clock, and what it says of a driver with known costs."""

import time

import pytest

from bmapest_ray.compute.ray_fleet import Clock, RayCosts
from bmapest_ray.compute.ray_scale import fleet_figures


def test_a_clock_counts_work_skips_waiting_and_can_be_stopped() -> None:
    clock = Clock()
    clock.skip(100.0)
    with clock.stopped():
        time.sleep(0.2)
    time.sleep(0.05)
    assert 100.05 <= clock.now_s < 100.2


def test_an_actor_waits_for_what_the_calls_of_its_driver_cost() -> None:
    """Between two jobs of one actor stand a fetch and a send; asking is over by then."""
    job_s, call_s = 300.0, 100.0
    busy = fleet_figures(1, job_s, RayCosts(call_s, 10.0, 0.0))["busy_share"]
    assert busy == pytest.approx(job_s / (job_s + call_s), rel=0.05)


def test_a_driver_keeps_many_actors_busy_with_long_jobs_and_few_with_short_ones() -> None:
    free = RayCosts(0.0, 0.0, 0.0)
    assert fleet_figures(100, 300.0, free)["busy_share"] > 0.98
    dear = RayCosts(0.1, 0.0, 0.0)  # ten calls a second, asked for fifty jobs
    assert fleet_figures(100, 2.0, dear)["busy_share"] < 0.25
