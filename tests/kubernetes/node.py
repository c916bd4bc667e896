"""A node for the control plane: kubelet, containerd and kube-proxy in a small machine of their own on this one."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cluster as clusters
import dockerfile
import images
import programs
import psutil

PODS = "10.244.0.0/16"
NODE = "node"
PAUSE = "forebay.test/pause:1"
_BETWEEN = ipaddress.ip_network("10.213.0.0/16")
"""From here come the two addresses by which this machine and the node see each other."""

_INSIDE = r"""
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir "$1/var" "$1/work"
mount -t overlay overlay -o "lowerdir=/var,upperdir=$1/var,workdir=$1/work" /var
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
for setting in bridge/bridge-nf-call-iptables ipv4/conf/all/route_localnet; do
    test ! -e "/proc/sys/net/$setting" || echo 1 > "/proc/sys/net/$setting"
done
touch "$1/ready"
exec sleep infinity
"""
"""What a node writes below /run and /var is nobody else's to see."""


@dataclass(frozen=True)
class Machine:
    """Processes, mounts and a network of their own, which end together."""

    name: str
    holder: subprocess.Popen[bytes]
    first: int
    """Its first process; when that ends, the kernel ends the others and takes mounts and network away."""
    here: str
    address: str
    """How it sees this machine, and this machine it."""

    def end(self) -> None:
        """Returns when all of its processes are gone."""
        _end(self.holder)

    @property
    def network(self) -> list[str]:
        """Words that start a program of this machine in its network."""
        return ["nsenter", f"--net=/proc/{self.first}/ns/net", "--"]

    @property
    def enter(self) -> list[str]:
        """Words that start a program in it."""
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--"]


@dataclass(frozen=True)
class Node:
    """A cluster with a node that runs pods."""

    cluster: clusters.Cluster
    machine: Machine
    environment: dict[str, str]

    def load(self, archive: Path) -> None:
        """Puts an image, as a docker-archive, where the kubelet finds it."""
        self.ctr("images", "import", "--no-unpack", str(archive))

    def ctr(self, *arguments: str) -> str:
        command = [*self.machine.enter, "ctr", "-n", "k8s.io", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-3000:]}"
        return done.stdout


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Starts an empty machine, and ends it with all that runs in it; so does the death of this process."""
    name = f"forebay-{os.getpid()}"
    here, there = _addresses()
    log = folder / "log"
    with log.open("wb") as said:
        holder = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "sh", "-euc", _INSIDE, "-", str(folder)],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        until(lambda: (folder / "ready").exists() or holder.poll() is not None, 20)
        assert holder.poll() is None, f"no machine of its own could be made here: {log.read_text()}"
        first = psutil.Process(holder.pid).children()[0].pid
        made = Machine(name, holder, first, str(here), str(there))
        outside = f"fb{os.getpid()}"
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "node0", "netns", str(first))
        _run("ip", "addr", "add", f"{here}/30", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        for words in (
            ("addr", "add", f"{there}/30", "dev", "node0"),
            ("link", "set", "node0", "up"),
            ("route", "add", "default", "via", str(here)),
        ):
            _run(*made.network, "ip", *words)
        yield made
    finally:
        _end(holder)
        _remove_groups(name)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Node]:
    """Starts control plane and node, and stops both with all pods at the end."""
    assert os.geteuid() == 0, "A node needs root: it makes networks, mounts and groups of processes."
    for name, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("setpriv", "util-linux")):
        programs.program(name, package)
    environment = programs.node_environment()
    place = folder / "machine"
    place.mkdir()
    with machine(place) as own:
        api = clusters.Where(
            own.network, own.address,
            [f"--advertise-address={own.address}", "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true"],
            [f"--cluster-cidr={PODS}", "--allocate-node-cidrs"],
        )  # fmt: skip
        with clusters.running(folder, api) as cluster:
            node = Node(cluster, own, environment)
            _write(folder, place, own)
            _make_groups(own.name)
            parts = clusters.Parts(folder, own.enter, environment)
            try:
                _start(parts, node, folder, place)
                yield node
                parts.alive()
            finally:
                # Before the API server, which would wait for those who ask it.
                parts.stop()
                own.end()


def _start(parts: clusters.Parts, node: Node, folder: Path, place: Path) -> None:
    parts.start("containerd", "-c", str(folder / "containerd.toml"))
    until(lambda: _answers(node), also=parts.alive)
    pause = dockerfile.Image(programs.pause(), entrypoint=["/pause"])
    node.load(images.archive([pause.root], PAUSE, folder / "pause.tar", pause))
    kubeconfig = f"--kubeconfig={node.cluster.kubeconfig}"
    parts.start("kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0")
    parts.start(
        "kube-proxy", kubeconfig, f"--cluster-cidr={PODS}", f"--hostname-override={NODE}",
        "--proxy-mode=iptables", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )  # fmt: skip
    parts.start("coredns", "-conf", str(folder / "Corefile"), program=programs.coredns())
    parts.start(
        "kubelet", kubeconfig, f"--config={folder / 'kubelet.json'}", f"--hostname-override={NODE}",
        f"--node-ip={node.machine.address}", f"--root-dir={place / 'kubelet'}", f"--cert-dir={folder / 'kubelet-pki'}",
    )  # fmt: skip
    until(lambda: _registered(node), also=parts.alive)
    node.cluster.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=100s")


def _end(holder: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for first in psutil.Process(holder.pid).children():
            first.kill()
    holder.wait(60)


def _answers(node: Node) -> bool:
    with contextlib.suppress(AssertionError):
        return bool(node.ctr("version"))
    return False


def _registered(node: Node) -> bool:
    return node.cluster.kubectl("get", "node", NODE, check=False).returncode == 0


def _write(folder: Path, place: Path, own: Machine) -> None:
    networks = folder / "cni"
    networks.mkdir()
    bridge = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    (networks / "10-pods.conf").write_text(json.dumps(bridge))
    (folder / "containerd.toml").write_text(
        f"""
version = 2
root = "{place}/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # A machine without CAP_SYS_RESOURCE may not raise its processes above others when memory runs out.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{programs.node()}/usr/lib/cni"
    conf_dir = "{networks}"
"""
    )
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{own.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDomain": "cluster.local",
        "clusterDNS": [own.address],
        "resolvConf": "",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "healthzPort": 0,
        "readOnlyPort": 0,
    }
    (folder / "kubelet.json").write_text(json.dumps(kubelet))
    (folder / "Corefile").write_text(
        f".:53 {{\n  bind {own.address}\n  errors\n"
        f"  kubernetes cluster.local {{\n    kubeconfig {folder / 'kubeconfig'} test\n  }}\n}}\n"
    )


def _addresses() -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """Two addresses of a network that this machine is not in yet."""
    shown = json.loads(_run("ip", "-j", "addr"))
    taken = {ipaddress.ip_address(each["local"]) for link in shown for each in link["addr_info"]}
    network = next(each for each in _BETWEEN.subnets(new_prefix=30) if not any(one in each for one in taken))
    here, there = network.hosts()
    return here, there


def _groups() -> list[Path]:
    """Where groups of processes are kept: one tree, or one for each controller."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    return [each for each in top.iterdir() if (each / "cgroup.procs").exists()]


def _make_groups(name: str) -> None:
    for tree in _groups():
        (tree / name).mkdir()
        for setting in ("cpuset.mems", "cpuset.cpus"):
            if (tree / name / setting).exists() and tree.name == "cpuset":
                (tree / name / setting).write_text((tree / setting).read_text())


def _remove_groups(name: str) -> None:
    for tree in _groups():
        folders = [Path(path) for path, _, _ in os.walk(tree / name, topdown=False)]
        for folder in folders:
            until(lambda folder=folder: _removed(folder), 20)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        # Somebody in it is still ending.
        return False
    return True


def until(what: Callable[[], Any], seconds: float = 60, also: Callable[[], Any] = lambda: None) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        also()
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.1)
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
