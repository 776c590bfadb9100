"""Files of the Hugging Face hub."""

import logging
from pathlib import Path

from jaxcnn.errors import UserError, first_line


def fetch(source: str, repository: str, revision: str | None, file: str) -> Path:
    """A file of the hub. One that is in the cache is taken as it is; where the hub is out of reach that is known at once."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{source}: the library huggingface_hub is wanted: pip install 'jaxcnn[hub]'") from error
    for logger in ("huggingface_hub", "httpx2"):  # each try is a line of its own
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        pass
    except Exception as error:
        raise UserError(f"{source}: {first_line(error)[:300]}") from error
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=10)  # the download tries for long
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"{source}: {file} is not in the cache, and HF_HUB_OFFLINE is set") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(f"{source}: the hub has no such model or revision, or wants a login for it") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{source}: there is no {file} in it; models in timm's form are read") from error
    except Exception as error:  # what the network may raise has no base in common
        reason = first_line(error)[:200]
        raise UserError(f"{source}: {file} is not in the cache, and the hub can't be reached ({reason})") from error
