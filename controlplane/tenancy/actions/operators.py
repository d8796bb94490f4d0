"""Operators: people who sign in."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from controlplane.problems import Conflict, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Operator, Role, Tenant
from controlplane.tenancy.queries import Asker


@transaction.atomic
def create_operator(
    *,
    by: Asker,
    username: str,
    password: str,
    role: str,
    tenant: Tenant | None = None,
    weigh_password: bool = True,
) -> Operator:
    """Create an operator; within the asker's tenant when they have one. ``Invalid``, ``Conflict``.

    Whoever runs the server may choose a password without having it weighed.
    """
    by.must(Role.ADMIN)
    operator = Operator(username=username.strip(), role=role, tenant=tenant or by.tenant)
    errors = {}
    if not 1 <= len(operator.username) <= 150 or any(letter.isspace() for letter in operator.username):
        errors["username"] = "must have 1 to 150 characters and no spaces"
    if role not in Role.values:
        errors["role"] = f"must be one of {', '.join(Role.values)}"
    try:
        if weigh_password:
            validate_password(password, operator)
    except ValidationError as error:
        errors["password"] = " ".join(error.messages)
    if errors:
        raise Invalid("The operator can't be created like this.", errors=errors)
    operator.set_password(password)
    try:
        with transaction.atomic():
            operator.save()
    except IntegrityError:
        raise Conflict(
            f"There is already an operator {operator.username!r}.", errors={"username": "is taken"}
        ) from None
    record(
        by=by,
        action="operator.created",
        target_kind="operator",
        target=operator.username,
        tenant=operator.tenant,
        after={"role": role},
        summary=f"Created operator {operator.username} ({role})",
    )
    return operator


@transaction.atomic
def set_role(*, by: Asker, operator: Operator, role: str) -> Operator:
    """Give an operator another role; the last active admin of the installation keeps theirs."""
    by.must(Role.ADMIN)
    if role not in Role.values:
        raise Invalid("There is no such role.", errors={"role": f"must be one of {', '.join(Role.values)}"})
    if role != Role.ADMIN:
        _must_not_be_the_last_admin(operator)
    before, operator.role = operator.role, role
    operator.save(update_fields=["role"])
    record(
        by=by,
        action="operator.role_changed",
        target_kind="operator",
        target=operator.username,
        tenant=operator.tenant,
        before={"role": before},
        after={"role": role},
        summary=f"{operator.username} is now {role}",
    )
    return operator


@transaction.atomic
def deactivate_operator(*, by: Asker, operator: Operator) -> Operator:
    """Keep an operator from signing in; their sessions end with their next request."""
    by.must(Role.ADMIN)
    _must_not_be_the_last_admin(operator)
    if operator.is_active:
        operator.is_active = False
        operator.save(update_fields=["is_active"])
        record(
            by=by,
            action="operator.deactivated",
            target_kind="operator",
            target=operator.username,
            tenant=operator.tenant,
            before={"role": operator.role},
            summary=f"Deactivated {operator.username}",
        )
    return operator


def _must_not_be_the_last_admin(operator: Operator) -> None:
    admins = Operator.objects.select_for_update().filter(role=Role.ADMIN, tenant=None, is_active=True)
    if {admin.pk for admin in admins} == {operator.pk}:
        raise Conflict(f"{operator.username} is the last admin: make another one first.")
