"""Templates that are shipped: valid for the tools that read them, and private by default."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
TEMPLATES = [
    ROOT / "cluster.yaml",
    *sorted((ROOT / "dashboards").rglob("*.*")),
    *sorted((ROOT / "deploy").iterdir()),
]

# Fields of ray.io/v1, from KubeRay's API reference (ray-project.github.io/kuberay/reference/api).
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
    "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
    "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
    "entrypointNumGpus", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
RAY_CLUSTER = {
    "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations",
    "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion",
    "workerGroupSpecs", "authOptions", "upgradeStrategy",
}  # fmt: skip
HEAD_GROUP = {
    "template", "headService", "enableIngress", "resources", "labels", "rayStartParams",
    "serviceType",
}  # fmt: skip
WORKER_GROUP = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "resources",
    "labels", "rayStartParams", "template", "scaleStrategy", "numOfHosts", "suspend",
}  # fmt: skip


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


def test_the_ray_job_has_the_fields_that_kuberay_documents() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= RAY_JOB
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD_GROUP
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups[1:]:
        assert set(group) <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_slurm_script_is_shell_and_protects_its_token() -> None:
    script = ROOT / "deploy" / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.index("RAY_AUTH_MODE=token") < text.index("ray start")
    assert "umask 077" in text
    assert "--dashboard-host=127.0.0.1" in text


def test_the_image_installs_what_is_pinned_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    (install,) = [line for line in lines if "pip install" in line]
    assert "-c constraints.txt" in install
    assert "USER ray" in lines
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    assert all((ROOT / name).exists() for names in copied for name in names)
