"""A world to look at, made once a module and rolled back after it, and people to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.test import Client, override_settings
from pytest_django import DjangoDbBlocker

from tests.dashboard import world as worlds
from tests.dashboard.world import World

FAST = override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])


@pytest.fixture(scope="module")
def module_world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Make the world in a transaction around all tests of a module. None of them may be transactional."""
    with django_db_blocker.unblock(), FAST, transaction.atomic():
        yield worlds.make(datetime.now(UTC))
        transaction.set_rollback(True)


@pytest.fixture
def world(module_world: World, db: None) -> World:
    return module_world


@pytest.fixture
def sign_in(world: World) -> Callable[[str], Client]:
    """Return a client of the named person."""

    def signed_in(name: str) -> Client:
        client = Client()
        client.force_login(world.operators[name])
        return client

    return signed_in
