import numpy as np

from edge_agent.core.scores import best_classes, softmax


def test_a_softmax_shares_one_among_the_classes_of_each_row():
    shares = softmax(np.log(np.array([[1, 2, 1], [6, 1, 1]], np.float32)))
    np.testing.assert_allclose(shares, [[0.25, 0.5, 0.25], [0.75, 0.125, 0.125]], rtol=1e-6)


def test_a_softmax_of_huge_logits_is_finite():
    np.testing.assert_array_equal(softmax(np.array([1e38, -1e38], np.float32)), [1, 0])


def test_the_best_class_of_each_row_comes_with_its_score():
    classes, scores = best_classes(np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.6]], np.float32))
    assert (classes.tolist(), classes.dtype) == ([1, 0], np.int32)
    np.testing.assert_array_equal(scores, np.array([0.7, 0.6], np.float32))


def test_no_rows_have_no_best_class():
    classes, scores = best_classes(np.empty((0, 3), np.float32))
    assert len(classes) == len(scores) == 0
