import pytest
from small_training import without_curves


@pytest.fixture(autouse=True, scope="module")
def _no_curves():
    with without_curves():
        yield
