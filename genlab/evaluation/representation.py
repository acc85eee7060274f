"""What a representation is good for: predicting labels from frozen codes."""

from typing import Any

import numpy as np

Number = dict[str, Any]


def probe(
    train_codes: np.ndarray, train_labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray, k: int = 5
) -> dict[str, Number]:
    """Accuracy on the test codes of a linear probe and of k nearest neighbours.

    Args:
        train_codes, test_codes: f32[N, D], f32[M, D]; both are standardised by the training codes' moments.
        train_labels, test_labels: i32[N], i32[M].
        k: of the neighbours, by Euclidean distance.

    Returns:
        `linear_probe_accuracy` (multinomial logistic regression, L2 penalty 1) and `knn_accuracy`, in [0, 1].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    centre, scale = train_codes.mean(axis=0), train_codes.std(axis=0) + 1e-8
    train, test = (train_codes - centre) / scale, (test_codes - centre) / scale
    protocol = {"split": "test", "n": len(test), "n_train": len(train)}
    linear = LogisticRegression(max_iter=1000).fit(train, train_labels)
    neighbours = KNeighborsClassifier(n_neighbors=k).fit(train, train_labels)
    return {
        "linear_probe_accuracy": {
            "value": float(linear.score(test, test_labels)),
            "estimator": "logistic regression on standardised codes",
            **protocol,
        },
        "knn_accuracy": {
            "value": float(neighbours.score(test, test_labels)),
            "estimator": "nearest neighbours",
            "k": k,
            **protocol,
        },
    }
