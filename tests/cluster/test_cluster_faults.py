"""Studies on three nodes while workers, nodes, heads, drivers, the database and MLflow die."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_job
import faulty_study_process
import long_job_process
import psutil
import pytest
from postgres_server import PostgresServer, running_server
from services import Server, levels_of, start_ray

from bmapest_ray.cli import main
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.run import run_study
from bmapest_ray.study.store import load_jobs, load_results

pytestmark = [pytest.mark.slow, pytest.mark.services]
FEW, MANY = 2, 12
PATIENCE_S = 500  # of one test; on a busy machine processes need long to start


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


def patiently(make: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start; on a machine that is busy that may not do."""
    for _ in range(4):
        try:
            return make()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return make()


def add_worker_node(cluster: Any) -> None:
    patiently(lambda: cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=100 * 1024**2))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without CPUs, two workers with fake GPUs; tests may add and remove nodes."""
    from ray._private.authentication_test_utils import reset_auth_token_state

    from bmapest_ray.compute.ray_session import import_ray, secure_token

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_health_check_period_ms", "1000")  # a lost node is noticed after 5 of them
        contracts = str(Path(__file__).parents[1] / "contracts")
        patch.setenv("PYTHONPATH", os.pathsep.join([contracts, os.environ.get("PYTHONPATH", "")]))
        secure_token()
        reset_auth_token_state()
        import_ray()
        with three_nodes() as made:
            yield made
        reset_auth_token_state()


@contextlib.contextmanager
def three_nodes() -> Iterator[Any]:
    """A head without CPUs and two workers with fake GPUs."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 1024**2, "include_dashboard": False}
    made = patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small}))
    for _ in range(2):
        add_worker_node(made)
    yield made
    made.shutdown()


class ClusterOfItsOwn:
    """A cluster of one node whose processes a test may kill."""

    def __init__(self) -> None:
        self._process, addresses = start_ray()
        self.address = addresses["gcs"]

    def kill_head(self) -> None:
        (head,) = [p for p in self._processes() if p.name() == "gcs_server"]
        head.kill()

    def kill(self) -> None:
        """Kill what is left of it; Ray's own way out would ask the head first."""
        if self._process.poll() is not None:
            return
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        with self._process:
            pass

    def _processes(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)


@pytest.fixture
def start_cluster(cluster: Any) -> Iterator[Callable[[], ClusterOfItsOwn]]:
    """Start clusters beside that of the module, whose token they share."""
    del cluster
    made: list[ClusterOfItsOwn] = []

    def start() -> ClusterOfItsOwn:
        made.append(ClusterOfItsOwn())
        return made[-1]

    yield start
    for one in made:
        one.kill()


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Server]:
    """MLflow's own server, on SQLite."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    server = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    server.start()
    yield server
    server.kill()


class Disturbed:
    """A study that runs in processes of its own while a test does harm."""

    def __init__(
        self,
        folder: Path,
        cluster: Any,
        database: PostgresServer,
        trials: int,
        mlflow: str = "none",
        seconds: float = 0.05,
    ) -> None:
        self.out, self.log, self.trials = folder / "out", folder / "log", trials
        self.log.mkdir()
        self.cluster, self.database = cluster, database
        self.mlflow, self.seconds = mlflow, seconds
        self.start()

    def start(self) -> None:
        places = [self.out, self.log, self.cluster.address, self.database.url, self.mlflow]
        words = map(str, [*places, self.trials, self.seconds])
        with (self.log / "driver.txt").open("ab") as said:
            self.driver = subprocess.Popen(
                [sys.executable, faulty_study_process.__file__, *words], stderr=said
            )

    def wait_for(self, jobs: int) -> None:
        """Wait until so many jobs are committed."""
        deadline = time.monotonic() + PATIENCE_S
        while len(list(self.out.glob("jobs/*/[!.]*.json"))) < jobs:
            assert self.driver.poll() is None, "the driver ended early"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill_worker(self) -> None:
        newest = max(self.out.glob("jobs/*/[!.]*.json"), key=lambda path: path.stat().st_mtime)
        (record,) = [job for job in load_jobs(self.out) if job.id == newest.stem]
        os.kill(int(record.worker.split(":")[1]), signal.SIGKILL)

    def remove_node(self) -> None:
        add_worker_node(self.cluster)
        node = next(iter(self.cluster.worker_nodes))
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_driver(self) -> None:
        os.kill(self.driver.pid, signal.SIGKILL)
        self.driver.wait(60)
        self.start()

    def check(self, lost_at_most: int) -> None:
        """Wait for the end: each job has one result, equal to that of an undisturbed run."""
        assert self.driver.wait(PATIENCE_S) == 0
        jobs = {job.id: job for job in load_jobs(self.out)}
        assert len(jobs) == faulty_study_process.jobs_of(self.trials)
        assert {job.status for job in jobs.values()} == {"DONE"}
        frame = load_results(self.out)
        assert len(frame) == 3 * len(jobs)
        assert not frame.duplicated(["job_id", "tissue"]).any()
        starts = Counter(fake_job.lines(self.log, "starts.txt"))
        assert set(starts) == set(jobs)
        assert sum(starts.values()) - len(jobs) <= lost_at_most
        assert {i: job.scores for i, job in jobs.items()} == self._undisturbed()

    def _undisturbed(self) -> dict[str, Any]:
        config = faulty_study_process.study(self.trials, {"runner": "local"})
        folder, log = self.out.parent / "undisturbed", self.log / "undisturbed"
        log.mkdir()
        run_study(config, folder, runner=LocalRunner(fake_job.WORK, {"log": str(log)}))
        return {job.id: job.scores for job in load_jobs(folder)}


@pytest.fixture
def disturb(
    tmp_path: Path, cluster: Any, database: PostgresServer
) -> Iterator[Callable[..., Disturbed]]:
    made: list[Disturbed] = []

    def make(trials: int, **more: Any) -> Disturbed:
        made.append(Disturbed(tmp_path, cluster, database, trials, **more))
        return made[-1]

    yield make
    for study in made:
        study.driver.kill()
        study.driver.wait(60)


IN_FLIGHT = 12  # three actors, two calls each, of two jobs at most


def test_a_killed_worker_costs_only_what_it_was_doing(disturb: Callable[..., Disturbed]) -> None:
    study = disturb(FEW)
    study.wait_for(8)
    study.kill_worker()
    study.check(IN_FLIGHT)


def test_a_lost_node_costs_only_what_it_was_doing(disturb: Callable[..., Disturbed]) -> None:
    study = disturb(FEW)
    study.wait_for(8)
    study.remove_node()
    study.check(IN_FLIGHT)


def test_a_long_inversion_goes_on_from_its_checkpoint_on_another_node(
    cluster: Any, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    words = [long_job_process.__file__, str(out), str(log), cluster.address]
    with subprocess.Popen([sys.executable, *words]) as driver:
        deadline = time.monotonic() + PATIENCE_S
        while len(seen := fake_job.lines(log, "iterations.txt")) < 25:
            assert driver.poll() is None, "the driver ended early"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lost = seen[0].split()[0]
        (node,) = [node for node in cluster.worker_nodes if node.node_id == lost]
        cluster.remove_node(node, allow_graceful=False)
        assert driver.wait(PATIENCE_S) == 0
    add_worker_node(cluster)

    steps = [line.split() for line in fake_job.lines(log, "iterations.txt")]
    before = [int(step) for node, step in steps if node == lost]
    after = [int(step) for node, step in steps if node != lost]
    assert len({node for node, _ in steps}) == 2
    assert before == list(range(before[-1] + 1))
    assert 20 <= after[0] <= before[-1] + 1  # every tenth iteration is kept, and never the first
    assert after == list(range(after[0], long_job_process.ITERATIONS + 1))
    assert not list(out.glob("checkpoints/*.pt"))
    (job,) = load_jobs(out)
    assert (job.status, job.attempts) == ("DONE", 2)

    run_study(
        long_job_process.study({"runner": "local"}),
        tmp_path / "undisturbed",
        runner=LocalRunner("long_job_process:work", {}),
    )
    (undisturbed,) = load_jobs(tmp_path / "undisturbed")
    assert (undisturbed.id, undisturbed.scores) == (job.id, job.scores)
    assert undisturbed.iterations == job.iterations


def test_a_killed_driver_is_resumed(disturb: Callable[..., Disturbed]) -> None:
    study = disturb(FEW)
    study.wait_for(8)
    study.kill_driver()
    study.check(IN_FLIGHT)


def test_a_study_whose_head_dies_ends_with_a_sentence_and_goes_on_at_another(
    tmp_path: Path, database: PostgresServer, start_cluster: Callable[[], ClusterOfItsOwn]
) -> None:
    first = start_cluster()
    study = Disturbed(tmp_path, first, database, FEW, seconds=4.0)
    study.wait_for(6)
    first.kill_head()
    assert study.driver.wait(PATIENCE_S) == 1
    said = (study.log / "driver.txt").read_text()
    assert f"the head of the Ray cluster at {first.address} has been silent for 30 s" in said
    assert "finished jobs are kept" in said
    first.kill()
    finished = Counter(fake_job.lines(study.log, "starts.txt"))
    kept = {job.id for job in load_jobs(study.out)}
    assert 6 <= len(kept) < faulty_study_process.jobs_of(FEW)

    study.cluster, study.seconds = start_cluster(), 0.05
    study.start()
    study.check(IN_FLIGHT)
    after = Counter(fake_job.lines(study.log, "starts.txt"))
    assert all(after[job_id] == finished[job_id] for job_id in kept)


def test_a_database_that_is_away_is_waited_for(disturb: Callable[..., Disturbed]) -> None:
    study = disturb(FEW)
    study.wait_for(8)
    with study.database.away(20.0):
        pass
    study.check(IN_FLIGHT)


def test_an_mlflow_server_that_is_away_costs_tracking_alone(
    disturb: Callable[..., Disturbed], mlflow_server: Server
) -> None:
    study = disturb(FEW, mlflow=mlflow_server.uri, seconds=0.5)
    study.wait_for(8)
    with mlflow_server.away(15.0):
        study.wait_for(16)
    study.check(0)
    told = (study.log / "tracking.txt").read_text()
    assert "'bmapest study rebuild' tells MLflow what it misses" in told
    rebuilt_is_complete(study, mlflow_server)


def rebuilt_is_complete(study: Disturbed, server: Server) -> None:
    """Tell the server what it missed; after that it knows every trial and job once."""
    assert main(["study", "rebuild", str(study.out), "--mlflow", server.uri]) == 0
    jobs = faulty_study_process.jobs_of(study.trials)
    trials = jobs // faulty_study_process.DRAWS
    assert levels_of(server.uri, "disturbed") == {"study": 1, "trial": trials, "job": jobs}


@pytest.mark.endurance
def test_everything_at_once_on_more_than_200_jobs(
    disturb: Callable[..., Disturbed], mlflow_server: Server
) -> None:
    study = disturb(MANY, mlflow=mlflow_server.uri, seconds=1.5)
    study.wait_for(20)
    study.kill_worker()
    with mlflow_server.away(60.0):
        study.wait_for(50)
        with study.database.away(20.0):
            study.kill_worker()
        study.wait_for(80)
        study.remove_node()
    study.wait_for(110)
    finished = {job.id for job in load_jobs(study.out)}
    os.kill(study.driver.pid, signal.SIGKILL)
    study.driver.wait(60)
    before = Counter(fake_job.lines(study.log, "starts.txt"))
    study.start()
    study.check(4 * IN_FLIGHT)
    after = Counter(fake_job.lines(study.log, "starts.txt"))
    assert all(after[job_id] == before[job_id] for job_id in finished)  # finished: never again
    rebuilt_is_complete(study, mlflow_server)
