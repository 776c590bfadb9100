"""Splits a training set, by share or by fold.

Examples with names (files, or groups of files) are split by a hash of the name, so that an example stays in its split when
others are added, removed or reordered. Examples without names are split by their index, as in scikit-learn.
"""

import hashlib
import math
import unicodedata
import warnings

import numpy as np

from jaxcnn.errors import UserError


def cut_by_name(labels: np.ndarray, share: float, salt: str, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted indices of the larger and the smaller part. An example is in the smaller part if its hash < `share`.

    The smaller part therefore has about `share` of the examples. Examples with the same name (a group) stay together. If
    the hashes alone leave a class without examples in the smaller part, the name with its smallest hash is moved there. The
    larger part keeps at least the two names with the largest hashes of each class, or one if the class has fewer than three
    names.

    Raises:
      UserError: all examples have the same name.
    """
    hashes, name_of = np.unique(_hashes(salt, names), return_inverse=True)
    classes = _names_of_classes(labels, name_of)
    in_smaller = hashes < share
    for members in [np.arange(len(hashes)), *classes]:
        if len(members) > 1 and not in_smaller[members].any():
            in_smaller[members[0]] = True
    for members in [*classes, np.arange(len(hashes))]:
        kept = max(1, min(2, len(members) - 1))
        if np.count_nonzero(~in_smaller[members]) < kept:
            in_smaller[members[-kept:]] = False
    if not in_smaller.any():
        raise UserError(f'data.group: all {len(labels):,} examples to split are in the group "{names[0]}"')
    return np.flatnonzero(~in_smaller[name_of]), np.flatnonzero(in_smaller[name_of])


def fold_by_name(labels: np.ndarray, which: int, folds: int, salt: str, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted indices of all folds but `which` (from 0), and of that fold. Folds are equal ranges of the hash.

    Each class is in all `folds` folds, or in as many as it has names: until that holds, the name with the smallest hash in
    its largest fold is moved to an empty one.

    Raises:
      UserError: the fold contains no examples, or all.
    """
    hashes, name_of = np.unique(_hashes(salt, names), return_inverse=True)
    fold_of = (hashes * folds).astype(int)
    for members in _names_of_classes(labels, name_of):
        while np.unique(fold_of[members]).size < min(folds, len(members)):
            counts = np.bincount(fold_of[members], minlength=folds)
            fold_of[members[fold_of[members] == counts.argmax()][0]] = counts.argmin()
    in_fold = (fold_of == which)[name_of]
    if in_fold.all() or not in_fold.any():
        raise UserError(f"data.fold: {len(hashes)} groups or images are too few for {folds} folds; use fewer folds")
    return np.flatnonzero(~in_fold), np.flatnonzero(in_fold)


def _names_of_classes(labels: np.ndarray, name_of: np.ndarray) -> list[np.ndarray]:
    """Returns the sorted indices of each class's names, from each example's name; [] if an image may have several labels."""
    return [np.unique(name_of[labels == label]) for label in np.unique(labels)] if labels.ndim == 1 else []


def _hashes(salt: str, names: np.ndarray) -> np.ndarray:
    """Returns a number in [0, 1) per name, (N,) float64: the first 52 bits of the SHA-256 of salt and name (NFC, UTF-8)."""

    def number(name: str) -> float:
        text = f"{salt}\0{unicodedata.normalize('NFC', name)}"
        return (int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") >> 12) / 2**52

    return np.array([number(name) for name in names])


def cut(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted indices of the larger part and of the smaller one, with about `share` of the examples.

    The result equals scikit-learn's train_test_split, stratified by class if each image has one label.
    """
    if labels.ndim == 1 and (parts := _stratified(labels, math.ceil(share * len(labels)), seed)):
        return parts
    from sklearn.model_selection import train_test_split  # takes 1.5 seconds to import

    stratify = labels if labels.ndim == 1 else None
    try:
        larger, smaller = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise UserError(f"cannot split off {share:g} of {len(labels)} examples: {error}") from error
    return np.sort(larger), np.sort(smaller)


def _stratified(labels: np.ndarray, smaller: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns exactly what train_test_split(stratify=labels) draws, without the time that importing it takes.

    Returns None if train_test_split would raise: for a class with one example, or a part with fewer examples than classes.
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
    """Returns how many of `draws` examples each class contributes: its proportion rounded down, plus 1 for large remainders.

    Among equal remainders the choice is random.
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


def fold(labels: np.ndarray, which: int, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of all `folds` folds but `which` (from 0), and of that fold; stratified like `cut`."""
    from sklearn import model_selection

    kind = model_selection.KFold if labels.ndim == 2 else model_selection.StratifiedKFold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # "the least populated class has fewer members than folds"
            splitter = kind(folds, shuffle=True, random_state=seed)
            split = list(splitter.split(np.zeros(len(labels)), labels))[which]
    except (ValueError, UserWarning) as error:
        raise UserError(f"cannot split {len(labels)} examples into {folds} folds: {error}") from error
    return split[0], split[1]
