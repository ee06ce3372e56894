"""Get a weights file: from the cache, else from the Hugging Face Hub or a web address, else say what to do."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jepascore_core.allowed import owner_only
from jepascore_core.encoders.messages import reason
from jepascore_core.errors import EncoderError

CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where the weights of an encoder are published.

    Attributes:
        encoder_id: Encoder that they belong to.
        repo: Repository on the Hugging Face Hub, with ``@revision`` when one is pinned, or None.
        filenames: Names to try there, the safest format first.
        url: Web address of the file, used when there is no repository.
    """

    encoder_id: str
    repo: str | None = None
    filenames: tuple[str, ...] = ()
    url: str | None = None


def fetch(source: WeightsSource) -> Path:
    """Find the weights on this machine, or download them.

    A cached file is used without asking the network. A network that cannot be reached is noticed in
    seconds: the Hub's own client would retry for half a minute for each file name.

    Args:
        source: Where they are published.

    Returns:
        Path of the file.

    Raises:
        EncoderError: They are not published, out of reach, gated or missing; says what to do.
        RunError: They would have to be downloaded, and this is a read-only dashboard.
    """
    if source.repo:
        return _fetch_from_hub(source)
    if source.url:
        return _fetch_from_url(source)
    raise EncoderError(
        f"There are no public weights for {source.encoder_id}; name your own with "
        f"file:<path>@{source.encoder_id}, or ask for random weights with pretrained=False."
    )


def _fetch_from_hub(source: WeightsSource) -> Path:
    """Find or download the first of the file names that the repository has."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError
    from huggingface_hub.errors import RepositoryNotFoundError as NoRepository

    repo, revision = _repo_and_revision(source)
    for filename in source.filenames:
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    owner_only("download weights")
    if not reachable(_hub_url(source)):
        raise _out_of_reach(source)
    for filename in source.filenames:
        try:
            return Path(hf_hub_download(repo, filename, revision=revision))
        except GatedRepoError as error:
            raise EncoderError(
                f"The weights of {source.encoder_id} are gated: accept their licence at https://huggingface.co/{repo}, "
                f"log in with `hf auth login` (or set HF_TOKEN), and try again."
            ) from error
        except LocalEntryNotFoundError as error:  # the Hub answered us, but not its client
            raise _broken_off(source, error.__cause__ or error) from error
        except EntryNotFoundError:
            continue
        except NoRepository as error:
            raise EncoderError(
                f"The repository {repo} with the weights of {source.encoder_id} is not there or is private; "
                f"if it is yours, log in with `hf auth login` (or set HF_TOKEN)."
            ) from error
        except OSError as error:
            raise _broken_off(source, error) from error
    raise EncoderError(f"The repository {repo} has no {' or '.join(source.filenames)} for {source.encoder_id}.")


def _fetch_from_url(source: WeightsSource) -> Path:
    """Find or download a file that has a plain web address, in torch's own cache."""
    import torch

    url = source.url or ""
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if target.exists():
        return target
    owner_only("download weights")
    if not reachable(url):
        raise _out_of_reach(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target))
    except OSError as error:
        raise _broken_off(source, error) from error
    return target


def reachable(url: str) -> bool:
    """Ask once, briefly, whether anything answers at a web address; any answer will do.

    Args:
        url: Web address.

    Returns:
        False when the network or the host is out of reach, or the Hub was set offline.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    opener = urllib.request.build_opener()  # honours the proxy variables as they are now
    try:
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _repo_and_revision(source: WeightsSource) -> tuple[str, str | None]:
    """Split ``owner/name@revision``."""
    repo, _, revision = (source.repo or "").partition("@")
    return repo, revision or None


def _hub_url(source: WeightsSource) -> str:
    """Web address of the preferred file of a repository."""
    from huggingface_hub import hf_hub_url

    repo, revision = _repo_and_revision(source)
    return hf_hub_url(repo, source.filenames[0], revision=revision)


def _out_of_reach(source: WeightsSource) -> EncoderError:
    """Say which file to fetch elsewhere, where to put it, and how to name it then."""
    url = _hub_url(source) if source.repo else source.url or ""
    what = f"{source.repo}/{source.filenames[0]} ({url})" if source.repo else url
    name = source.encoder_id.partition(":")[2].replace("/", ".") + "".join(Path(urlsplit(url).path).suffixes[-1:])
    path = f"~/.jepascore/weights/{name}"
    return EncoderError(
        f"The weights of {source.encoder_id} are not on this machine and {urlsplit(url).hostname} cannot be reached: "
        f"download {what} where there is a network, save it here as {path}, "
        f"and name the encoder file:{path}@{source.encoder_id}"
    )


def _broken_off(source: WeightsSource, error: BaseException) -> EncoderError:
    """Say that a download began and failed."""
    return EncoderError(f"Downloading the weights of {source.encoder_id} failed ({reason(error)}); try again.")
