"""Downloads files from the Hugging Face hub."""

import logging
from pathlib import Path

from jaxcnn.errors import UserError, first_line


def fetch(source: str, repository: str, revision: str | None, file: str) -> Path:
    """Returns the local path of a hub file, from the cache or downloaded. Raises UserError if it is not available."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{source}: the hub needs the library huggingface_hub: pip install 'jaxcnn[hub]'") from error
    for logger in ("huggingface_hub", "httpx2"):  # otherwise every retry prints a line
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        pass
    except Exception as error:
        raise UserError(f"{source}: {first_line(error)[:300]}") from error
    try:
        # If the hub cannot be reached, this fails soon; the download itself would retry for a long time.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=10)
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"{source}: {file} is not in the cache, and HF_HUB_OFFLINE is set") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(f"{source}: the hub has no such model or revision, or it requires a login") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{source}: it has no {file}; only models in timm's format can be loaded") from error
    except Exception as error:  # network errors have no common base class
        reason = first_line(error)[:200]
        raise UserError(f"{source}: {file} is not in the cache, and the hub can't be reached ({reason})") from error
