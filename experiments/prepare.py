"""Prepares a data set of TensorFlow Datasets for training: python experiments/prepare.py --dataset=mnist --data_dir=DIR

Downloads the data set once and writes it as array_record files, which needs TensorFlow (the extra "prepare"). Training then
reads it without TensorFlow: --config.data.name=tfds:mnist --config.data.root=DIR

Files in --manual_dir that have the names of the files to download are used instead of downloading them. TFDS verifies their
SHA-256. --trust_files accepts and prints other hashes, as of an archive with the same content that was packed again.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.files import user_path

_DATASET = flags.DEFINE_string("dataset", None, "the data set, NAME or NAME/CONFIG of the TFDS catalog")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared data sets; '' = ~/tensorflow_datasets")
_DOWNLOAD_DIR = flags.DEFINE_string("download_dir", "", "folder of downloaded files; '' = DATA_DIR/downloads")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "folder of files that were downloaded manually")
_TRUST = flags.DEFINE_bool("trust_files", False, "accept the files in --manual_dir whatever their hashes are")


def main(arguments: Sequence[str], config: Config | None) -> int:
    """Prepares the data set and prints its splits."""
    if config is not None or arguments:
        raise UserError("prepare.py accepts only flags: --dataset=NAME [--data_dir=DIR]")
    if not _DATASET.value:
        raise UserError("--dataset: expected the data set to prepare, for example --dataset=mnist")
    if _MANUAL_DIR.value and not user_path(_MANUAL_DIR.value).is_dir():
        raise UserError(f'--manual_dir: no folder "{_MANUAL_DIR.value}"')
    if _TRUST.value and not _MANUAL_DIR.value:
        raise UserError("--trust_files: requires --manual_dir=DIR, the folder of these files")
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "TensorFlow, which prepares data sets, is not installed; use a separate environment, as training does not need it: "
            'pip install -c constraints.txt -e ".[prepare]"'
        )
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, downloader

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs every attempt for every file
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    downloader.MAX_RETRIES = 4  # the default of 10 takes 200 s to report a missing network
    builder = _builder(tfds, _DATASET.value, _DATA_DIR.value)
    manual_dir = os.path.expanduser(_MANUAL_DIR.value) or None
    if _TRUST.value:
        _trust(builder, Path(str(manual_dir)))
    how = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=_DOWNLOAD_DIR.value or None, download_config=how)
    except download_manager.NonMatchingChecksumError as error:
        raise UserError(
            f"{str(error).splitlines()[0].rstrip(':')}: the file is damaged or was packed again; "
            "--trust_files accepts the files in --manual_dir with other hashes"
        ) from error
    except (requests.exceptions.RequestException, tfds.download.DownloadError) as error:
        raise UserError(
            f"{_DATASET.value}: can't be downloaded ({_one_line(error)}); put files that you already have into --manual_dir"
        ) from error
    except (AssertionError, ValueError, ImportError, OSError) as error:  # manual downloads, a missing package, a full disk
        raise UserError(f"{_DATASET.value}: {_one_line(error)}") from error
    for name, split in builder.info.splits.items():
        print(f"{name}: {split.num_examples:,} examples, {len(split.filepaths)} files")
    _save_labels(_DATASET.value, _DATA_DIR.value, builder.info.splits)
    root = f" --config.data.root={_DATA_DIR.value}" if _DATA_DIR.value else ""
    print(f"prepared in {os.fspath(builder.data_dir)}; train with --config.data.name=tfds:{_DATASET.value}{root}")
    return 0


def _builder(tfds: Any, name: str, data_dir: str) -> Any:
    try:
        return tfds.builder(name, data_dir=os.path.expanduser(data_dir) or None, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        near = did_you_mean(name.split("/")[0], tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--dataset: TFDS has no data set {name!r}{near}") from error
    except (ValueError, ImportError, AttributeError) as error:  # an unknown config, a missing package
        raise UserError(f"--dataset: {name}: {_one_line(error)}") from error


def _save_labels(name: str, data_dir: str, splits: Iterable[str]) -> None:
    """Reads the labels of all splits, which saves them next to the records, so that training need not read all records."""
    from jaxcnn.data.tfds import prepared  # it takes seconds to import

    try:
        for split in splits:
            prepared(name, data_dir, {"train": split})
    except UserError as error:
        print(f"the labels were not read: {error}")


def _trust(builder: Any, folder: Path) -> None:
    """Makes TFDS expect the hashes of the files in `folder`. Files that it downloads are still verified."""
    from tensorflow_datasets.core.download import checksums

    expected = builder.url_infos or {}
    for url, info in expected.items():
        path = folder / (info.filename or "")
        if path.is_file():
            found = checksums.compute_url_info(path)
            if found != info:
                print(f"{path}: accepted with SHA-256 {found.checksum}; {url} has {info.checksum}")
                expected[url] = found


def _one_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 500 else text[:500] + "…"


if __name__ == "__main__":
    command.run(main)
