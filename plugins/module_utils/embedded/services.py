# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The daemons of a node: each a shell script of one ``exec``, kept alive by runit."""

from __future__ import annotations

from ansible_collections.appgate.platform.plugins.module_utils.embedded.spec import (
    METRICS_SERVER_PORT,
    NODE_IMAGE,
    Cluster,
    Node,
)

ADMIN = "/etc/kubernetes/admin.conf"


def services(cluster: Cluster, node: Node) -> dict[str, str]:
    """Daemon name -> script. A daemon whose files are not there yet exits and is started again."""
    wanted = {
        "containerd": "exec containerd --config /etc/containerd/config.toml\n",
        "kubelet": (
            "cd /var/lib/kubelet || exit 1\n"
            "[ -s config.yaml ] || exit 1\n"
            "set -a\n. ./kubeadm-flags.env || exit 1\nset +a\n"
            # The flags are words to be split.
            "exec kubelet --config=config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf "
            "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf $KUBELET_KUBEADM_ARGS\n"
        ),
        "kube-proxy": (
            "[ -s /etc/kubernetes/kube-proxy.conf ] || exit 1\n"
            "exec kube-proxy --config=/etc/kubernetes/kube-proxy.json\n"
        ),
    }
    if node.is_control_plane:
        wait_for_admin = f"[ -s {ADMIN} ] || exit 1\n"
        wanted["registry"] = "exec registry serve /etc/kubernetes/registry.json\n"
        wanted["load-balancer"] = (
            f"{wait_for_admin}export KUBECONFIG={ADMIN} METALLB_NAMESPACE=metallb-system\n"
            f"exec metallb-controller -kubeconfig={ADMIN} -webhook-mode disabled -disable-cert-rotation "
            "-port 7472\n"
        )
        wanted["storage"] = (
            f"{wait_for_admin}exec local-path-provisioner start --kubeconfig {ADMIN} "
            f"--namespace local-path-storage --helper-image {NODE_IMAGE} "
            "--config /etc/kubernetes/storage.json --helper-pod-file /etc/kubernetes/storage-helper.json\n"
        )
        wanted["metrics-server"] = (
            f"{wait_for_admin}exec metrics-server --kubeconfig={ADMIN} "
            f"--authentication-kubeconfig={ADMIN} --authorization-kubeconfig={ADMIN} "
            f"--secure-port={METRICS_SERVER_PORT} --cert-dir=/tmp/metrics-server "
            "--kubelet-preferred-address-types=InternalIP --kubelet-use-node-status-port "
            # Why: kubeadm's kubelets sign their serving certificates themselves.
            "--kubelet-insecure-tls --metric-resolution=15s\n"
        )
    return wanted


def storage_config() -> dict[str, object]:
    """local-path-provisioner's paths: a volume is a directory of the node's /opt."""
    return {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["/opt/volumes"]}]}


def storage_helper() -> dict[str, object]:
    """The pod that makes and removes a volume's directory."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "priorityClassName": "system-node-critical",
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "helper-pod", "image": NODE_IMAGE, "imagePullPolicy": "IfNotPresent"}],
        },
    }
