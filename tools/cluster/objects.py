"""What a bare cluster needs before a chart can be installed: volumes on demand, and names for services."""

import json
from typing import Any, Final

from layout import DNS, DNS_SERVICE, DOMAIN, VOLUMES, VOLUMES_AT

_LABELS: Final = {"k8s-app": "kube-dns"}
_COREFILE: Final = f"""\
.:1053 {{
    errors
    health :8080
    ready :8181
    kubernetes {DOMAIN} in-addr.arpa {{
        ttl 5
    }}
    cache 5
}}
"""
"""Names of this cluster and no others: nothing in it reaches the world."""


def volumes() -> str:
    """Folders of the node for claims, until there are no more; each goes with its claim."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    kind = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "folder", "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    return _list([kind, *(_volume(number) for number in range(VOLUMES))])


def _volume(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"folder-{number}"},
        "spec": {
            "storageClassName": "folder",
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": f"{VOLUMES_AT}/{number}", "type": "Directory"},
        },
    }


def names() -> str:
    """CoreDNS, with the rights that it needs."""
    named: dict[str, Any] = {"name": "coredns", "namespace": "kube-system"}
    reads = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rights = "rbac.authorization.k8s.io"
    ports = [
        {"name": f"dns-{kind.lower()}", "port": 53, "targetPort": 1053, "protocol": kind} for kind in ("UDP", "TCP")
    ]
    return _list(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
            {"apiVersion": f"{rights}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": reads},
            {
                "apiVersion": f"{rights}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "coredns"},
                "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": "coredns"},
                "subjects": [{"kind": "ServiceAccount", **named}],
            },
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"Corefile": _COREFILE}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
                "spec": {"clusterIP": DNS_SERVICE, "selector": _LABELS, "ports": ports},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": named,
                "spec": {
                    "selector": {"matchLabels": _LABELS},
                    "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
                },
            },
        ]
    )


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "containers": [
            {
                "name": "coredns",
                "image": DNS,
                "imagePullPolicy": "Never",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 5},
                "securityContext": {
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }


def _list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
