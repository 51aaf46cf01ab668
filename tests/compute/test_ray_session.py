"""Finding a cluster: what is refused before Ray is asked, and who may reach one that starts."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli import main
from bmapest_ray.compute.ray_head import host_and_port
from bmapest_ray.compute.ray_session import connect, import_ray


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Replace Ray's own start in a process that has none."""
    ray = import_ray()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    return lambda instead: monkeypatch.setattr(ray, "init", instead)


def fail(**_: object) -> None:
    pytest.fail("Ray was asked, which waits for a minute")


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused_before_ray_waits(
    init: Callable[[Callable[..., None]], None], closed_port: int, scheme: str
) -> None:
    init(fail)
    with pytest.raises(InvalidInput, match=r"must answer at .*got: Connection refused; start it"):
        connect(f"{scheme}127.0.0.1:{closed_port}")


def test_the_command_line_says_so_in_one_sentence(
    init: Callable[[Callable[..., None]], None],
    closed_port: int,
    capfd: pytest.CaptureFixture[str],
    tmp_path: object,
) -> None:
    init(fail)
    words = ["--runner", "ray", "--address", f"127.0.0.1:{closed_port}", "--out", f"{tmp_path}/out"]
    assert main(["run", "quickstart", "-o", "tracking.mlflow=false", *words]) == 2
    (sentence,) = [line for line in capfd.readouterr().err.splitlines() if "must answer" in line]
    assert f"'127.0.0.1:{closed_port}', got: Connection refused" in sentence


def test_what_ray_refuses_is_one_sentence(init: Callable[[Callable[..., None]], None]) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("could not connect\nto anything")

    init(refuse)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(InvalidInput, match="got: could not connect; check") as error,
    ):
        connect(f"127.0.0.1:{server.getsockname()[1]}")
    assert "\n" not in str(error.value)


def test_addresses_are_read_as_ray_reads_them() -> None:
    assert host_and_port("10.0.0.7:6379") == host_and_port("ray://10.0.0.7:6379")
    assert host_and_port("[::1]:6379") == ("::1", 6379)
    assert [host_and_port(text) for text in ("auto", "local", "head:x", "head")] == [None] * 4


LISTENING = """
import json
import psutil
from bmapest_ray.compute.ray_session import connect, import_ray

if __name__ == "__main__":
    session = connect(None)
    ray = import_ray()
    ray.get(ray.remote(lambda: 1).remote())
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [c.laddr.ip for p in tree for c in p.net_connections() if c.status == "LISTEN"]
    print(json.dumps({"names": [p.name() for p in tree], "addresses": found}))
    session.close()
"""


@pytest.mark.slow
def test_a_cluster_that_starts_here_is_reached_from_this_machine_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert {"gcs_server", "raylet"} <= set(told["names"])
    assert len(told["addresses"]) >= 5  # the head's, two of the node, its agents', the workers'
    assert {address.removeprefix("::ffff:") for address in told["addresses"]} == {"127.0.0.1"}
