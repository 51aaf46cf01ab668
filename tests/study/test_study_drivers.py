"""Several drivers on one study, through a real PostgreSQL."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_job
import pytest
import shared_study_process
from postgres_server import PostgresServer, running_server

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.lease import SharedCrew, sqlalchemy_url
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_database
from bmapest_ray.study.status import TrialStatus
from bmapest_ray.study.store import load_jobs, load_results, load_trials

HERE = Path(__file__).parent
pytestmark = [  # psycopg says of each connection that a stopped server took that it was not closed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
MakeCrew = Callable[..., SharedCrew]
SPACE = {"inversion.settings.damping": {"low": 0.0, "high": 1.0}}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as made:
        yield made


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql://u:secret@h/d", "must hold no password"),
        ("mysql://u@h/d", "must be postgresql://"),
        ("nonsense", "must look like postgresql://"),
    ],
)
def test_a_storage_that_cannot_be_is_one_sentence(url: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as error:
        sqlalchemy_url(url)
    assert "secret" not in str(error.value)


@pytest.fixture
def crew_of(server: PostgresServer) -> Iterator[Callable[..., SharedCrew]]:
    made: list[SharedCrew] = []

    def make(study: str, **settings: float) -> SharedCrew:
        made.append(SharedCrew(server.url, study, **settings))
        return made[-1]

    yield make
    for crew in made:
        crew.leave()


@pytest.mark.services
class TestCrew:
    def test_one_of_two_takes_and_the_other_only_after_its_death(self, crew_of: MakeCrew) -> None:
        one, two = (crew_of("study", lease_s=0.9) for _ in range(2))
        assert one.take("a")
        assert one.take("a")
        assert not two.take("a")
        assert two.take("b")
        time.sleep(1.5)  # leases are renewed: nobody is dead
        assert not two.take("a")
        one._left.set()  # one is silent from here on, as if killed
        time.sleep(1.5)
        assert two.take("a")
        assert not crew_of("study").take("a")
        assert crew_of("other study").take("a")
        two.leave()
        assert crew_of("study").take("a")

    def test_of_many_that_take_at_once_exactly_one_has_it(self, crew_of: MakeCrew) -> None:
        crews = [crew_of("race") for _ in range(4)]
        had: list[tuple[int, int]] = []

        def take(number: int) -> None:
            had.extend((item, number) for item in range(50) if crews[number].take(str(item)))

        threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(item for item, _ in had) == list(range(50))

    def test_turns_do_not_overlap(self, crew_of: MakeCrew) -> None:
        inside: list[int] = []
        most: list[int] = []

        def go() -> None:
            crew = crew_of("turns")
            for _ in range(5):
                with crew.turn("ask"):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.005)
                    inside.pop()
            crew.leave()

        threads = [threading.Thread(target=go) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 15

    def test_calls_wait_for_a_server_that_is_away(
        self, server: PostgresServer, crew_of: MakeCrew
    ) -> None:
        crew = crew_of("away", lease_s=5.0)
        config = SearchConfig.model_validate({"space": SPACE, "n_trials": 4, "sampler": "random"})
        search = Search("away/p", config, maximize=True, storage=open_database(server.url))
        proposal = search.ask()
        assert proposal is not None
        done: list[bool] = []

        def work() -> None:
            search.tell(proposal.number, TrialStatus.COMPLETE, 1.0)
            done.append(search.ask() is not None)
            done.append(crew.take("x"))

        with server.away(2.0):
            worker = threading.Thread(target=work)
            worker.start()
            time.sleep(1.0)
            assert done == []
        worker.join(300)
        assert done == [True, True]
        assert search.counts() == {"COMPLETE": 1, "RUNNING": 1}
        crew.leave()


def start(out: Path, log: Path, url: str, *join: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(HERE.parent / "contracts"), os.environ.get("PYTHONPATH", "")])
    words = [str(out), str(log), url, "0.05", *join]
    return subprocess.Popen(
        [sys.executable, shared_study_process.__file__, *words],
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture
def drivers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Hold the processes of a test, and end those that it leaves."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for driver in started:
        driver.kill()
        driver.wait(60)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 500
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.services
@pytest.mark.parametrize("killed", [False, True], ids=["both-live", "one-is-killed"])
def test_two_drivers_share_a_study_and_nothing_runs_twice(
    server: PostgresServer, tmp_path: Path, killed: bool, drivers: list[subprocess.Popen[bytes]]
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    drivers += [start(out, log, server.url), start(out, log, server.url, "join")]
    first, second = drivers
    wait_until(lambda: len(list(log.glob("ready-*"))) == 2)
    (log / "go").touch()
    if killed:
        wait_until(lambda: (out / "study.json").exists())
        wait_until(lambda: len({job.worker for job in load_jobs(out)}) > 1)
        os.kill(first.pid, signal.SIGKILL)
    assert (first.wait(500), second.wait(500)) == ((-9, 0) if killed else (0, 0))
    jobs = load_jobs(out)
    workers = Counter(job.worker for job in jobs)
    assert len(workers) == 2, "both drivers did some of the work"
    assert len(jobs) == shared_study_process.JOBS
    starts = Counter(fake_job.lines(log, "starts.txt"))
    again = sum(starts.values()) - len(starts)
    assert set(starts) == {job.id for job in jobs}
    assert again <= (1 if killed else 0)  # what the killed driver was running
    trials = load_trials(out)
    assert len(trials) == 2 * shared_study_process.TRIALS + 2
    assert {trial.status for trial in trials} == {TrialStatus.COMPLETE}
    settings = [tuple(t.settings.items()) for t in trials if t.key.stage == "search"]
    assert len(set(settings)) == 2 * shared_study_process.TRIALS
    frame = load_results(out)
    assert not frame.duplicated(["job_id", "tissue"]).any()
    assert len(frame) == 3 * len(jobs)
    for job in jobs:
        assert job.scores["GM"]["psnr_db"] is not None
