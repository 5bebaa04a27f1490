"""From the numbers of all classes to scores."""

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, IntArray


def softmax(logits: FloatArray) -> FloatArray:
    """`(..., C)` shares of 1 along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def best_classes(scores: Array) -> tuple[IntArray, Array]:
    """Of `(N, C)` scores, `(N,)` the best class of each row and its score; as they are stored will do."""
    best: Array = np.maximum.reduce(scores, axis=1)
    return scores.argmax(axis=1).astype(np.int32), best
