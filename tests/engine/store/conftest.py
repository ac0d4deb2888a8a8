import builds
import pytest


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    builds.make_small(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """What must outlast a power loss is another test's business, and costs milliseconds a file."""
    monkeypatch.setattr("engine.durable.os.fsync", lambda _descriptor: None)


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: builds.tiny_model(family, folder) for family in builds.CONFIGS}


@pytest.fixture(params=builds.CONFIGS)
def model(request, models):
    return models[request.param]
