"""Splits: by share or by fold, stratified by class, groups kept together; decided by a seed, from scikit-learn."""

import warnings

import numpy as np

from jaxcnn.errors import UserError


def cut(labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices (sorted) of the larger and the smaller part, which has about `share` of the examples.

    Stratified by class where there is one label an image; of groups (N,), each lies whole on one side.
    """
    from sklearn.model_selection import train_test_split  # a second to import, and only used here

    if groups is not None:
        return fold(labels, 0, max(2, round(1 / share)), seed, groups)
    stratify = labels if labels.ndim == 1 else None
    try:
        larger, smaller = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise UserError(f"{share:g} of {len(labels)} examples can't be cut off: {error}") from error
    return np.sort(larger), np.sort(smaller)


def fold(
    labels: np.ndarray, which: int, folds: int, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all but fold `which` (from 0), and of that fold, of `folds`; stratified and grouped as in `cut`."""
    from sklearn import model_selection

    if labels.ndim == 2:
        kind = model_selection.KFold if groups is None else model_selection.GroupKFold
    else:
        kind = model_selection.StratifiedKFold if groups is None else model_selection.StratifiedGroupKFold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # "the least populated class has fewer members than folds"
            splitter = kind(folds, shuffle=True, random_state=seed)
            split = list(splitter.split(np.zeros(len(labels)), labels, groups))[which]
    except (ValueError, UserWarning) as error:
        raise UserError(f"{len(labels)} examples can't be cut into {folds} parts: {error}") from error
    return split[0], split[1]
