"""Templates that are shipped: valid for the tools that read them, and private by default."""

import json
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
TEMPLATES = [ROOT / "cluster.yaml", *sorted((ROOT / "dashboards").rglob("*.*"))]


def test_cluster_yaml_is_what_ray_expects() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_cluster_needs_a_token_and_sends_no_statistics() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for start in ("head_start_ray_commands", "worker_start_ray_commands"):
        command = cluster[start][-1]
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_USAGE_STATS_ENABLED=0" in command
    assert any(path.endswith(".ray/auth_token") for path in cluster["file_mounts"])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_nothing_listens_on_every_address(path: Path) -> None:
    assert "0.0.0.0" not in path.read_text()  # noqa: S104


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_panels_that_query_ray(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 0
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert all("ray_" in target["expr"] for target in panel["targets"])
