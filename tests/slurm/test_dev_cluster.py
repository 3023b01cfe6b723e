"""slurm/dev-cluster: what it says where it cannot run; where it can, that it starts, tells and ends what it should."""

import os
import shutil
import socket
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from tests.slurm.cluster import SCRIPT, DevCluster, processes_of, script, wait_for, why_not

real = pytest.mark.skipif(why_not() is not None, reason=f"no SLURM here: {why_not()}")
ASKED = Namespace(cpus=4, gpus=2, grace=10, sacct=False, set=[])


def asked(**more):
    return Namespace(**{**vars(ASKED), **more})


@pytest.fixture
def module():
    return script()


@pytest.fixture
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hpc")
    yield DevCluster(folder)
    DevCluster(folder).command("down")


def test_what_is_missing_is_named_with_the_command_that_installs_it(module, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program, path: None if program in ("munged", "sbatch") else program)
    with pytest.raises(module.Trouble, match=r"apt-get install -y --no-install-recommends slurm-client munge$"):
        module.check_machine(Path("/tmp/hpc"))


def test_who_is_not_root_is_told_so(module, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(module.Trouble, match="needs root"):
        module.check_machine(Path("/tmp/hpc"))


@pytest.mark.parametrize("folder", ["/tmp/" + 90 * "x", "/tmp/a folder", "/tmp/a=b"])
def test_a_folder_that_slurm_cannot_bear_is_refused(module, monkeypatch, folder):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program, path: program)
    with pytest.raises(module.Trouble, match="--folder"):
        module.check_machine(Path(folder))


def test_the_configuration_has_what_is_asked_for(module, tmp_path):
    cluster = module.Cluster(tmp_path)
    text = cluster.configuration(asked(cpus=3, gpus=1, grace=7, set=["MaxArraySize=5", "KillWait=2"]), 30000)
    assert text.count("MaxArraySize=5\n") == text.count("KillWait=2\n") == text.count("KillWait=") == 1
    assert "Port=30001 CPUs=3" in text
    assert "Port=30002" in text
    assert text.count("Gres=gpu:1") == 2
    assert "PartitionName=main Nodes=n1,n2 MaxTime=UNLIMITED Default=YES PriorityTier=1 GraceTime=7\n" in text
    assert module.port_in(text) == 30000
    assert "Gres=" not in cluster.configuration(asked(gpus=0), 30000)
    with pytest.raises(module.Trouble, match="KEY=VALUE"):
        cluster.configuration(asked(set=["MaxArraySize"]), 30000)


def test_ports_in_use_are_left_alone(module):
    first = module.free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 1))
        assert module.free_ports(3) != first


def test_nothing_is_stopped_killed_or_running_where_nothing_was_started(cluster):
    down, status, kill = cluster.command("down"), cluster.command("status"), cluster.command("kill", "n1")
    assert (down.returncode, down.stderr) == (0, "")
    assert status.returncode == 3
    assert status.stdout.count("does not run") == 4
    assert (kill.returncode, kill.stderr) == (1, "n1 does not run.\n")


def test_a_node_is_named_for_kill_and_for_nothing_else():
    for words in (["kill"], ["down", "n1"]):
        done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert "kill names a node" in done.stderr


@real
def test_a_cluster_from_up_to_down(cluster):
    up = cluster.command("up", "--sacct", "--set", "MaxArraySize=4")
    assert up.returncode == 0, up.stderr
    conf, path = cluster.folder / "slurm.conf", f'PATH="{cluster.folder}/bin:$PATH"'
    assert up.stdout == f'export SLURM_CONF="{conf}" {path}\n'
    assert cluster.command("status").returncode == 0

    # the same again changes nothing, other settings are refused
    pids = cluster.command("status").stdout.splitlines()[:4]
    assert cluster.command("up", "--sacct", "--set", "MaxArraySize=4").returncode == 0
    assert cluster.command("status").stdout.splitlines()[:4] == pids
    other = cluster.command("up")
    assert other.returncode == 1
    assert "other settings" in other.stderr

    # jobs run on both nodes, with a fake GPU of their own, and an array is as long as it may be
    job = cluster.folder / "job.sh"
    job.write_text("#!/bin/sh\necho $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES\nsetsid sleep 98 &\nsleep 97\n")
    submit = ("sbatch", "--parsable", "--gpus-per-node=1", "--output=%a.out")
    assert (
        "Invalid job array"
        in subprocess.run(
            [*submit, "--array=0-4", job], env=cluster.environment, cwd=cluster.folder, capture_output=True, text=True
        ).stderr
    )
    array = cluster.call(*submit, "--array=0-3", job).strip()
    tasks = {f"{array}_{k}" for k in range(4)}
    outputs = [cluster.folder / f"{k}.out" for k in range(4)]
    wait_for(lambda: all(file.exists() and file.read_text() for file in outputs), "four jobs that write", 30)
    assert sorted(file.read_text().strip() for file in outputs) == ["n1 0", "n1 1", "n2 0", "n2 1"]
    assert set(cluster.jobs()) == tasks
    assert f"{array}_2|RUNNING|n" in cluster.call("sacct", "-o", "JobID,State,NodeList", "--parsable2", "-j", array)

    # a node without power: its jobs are gone, and it comes back
    assert cluster.command("kill", "n2").returncode == 0
    assert "down" in cluster.call("sinfo", "--noheader", "--nodes=n2", "--format=%T")
    status = cluster.command("status")
    assert status.returncode == 3
    assert status.stdout.splitlines()[3].split() == ["n2", "does", "not", "run"]
    assert sum("sleep 98" in line for line in processes_of(cluster.folder)) == 2
    assert cluster.command("up", "--sacct", "--set", "MaxArraySize=4").returncode == 0
    assert cluster.command("status").returncode == 0

    assert cluster.command("down").returncode == 0
    assert processes_of(cluster.folder) == []
    assert cluster.command("status").returncode == 3
