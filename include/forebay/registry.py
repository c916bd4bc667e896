"""The platform's images in a registry of one's own: under which name each is there, and what says so to its chart."""

from __future__ import annotations

from typing import Any

from forebay.release import OWN_IMAGES, Artifact, artifacts


def target(image: Artifact, registry: str) -> str:
    """Where an image is in `registry`: below the path that it has where it comes from, with the same tag."""
    return f"{registry}/{_path(image.name)}:{image.version}"


def overrides(registry: str) -> dict[str, dict[str, Any]]:
    """Values for each chart that let it take its images from `registry`, by the chart's name."""
    at = {each.name: f"{registry}/{_path(each.name)}" for each in artifacts() if each.kind == "image"}
    tags = {each.name: target(each, registry) for each in artifacts() if each.kind == "image"}
    host, _, below = registry.partition("/")
    operator = f"{below}/{_path(_OPERATOR)}".lstrip("/")
    return {
        "cloudnative-pg": {"image": {"repository": at[_POSTGRES_OPERATOR]}},
        # Its chart joins the two.
        "spark-operator": {"image": {"registry": host, "repository": operator}},
        "forebay": {"images": {"registry": registry}, "databases": {"image": tags[_POSTGRES]}},
        "seaweedfs": {"image": {"registry": registry, "repository": _SEAWEEDFS}},
        "lakekeeper": {"catalog": {"image": {"repository": at[_LAKEKEEPER]}}},
        "trino": {"image": {"registry": registry, "repository": _TRINO}},
        "airflow": {
            "defaultAirflowRepository": at["forebay-airflow"],
            "images": {"redis": {"repository": at["redis"]}},
        },
    }


_POSTGRES_OPERATOR = "ghcr.io/cloudnative-pg/cloudnative-pg"
_POSTGRES = "ghcr.io/cloudnative-pg/postgresql"
_OPERATOR = "ghcr.io/kubeflow/spark-operator/controller"
_SEAWEEDFS, _LAKEKEEPER, _TRINO = "chrislusf/seaweedfs", "quay.io/lakekeeper/catalog", "trinodb/trino"


def own(image: Artifact) -> bool:
    """Whether an image is built from this repository, and so is in no other registry."""
    return image.name in {f"forebay-{name}" for name in OWN_IMAGES}


def _path(name: str) -> str:
    """An image's name without the host in front of it."""
    first, slash, rest = name.partition("/")
    return rest if slash and ("." in first or ":" in first) else name
