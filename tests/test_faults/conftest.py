import pytest
from forked_commands import WHOLE, CommandServer


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """Run commands in forks of one process, which loads TensorFlow once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("fonts")))
        with CommandServer(WHOLE) as started:
            yield started
