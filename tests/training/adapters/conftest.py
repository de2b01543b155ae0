import pytest

from orchestra.models.local.bases import local_base
from training.adapters import Shape, adapted
from training.recipes import Make
from training.trainers.making import made


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model of some ten thousand weights."""
    sizes = Make(hidden=32, layers=2, heads=4, vocabulary=300, context_tokens=256)
    return made(sizes, ["Say red or blue."], tmp_path_factory.mktemp("base"), seed=0)


@pytest.fixture
def base(folder):
    return local_base(str(folder))


@pytest.fixture
def network(folder):
    """Opens it with adapters that have learnt something already."""

    def opened(agents=("player",), *, initial_b=0.05, rank=4, **settings):
        shapes = {agent: Shape(rank=rank, alpha=8, initial_b=initial_b) for agent in agents}
        return adapted(folder, shapes, **settings)

    return opened
