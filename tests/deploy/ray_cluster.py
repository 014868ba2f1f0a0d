"""Runs deploy/ray/score.py on a cluster of two nodes of this machine, and kills one once some parts are done.

python ray_cluster.py FOLDER ARGUMENT…     FOLDER is the job's output; the arguments are the job's
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "ray" / "score.py"

output, *arguments = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
job = subprocess.Popen([sys.executable, str(SCRIPT), "--address", cluster.address, "--output", output, *arguments])
while job.poll() is None and len(list(Path(output).glob("part-*"))) < 2:
    time.sleep(0.05)
if job.poll() is None:
    cluster.remove_node(nodes[1], allow_graceful=False)
    print("one node killed", flush=True)
status = job.wait()
cluster.shutdown()
sys.exit(status)
