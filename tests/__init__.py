"""Tests; ``make test`` runs them."""

import pytest

pytest.register_assert_rewrite("tests.browsing")
