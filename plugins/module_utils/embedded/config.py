# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The files that Kubernetes and containerd read, as plain data.

kubeadm, kubelet and kube-proxy read YAML, of which JSON is a part; so these are dictionaries.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.embedded.spec import (
    API_PORT,
    NODE_IMAGE,
    Cluster,
    Node,
)

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
BIN_DIR = "/opt/appgate/bin"
PATCH_DIR = "/etc/kubernetes/patches"

Document = dict[str, Any]


def to_stream(documents: list[Document]) -> str:
    """Several documents in one file."""
    return "\n---\n".join(json.dumps(document, indent=1) for document in documents) + "\n"


def containerd() -> str:
    """containerd's configuration, version 3."""
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{NODE_IMAGE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  # Why: a root without CAP_SYS_RESOURCE may not lower a score, and runc then fails to start anything.
  restrict_oom_score_adj = true
  # Why: a profile would be loaded into the machine's kernel, and stay there when the cluster is gone.
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/etc/cni/net.d"
"""


def registry_hosts(cluster: Cluster) -> str:
    """How containerd reaches the cluster's own registry: plain HTTP inside the machine."""
    return f"""\
server = "http://{cluster.registry}"

[host."http://{cluster.registry}"]
  capabilities = ["pull", "resolve"]
"""


def registry(cluster: Cluster) -> Document:
    """The registry's configuration."""
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": "/var/lib/registry"},
            "delete": {"enabled": True},
        },
        "http": {"addr": cluster.registry},
    }


def cni(node: Node, cluster: Cluster) -> Document:
    """The pod network of one node.

    ``ptp`` routes each pod by itself. So every packet between pods is forwarded by the node and seen by
    its connection tracking: Services work without the bridge netfilter module.
    """
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/run/cni-ipam",
                },
            },
        ],
    }


def kubelet(cluster: Cluster, *, cgroup_v1: bool) -> Document:
    """KubeletConfiguration; kubeadm keeps it in the cluster, so a node's own part comes as a patch."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": [cluster.dns_address],
        "clusterDomain": cluster.dns_domain,
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": not cgroup_v1,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "resolvConf": "/etc/kubernetes/resolv.conf",
        "serializeImagePulls": False,
        "oomScoreAdj": 0,
        # Why: the defaults are for a node that owns its disk; this one shares the machine's.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "shutdownGracePeriod": "0s",
    }


def kubelet_patch(node: Node) -> Document:
    return {"cgroupRoot": node.cgroup}


def kube_proxy(cluster: Cluster, node: Node) -> Document:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": cluster.pod_range,
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
        "metricsBindAddress": f"{node.address}:10249",
        "healthzBindAddress": f"{node.address}:10256",
        # Why: these limits belong to the machine, not to a node's network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _node_registration(node: Node) -> Document:
    return {
        "name": node.name,
        "criSocket": f"unix://{CONTAINERD_SOCKET}",
        "imagePullPolicy": "IfNotPresent",
        "taints": [],
        "kubeletExtraArgs": [
            {"name": "node-ip", "value": node.address},
            {"name": "hostname-override", "value": node.name},
        ],
    }


def kubeadm_init(cluster: Cluster, node: Node, *, token: str, cgroup_v1: bool) -> str:
    """Everything that ``kubeadm init`` reads."""

    def args(**values: str) -> list[Document]:
        return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]

    init: Document = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "nodeRegistration": _node_registration(node),
        "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": API_PORT},
        "bootstrapTokens": [{"token": token, "ttl": "0s"}],
        "patches": {"directory": PATCH_DIR},
        "skipPhases": ["preflight", "addon/kube-proxy"],
    }
    configuration: Document = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster.context,
        "kubernetesVersion": cluster.kubernetes_version,
        "controlPlaneEndpoint": f"{node.address}:{API_PORT}",
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            # Why no podSubnet: each node's pod range follows from its number; nobody has to hand it out.
            "serviceSubnet": cluster.service_range,
            "dnsDomain": cluster.dns_domain,
        },
        "apiServer": {"extraArgs": args(profiling="false")},
        # Why bind-address: on 127.0.0.1, kubeadm's default, nobody can scrape them.
        # Why no election: there is one control plane. On a starved machine they would lose it, to nobody, and end.
        "controllerManager": {"extraArgs": args(bind_address=node.address, profiling="false", leader_elect="false")},
        "scheduler": {"extraArgs": args(bind_address=node.address, profiling="false", leader_elect="false")},
        "etcd": {
            "local": {
                "extraArgs": [
                    {"name": "listen-metrics-urls", "value": f"http://127.0.0.1:2381,http://{node.address}:2381"},
                    # Why: this etcd holds one machine's trial cluster; a lost last second costs nothing.
                    {"name": "unsafe-no-fsync", "value": "true"},
                ]
            }
        },
    }
    return to_stream([init, configuration, kubelet(cluster, cgroup_v1=cgroup_v1)])


def kubeadm_join(cluster: Cluster, node: Node, *, token: str, ca_hash: str) -> str:
    """Everything that ``kubeadm join`` reads."""
    join: Document = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "nodeRegistration": _node_registration(node),
        "patches": {"directory": PATCH_DIR},
        "skipPhases": ["preflight"],
        "discovery": {
            "bootstrapToken": {
                "token": token,
                "apiServerEndpoint": f"{cluster.control_plane.address}:{API_PORT}",
                "caCertHashes": [ca_hash],
            }
        },
    }
    return to_stream([join])


def kubeadm_patches(node: Node) -> dict[str, str]:
    """kubeadm's patches: file name -> text.

    The control plane runs the binaries that the node has under ``BIN_DIR``, in one small image. So no
    image of theirs is built, pulled or unpacked, and all clusters of a machine share one copy.
    """
    volume = {"name": "binaries", "hostPath": {"path": BIN_DIR, "type": "Directory"}}
    mount = {"name": "binaries", "mountPath": BIN_DIR, "readOnly": True}

    def pod_spec(container: str, **extra: Any) -> Document:
        return {
            "volumes": [volume],
            "containers": [{"name": container, "image": NODE_IMAGE, "volumeMounts": [mount], **extra}],
        }

    patches: dict[str, Document] = {"kubeletconfiguration+merge": kubelet_patch(node)}
    if node.is_control_plane:
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            patches[f"{name}+strategic"] = {"spec": pod_spec(name)}
        patches["corednsdeployment+strategic"] = {
            "spec": {
                "replicas": 1,
                "template": {"spec": pod_spec("coredns", command=[f"{BIN_DIR}/coredns"])},
            }
        }
    return {f"{name}.json": json.dumps(patch, indent=1) + "\n" for name, patch in patches.items()}
