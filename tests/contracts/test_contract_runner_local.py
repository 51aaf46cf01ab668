import pytest
from runner_contract import RunnerContract

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.local import LocalRunner


class TestLocalRunner(RunnerContract):
    def make(self, work: str) -> LocalRunner:
        return LocalRunner(work)


@pytest.mark.parametrize("work", ["nowhere.module:f", "bmapest_ray.compute.probe:nothing", "f"])
def test_a_work_function_must_exist(work: str) -> None:
    with pytest.raises(InvalidInput, match="importable"):
        LocalRunner(work)
