"""The first admin, so that a fresh installation can be entered."""

from __future__ import annotations

from django.db import transaction

from controlplane.tenancy.actions.operators import create_operator
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import Operator, OperatorToken, Role
from controlplane.tenancy.queries import SYSTEM
from controlplane.tenancy.secrets import adopt

USERNAME = "admin"


@transaction.atomic
def ensure_first_admin(*, password: str, token: str | None) -> bool:
    """Create the operator ``admin`` unless the installation has an admin; tell whether it was created.

    ``token``: the text of an operator token that must exist, kept as it is (``ValueError`` for one that is too short).
    """
    if token is not None:
        minted = adopt(token)
        if not OperatorToken.objects.filter(selector=minted.selector).exists():
            create_token(by=SYSTEM, name="first admin", role=Role.ADMIN, minted=minted)
    if Operator.objects.filter(role=Role.ADMIN, tenant=None).exists():
        return False
    create_operator(by=SYSTEM, username=USERNAME, password=password, role=Role.ADMIN, weigh_password=False)
    return True
