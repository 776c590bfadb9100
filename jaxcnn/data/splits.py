"""Splits: by share or by fold, stratified by class, groups kept together; decided by a seed, from scikit-learn."""

import math
import warnings

import numpy as np

from jaxcnn.errors import UserError


def cut(labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices (sorted) of the larger and the smaller part, which has about `share` of the examples.

    Stratified by class where there is one label an image; of groups (N,), each lies whole on one side.
    """
    if groups is not None:
        return fold(labels, 0, max(2, round(1 / share)), seed, groups)
    if labels.ndim == 1 and (parts := _stratified(labels, math.ceil(share * len(labels)), seed)):
        return parts
    from sklearn.model_selection import train_test_split  # takes 1.5 seconds to import

    stratify = labels if labels.ndim == 1 else None
    try:
        larger, smaller = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise UserError(f"{share:g} of {len(labels)} examples can't be cut off: {error}") from error
    return np.sort(larger), np.sort(smaller)


def _stratified(labels: np.ndarray, smaller: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What train_test_split(stratify=labels) draws, number for number, without the time that importing it takes.

    None where it has something to refuse: a class of one example, or a part with fewer examples than there are classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    larger = len(labels) - smaller
    if counts.min() < 2 or min(larger, smaller) < len(classes):
        return None
    generator = np.random.RandomState(seed)
    in_larger = _shares(counts, larger, generator)
    in_smaller = _shares(counts - in_larger, smaller, generator)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label, first, second in zip(classes, in_larger, in_smaller, strict=True):
        indices = generator.permutation(np.flatnonzero(labels == label))
        parts[0].append(indices[:first])
        parts[1].append(indices[first : first + second])
    return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))


def _shares(counts: np.ndarray, draws: int, generator: np.random.RandomState) -> np.ndarray:
    """How many of `draws` examples each class gives: in proportion, rounded down, and one more for the largest remainders.

    Among equal remainders chance decides.
    """
    exact = counts / counts.sum() * draws
    shares = np.floor(exact)
    remainders, missing = exact - shares, int(draws - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if not missing:
            break
        equal = np.flatnonzero(remainders == remainder)
        chosen = generator.choice(equal, size=min(len(equal), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return shares.astype(int)


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
