"""A Ray cluster with its dashboard in a process of its own, until stdin is closed.

Writes one JSON object with the addresses. HOME holds the token.
"""

import json
import sys

from ray.cluster_utils import Cluster

from bmapest_ray.compute.ray_session import import_ray, secure_token

if __name__ == "__main__":
    secure_token()
    import_ray()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 3,
            "num_gpus": 2,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": 128 * 1024**2,
        },
    )
    sys.stdout.write(json.dumps({"gcs": cluster.address, "http": cluster.webui_url}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
