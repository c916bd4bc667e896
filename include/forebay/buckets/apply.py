"""Makes buckets what a file says: first the differences, then, if wanted, the changes. No bucket is ever deleted."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from forebay.buckets.client import Store, StoreError, text
from forebay.buckets.declared import Bucket, Buckets, Keep

Rule = tuple[str, str, int]
"""A rule of a lifecycle: what it does, to which keys, after how many days."""

_DELETE, _VERSIONS, _UPLOADS = "delete", "delete old versions", "drop unfinished uploads"
_ACTIONS = {
    _DELETE: ("Expiration", "Days"),
    _VERSIONS: ("NoncurrentVersionExpiration", "NoncurrentDays"),
    _UPLOADS: ("AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
}


@dataclass(frozen=True)
class Difference:
    """One setting of a bucket that is not as the file says."""

    bucket: str
    setting: str
    now: str
    wanted: str
    change: Callable[[], None] = field(repr=False, compare=False)


def differences(store: Store, declared: Buckets) -> list[Difference]:
    """What is to change, in the order in which it is changed. Raises StoreError."""
    return [each for name, bucket in declared.buckets.items() for each in _of_bucket(store, name, bucket)]


def apply(store: Store, declared: Buckets) -> list[Difference]:
    """Changes what differs and looks again; what the store took and did not keep is an error."""
    changed: list[Difference] = []
    # Settings of a new bucket are seen when it is there.
    for _ in range(2):
        for each in differences(store, declared):
            each.change()
            changed.append(each)
    if left := differences(store, declared):
        named = "; ".join(f"{each.bucket}: {each.setting}: {each.wanted}" for each in left)
        raise StoreError(
            f"The store {store.name} took these settings and does not have them: {named}. It does not know them: "
            "leave them out of the file, and see to it by the store's own means."
        )
    return changed


def _of_bucket(store: Store, name: str, bucket: Bucket) -> list[Difference]:
    if not store.exists(name):
        wanted = "there, with object lock" if bucket.keep else "there"
        return [
            Difference(
                name, "bucket", "missing", wanted, lambda: store.make(name, lock=bucket.keep is not None)
            )
        ]
    found = []
    versioning = store.setting(name, "versioning")
    status = "" if versioning is None else text(versioning, "Status")
    if (status == "Enabled") != bucket.versioned:
        wanted = "Enabled" if bucket.versioned else "Suspended"
        body = f"<VersioningConfiguration><Status>{wanted}</Status></VersioningConfiguration>"

        def versions() -> None:
            store.set(name, "versioning", body)

        found.append(Difference(name, "versions", status or "off", wanted, versions))
    before, after = _keep(store, name), bucket.keep
    if before != after:
        found.append(
            Difference(
                name, "keep", _keep_text(before), _keep_text(after), lambda: _set_keep(store, name, after)
            )
        )
    now, rules = _rules(store.setting(name, "lifecycle")), _wanted(bucket)
    if now != rules:
        found.append(
            Difference(
                name,
                "lifecycle",
                _rules_text(now),
                _rules_text(rules),
                lambda: _set_rules(store, name, rules),
            )
        )
    return found


def _wanted(bucket: Bucket) -> set[Rule]:
    rules = {(_DELETE, prefix.rstrip("*"), days) for prefix, days in bucket.delete_after_days.items()}
    if bucket.versions_days is not None:
        rules.add((_VERSIONS, "", bucket.versions_days))
    if bucket.uploads_days is not None:
        rules.add((_UPLOADS, "", bucket.uploads_days))
    return rules


def _rules(lifecycle: ElementTree.Element | None) -> set[Rule]:
    """The rules that a bucket has; one that is not of our kinds shows as such, and is replaced."""
    found: set[Rule] = set()
    for rule in () if lifecycle is None else lifecycle.iter("Rule"):
        if text(rule, "Status") != "Enabled":
            continue
        prefix = text(rule, "Filter/Prefix") or text(rule, "Prefix") or text(rule, "Filter/And/Prefix")
        known = False
        for kind, (element, days) in _ACTIONS.items():
            if value := text(rule, f"{element}/{days}"):
                found.add((kind, prefix, int(value)))
                known = True
        if not known:
            found.add((f"another rule ({text(rule, 'ID') or 'without a name'})", prefix, 0))
    return found


def _set_rules(store: Store, name: str, rules: set[Rule]) -> None:
    if not rules:
        store.unset(name, "lifecycle")
        return
    listed = ""
    for number, (kind, prefix, days) in enumerate(sorted(rules), 1):
        element, unit = _ACTIONS[kind]
        listed += (
            f"<Rule><ID>forebay-{number}</ID><Status>Enabled</Status><Filter><Prefix>{escape(prefix)}</Prefix></Filter>"
            f"<{element}><{unit}>{days}</{unit}></{element}></Rule>"
        )
    store.set(name, "lifecycle", f"<LifecycleConfiguration>{listed}</LifecycleConfiguration>")


def _keep(store: Store, name: str) -> Keep | None:
    found = store.setting(name, "object-lock")
    rule = None if found is None else found.find("Rule/DefaultRetention")
    if rule is None:
        return None
    mode, days = text(rule, "Mode").lower(), int(text(rule, "Days") or 0)
    days = days or 365 * int(text(rule, "Years") or 0)
    return Keep(days=days, mode="compliance" if mode == "compliance" else "governance")


def _set_keep(store: Store, name: str, keep: Keep | None) -> None:
    rule = ""
    if keep is not None:
        rule = f"<Rule><DefaultRetention><Mode>{keep.mode.upper()}</Mode><Days>{keep.days}</Days></DefaultRetention></Rule>"
    enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    try:
        store.set(name, "object-lock", f"<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>")
    except StoreError as error:
        raise StoreError(
            f"{error} This store gives `keep` to a bucket when it is made: make another bucket, or leave keep of {name} out."
        ) from None


def _rules_text(rules: set[Rule]) -> str:
    return (
        ", ".join(
            f"{kind} {prefix + '* ' if prefix else ''}after {days}d" if days else f"{kind} {prefix}".strip()
            for kind, prefix, days in sorted(rules)
        )
        or "none"
    )


def _keep_text(keep: Keep | None) -> str:
    return "none" if keep is None else f"{keep.days}d, {keep.mode}"
