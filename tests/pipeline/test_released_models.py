"""Models in this process go before a stage, and come back when they are asked again."""

import weakref

from cai.backends.protocol import GenerateRequest
from cai.pipeline.run import OpenBackends
from cai.records import Message


def test_a_released_model_is_freed_and_loaded_again_when_it_is_asked():
    backends = OpenBackends({})
    backend = backends.get("reference")
    request = GenerateRequest((Message(role="user", content="Hello."),), max_tokens=4, seed=1)
    [(_, first)] = backend.respond([request])
    model = weakref.ref(backend.language_model.model)
    backends.put("other", object())  # a backend that holds no model
    backends.release()
    assert model() is None
    [(_, second)] = backend.respond([request])
    assert second == first
