"""IAM: new permissions take effect with a delay."""

import os
import time
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import AccountScopedDict
from ministack.services import iam, lambda_svc
from ministack.services.cloudformation import custom_resource

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule, seconds


@rule(
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency",
    RULES,
)
def new_permissions_take_seconds() -> None:
    """A new role's permissions, and changes of a role's policies, take effect some seconds later.

    For a custom resource's function the delay begins with its first request, so that a slow machine does not hide it.
    STRICT_AWS_ROLE_OF: only of roles whose names begin so, because each function of a stack waits for its own.
    """
    length, beginnings = seconds("ROLE", 2), tuple(os.environ.get("STRICT_AWS_ROLE_OF", "").split(","))
    if not length:
        return
    gather, invoke = iam_evaluator._gather_role_policies, custom_resource.invoke_custom_resource

    def invoked(request_type: str, logical_id: str, properties: dict[str, Any], *rest: Any, **named: Any) -> Any:
        _, configuration, _ = lambda_svc._get_func_record_for_ref(properties.get("ServiceToken", ""))
        role = iam._roles.get(str((configuration or {}).get("Role")).rpartition("/")[2])
        if role:
            role["InlinePolicies"].awaits_its_first_use()
        return invoke(request_type, logical_id, properties, *rest, **named)

    def gathered(role_name: str, account_id: str) -> Any:
        role = iam._roles.get_scoped(account_id, None, role_name)
        policies = role["InlinePolicies"] if role else None
        if not (isinstance(policies, Policies) and role_name.startswith(beginnings)):
            return gather(role_name, account_id)
        if policies.age_when_used() >= length:
            return gather(role_name, account_id)
        parsed = [iam_evaluator.parse_policy_document(document) for document in policies.before.values()]
        return [statements for statements in parsed if statements]

    iam._roles = Roles()
    custom_resource.invoke_custom_resource = invoked
    iam_evaluator._gather_role_policies = gathered


class Roles(AccountScopedDict):  # type: ignore[misc]
    def __setitem__(self, name: str, role: dict[str, Any]) -> None:
        role["InlinePolicies"] = Policies(role["InlinePolicies"])
        super().__setitem__(name, role)


class Policies(dict[str, str]):
    """A role's policy documents by name, and those from before the last change."""

    def __init__(self, documents: dict[str, str]) -> None:
        super().__init__(documents)
        self.before: dict[str, str] = {}
        self.changed_at = time.monotonic()
        self.used, self.awaited = False, False

    def awaits_its_first_use(self) -> None:
        """For a custom resource: the first request after a change always comes too early."""
        self.awaited = not self.used

    def age_when_used(self) -> float:
        if self.awaited:
            self.changed_at, self.awaited = time.monotonic(), False
        self.used = True
        return time.monotonic() - self.changed_at

    def changes(self) -> None:
        self.before, self.changed_at, self.used = dict(self), time.monotonic(), False

    def __setitem__(self, name: str, document: str) -> None:
        if self.get(name) != document:
            self.changes()
            super().__setitem__(name, document)

    def __delitem__(self, name: str) -> None:
        self.changes()
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        if name in self:
            self.changes()
        return super().pop(name, *default)

    def update(self, others: Any) -> None:  # type: ignore[override]
        for name, document in others.items():
            self[name] = document
